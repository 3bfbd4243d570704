"""What a cluster needs to ask the service at admission: the service itself, and a policy. Pure; no plan is needed."""

import base64
import re
from dataclasses import dataclass
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.exports.choices import ClusterChoices, ClusterFormat
from tuner.exports.server import checked_name, pinned_image
from tuner.manifests.managed import COMPONENT, HANDLED, LABEL, MANAGED, REQUIRED

NAME = "vllm-moe-tuner"
"""Of the objects and of the namespace, unless others are chosen."""
PORT, HTTPS = 8707, 443
TIMEOUT_S = 2
"""Seconds that an API server waits; several webhooks' limits add up (kubernetes/kubernetes 128162)."""
USER = 65532
FILES_OF_GROUP = 0o440
_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[\sA-Za-z0-9+/=]+-----END CERTIFICATE-----")
_NOT_OURS = {"key": COMPONENT, "operator": "DoesNotExist"}
MAX_BUNDLE = 2**16
"""Bytes of the authorities' certificates."""


@dataclass(frozen=True)
class _Names:
    """Names of one service's objects."""

    name: str
    namespace: str

    @property
    def host(self) -> str:
        """The DNS name by which an API server asks."""
        return f"{self.name}.{self.namespace}.svc"

    @property
    def tls(self) -> str:
        """The Secret with certificate and key."""
        return f"{self.name}-tls"

    @property
    def tokens(self) -> str:
        """The Secret with the tokens."""
        return f"{self.name}-tokens"

    @property
    def settings(self) -> str:
        """The ConfigMap with `tuner.toml` and the environments that it names."""
        return f"{self.name}-settings"

    @property
    def data(self) -> str:
        """The claim with the store and the models' configurations."""
        return f"{self.name}-data"

    def metadata(self, name: str | None = None) -> dict[str, Any]:
        """Of an object in the namespace."""
        return {"name": name or self.name, "namespace": self.namespace, "labels": self.labels}

    @property
    def labels(self) -> dict[str, str]:
        """Of every object, and of the service's pods."""
        return {"app.kubernetes.io/name": self.name, COMPONENT: "service"}


def cluster_text(form: ClusterFormat, choices: ClusterChoices) -> str:
    """The manifests of a format.

    Raises:
        TunerError: a choice is missing, or cannot be used.
    """
    from tuner.yaml_text import dump_documents  # noqa: PLC0415  PyYAML is slow to import

    if form is ClusterFormat.VALIDATING_POLICY:
        if choices.image or choices.namespace or choices.ca_bundle:
            raise _usage("The format validating-policy has no use for --image, --namespace and --ca-bundle.", "")
        return dump_documents(_policy(checked_name(choices.name) if choices.name else NAME))
    if choices.image is None:
        hint = "Name one that holds `vllm-moe-tuner[service]` with --image IMAGE:TAG."
        raise _usage("No published image holds the tuner.", hint)
    names = _Names(checked_name(choices.name) if choices.name else NAME, _namespace(choices.namespace or NAME))
    notes = _head(names, with_manager=choices.ca_bundle is None)
    return notes + dump_documents(list(_service(names, pinned_image(choices.image), _bundle(choices.ca_bundle))))


def _usage(message: str, hint: str) -> TunerError:
    return TunerError(message, hint=hint, kind=ErrorKind.USAGE)


def _namespace(name: str) -> str:
    if not _NAMESPACE.fullmatch(name):
        raise _usage(f"{name!r:.80} is not a name of a namespace.", "Use at most 63 small letters, digits and dashes.")
    return name


def _bundle(pem: bytes | None) -> str | None:
    """The certificates of a bundle in base64; keys and other text of the file stay behind.

    Raises:
        TunerError: it holds no certificate.
    """
    if pem is None:
        return None
    certificates = _CERTIFICATE.findall(pem)
    if not certificates:
        raise _usage("The file for --ca-bundle holds no certificate in PEM form.", "Name ca.crt of the authority.")
    return base64.b64encode(b"\n".join([*certificates, b""])).decode()


def _head(names: _Names, *, with_manager: bool) -> str:
    """What is to be done beside applying the file, as comments."""
    lines = [
        f"Before: a Secret {names.tokens} in namespace {names.namespace} with the files `read` and `write`, tokens of",
        "those who may read, and of those who may send verdicts, one of 20 characters or more on a line.",
    ]
    if with_manager:
        lines.append("cert-manager makes the certificate; without it, give --ca-bundle.")
    else:
        lines.append(f"And a Secret {names.tls} of type kubernetes.io/tls, of `tuner service certificate` for the name")
        lines.append(f"{names.host}.")
    lines += [
        f"Models are known by the folders ORG--NAME below /models of the pod, on the claim {names.data}.",
        f"Environments of images: a ConfigMap {names.settings} with `tuner.toml` and the files that it names.",
        f"Pods ask with the label {LABEL}: {MANAGED}, or {REQUIRED} not to start without an answer.",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _service(names: _Names, image: str, bundle: str | None) -> list[dict[str, Any]]:
    return [
        _namespace_object(names),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": names.metadata()}
        | {"automountServiceAccountToken": False},
        _claim(names),
        _deployment(names, image),
        _front(names),
        _network(names),
        *(_managed_certificate(names) if bundle is None else []),
        _webhooks(names, bundle),
    ]


def _namespace_object(names: _Names) -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.namespace, "labels": labels}}


def _claim(names: _Names) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": names.metadata(names.data),
        "spec": spec,
    }


def _deployment(names: _Names, image: str) -> dict[str, Any]:
    """One pod: the store has one writer, and its claim one node."""
    selector = {"app.kubernetes.io/name": names.name}
    pod = {
        "serviceAccountName": names.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(names, image)],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": names.data}},
            {"name": "tls", "secret": {"secretName": names.tls, "defaultMode": FILES_OF_GROUP}},
            {"name": "tokens", "secret": {"secretName": names.tokens, "defaultMode": FILES_OF_GROUP}},
            {"name": "settings", "configMap": {"name": names.settings, "optional": True}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    spec = {
        "replicas": 1,
        "strategy": {"type": "Recreate"},
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": names.labels}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": names.metadata(), "spec": spec}


def _container(names: _Names, image: str) -> dict[str, Any]:
    options = {
        "--host": "0.0.0.0",  # noqa: S104  of the pod; it has a certificate
        "--port": str(PORT),
        "--store": "/data/verdicts.sqlite",
        "--configs": "/models",
        "--certificate": "/tls/tls.crt",
        "--key": "/tls/tls.key",
        "--name": names.host,
        "--read-tokens": "/tokens/read",
        "--write-tokens": "/tokens/write",
    }
    return {
        "name": "service",
        "image": image,
        "command": ["tuner", "service", "run"],
        "args": [word for option in options.items() for word in option],
        "workingDir": "/settings",
        "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108  in the container
        "ports": [{"name": "https", "containerPort": PORT, "protocol": "TCP"}],
        "startupProbe": {**_probe("/healthz"), "periodSeconds": 2, "failureThreshold": 60},
        "livenessProbe": {**_probe("/healthz"), "periodSeconds": 10, "timeoutSeconds": 5},
        "readinessProbe": {**_probe("/readyz"), "periodSeconds": 5, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/data", "subPath": "store"},
            {"name": "data", "mountPath": "/models", "subPath": "models"},
            {"name": "tls", "mountPath": "/tls", "readOnly": True},
            {"name": "tokens", "mountPath": "/tokens", "readOnly": True},
            {"name": "settings", "mountPath": "/settings", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108  in the container
        ],
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PORT, "scheme": "HTTPS"}}


def _front(names: _Names) -> dict[str, Any]:
    """The Service."""
    ports = [{"name": "https", "port": HTTPS, "targetPort": PORT, "protocol": "TCP"}]
    spec = {"selector": {"app.kubernetes.io/name": names.name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": names.metadata(), "spec": spec}


def _network(names: _Names) -> dict[str, Any]:
    """Everybody may ask at one port, because the addresses of API servers are not known; nothing goes out."""
    spec = {
        "podSelector": {"matchLabels": {"app.kubernetes.io/name": names.name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"ports": [{"port": PORT, "protocol": "TCP"}]}],
        # `egress` without an entry means the same, and an API server drops it: each `kubectl apply` would see a change.
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": names.metadata(), "spec": spec}


def _managed_certificate(names: _Names) -> list[dict[str, Any]]:
    """What cert-manager makes the certificate of; it puts its authority into the webhooks."""
    api = "cert-manager.io/v1"
    issuer = {"apiVersion": api, "kind": "Issuer", "metadata": names.metadata(), "spec": {"selfSigned": {}}}
    spec = {
        "secretName": names.tls,
        "dnsNames": [names.host, f"{names.host}.cluster.local"],
        "duration": "2160h",
        "renewBefore": "720h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["digital signature", "server auth"],
        "issuerRef": {"group": "cert-manager.io", "kind": "Issuer", "name": names.name},
    }
    return [issuer, {"apiVersion": api, "kind": "Certificate", "metadata": names.metadata(), "spec": spec}]


def _webhooks(names: _Names, bundle: str | None) -> dict[str, Any]:
    """Two entries: pods that are managed start without an answer, and those that require one do not."""
    inject = {"cert-manager.io/inject-ca-from": f"{names.namespace}/{names.name}"}
    metadata = {"name": names.name, "labels": names.labels, **({} if bundle else {"annotations": inject})}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": metadata,
        "webhooks": [
            _webhook(names, bundle, MANAGED, "Ignore"),
            _webhook(names, bundle, REQUIRED, "Fail"),
        ],
    }


def _webhook(names: _Names, bundle: str | None, value: str, failure_policy: str) -> dict[str, Any]:
    service = {"name": names.name, "namespace": names.namespace, "path": "/v1/admission", "port": HTTPS}
    not_ours = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [names.namespace]}
    return {
        "name": f"{value}.{names.name}.{names.namespace}.svc",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_S,
        "failurePolicy": failure_policy,
        "reinvocationPolicy": "IfNeeded",
        "matchPolicy": "Equivalent",
        "clientConfig": {"service": service, **({"caBundle": bundle} if bundle else {})},
        "rules": [_pods_created()],
        "namespaceSelector": {"matchExpressions": [not_ours]},
        "objectSelector": {
            "matchLabels": {LABEL: value},
            "matchExpressions": [_NOT_OURS],
        },
    }


def _pods_created() -> dict[str, Any]:
    return {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
        "scope": "Namespaced",
    }


def _policy(name: str) -> list[dict[str, Any]]:
    """A policy and two bindings: a pod that requires an answer is refused without one, a managed one is warned of."""
    api = "admissionregistration.k8s.io/v1"
    admitted = " || ".join(f"'{annotation}' in object.metadata.annotations" for annotation in HANDLED)
    managed = {"key": LABEL, "operator": "In", "values": [MANAGED, REQUIRED]}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "resourceRules": [_pods_created()],
            "objectSelector": {"matchExpressions": [managed, _NOT_OURS]},
        },
        "validations": [
            {
                "expression": f"has(object.metadata.annotations) && ({admitted})",
                "message": f"The pod has the label {LABEL}, and the service did not answer for it. "
                "See that it runs, or take the label away.",
                "reason": "Forbidden",
            }
        ],
    }
    policy = {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": spec}
    bindings = []
    for value, actions in ((REQUIRED, ["Deny"]), (MANAGED, ["Warn", "Audit"])):
        chosen = {"objectSelector": {"matchLabels": {LABEL: value}}}
        bindings.append(
            {
                "apiVersion": api,
                "kind": "ValidatingAdmissionPolicyBinding",
                "metadata": {"name": f"{name}-{value}"},
                "spec": {"policyName": name, "validationActions": actions, "matchResources": chosen},
            }
        )
    return [policy, *bindings]
