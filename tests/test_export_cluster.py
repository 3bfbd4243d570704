"""`tuner export --format service` and `--format validating-policy`: what a cluster needs to ask at admission."""

import base64
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from fake_environment import MODELS, Answer, tuner
from live_service import live_service
from manifest_schemas import MINORS, core_complaints
from service_bench import READER, WRITER

from tuner.exports.choices import ClusterFormat
from tuner.manifests.managed import COMPONENT, DECISION, LABEL, SKIP_REASON

IMAGE = "registry:5000/tuner:1"
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "export.md"


def exported(*options: object, code: int = 0) -> Answer:
    """What the command answers."""
    return tuner("export", *options, code=code)


def service(*options: object) -> list[dict[str, Any]]:
    """The documents of the service."""
    return list(yaml.safe_load_all(exported("--format", "service", "--image", IMAGE, *options).out))


def policy() -> list[dict[str, Any]]:
    """The documents of the policy."""
    return list(yaml.safe_load_all(exported("--format", "validating-policy").out))


def the(kind: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The only document of a kind."""
    (document,) = [document for document in documents if document["kind"] == kind]
    return document


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """The authority of `tuner service certificate`, for this machine."""
    tuner("service", "certificate", tmp_path / "tls", "--name", "127.0.0.1", code=0)
    return tmp_path / "tls" / "ca.crt"


@pytest.mark.parametrize("minor", MINORS)
def test_the_manifests_are_what_their_schemas_allow(minor: str, authority: Path) -> None:
    """In every minor release, strictly; the two kinds of cert-manager are its own."""
    documents = [*service("--ca-bundle", authority), *service("--name", "a", "--namespace", "b"), *policy()]
    of_kubernetes = [document for document in documents if "cert-manager.io" not in document["apiVersion"]]
    assert len(documents) - len(of_kubernetes) == 2
    assert [text for document in of_kubernetes for text in core_complaints(document, minor)] == []


def test_strict_schemas_find_a_misspelt_key_of_a_webhook() -> None:
    """So that the test above can fail."""
    webhooks = the("MutatingWebhookConfiguration", service())
    webhooks["webhooks"][0]["timeOutSeconds"] = webhooks["webhooks"][0].pop("timeoutSeconds")
    assert core_complaints(webhooks, MINORS[0])


def test_the_webhooks_have_the_values_that_schemas_do_not_check() -> None:
    """A pod without an answer starts if it is managed, and does not if it requires one; the cluster is not held up."""
    managed, required = the("MutatingWebhookConfiguration", service())["webhooks"]
    assert (managed["failurePolicy"], required["failurePolicy"]) == ("Ignore", "Fail")
    assert (managed["objectSelector"]["matchLabels"], required["objectSelector"]["matchLabels"]) == (
        {LABEL: "managed"},
        {LABEL: "required"},
    )
    assert managed["name"] != required["name"]
    for webhook in (managed, required):
        assert len(webhook["name"].split(".")) >= 3
        assert (webhook["timeoutSeconds"], webhook["sideEffects"]) == (2, "None")
        assert (webhook["reinvocationPolicy"], webhook["matchPolicy"]) == ("IfNeeded", "Equivalent")
        assert webhook["admissionReviewVersions"] == ["v1"]
        assert webhook["objectSelector"]["matchExpressions"] == [{"key": COMPONENT, "operator": "DoesNotExist"}]
        (namespace,) = webhook["namespaceSelector"]["matchExpressions"]
        assert (namespace["key"], namespace["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
        assert namespace["values"] == ["vllm-moe-tuner"]
        assert webhook["rules"] == [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }
        ]
        assert webhook["clientConfig"]["service"]["path"] == "/v1/admission"


def test_the_parts_fit_each_other() -> None:
    """The webhooks reach the Service, this one the pods, and these have what they mount; own names are used."""
    documents = service("--name", "tuner", "--namespace", "ml")
    webhook = the("MutatingWebhookConfiguration", documents)["webhooks"][0]
    front, deployment = the("Service", documents), the("Deployment", documents)
    asked = webhook["clientConfig"]["service"]
    assert (asked["name"], asked["namespace"]) == (front["metadata"]["name"], front["metadata"]["namespace"])
    (port,) = front["spec"]["ports"]
    assert asked["port"] == port["port"]
    template = deployment["spec"]["template"]
    labels, (container,) = template["metadata"]["labels"], template["spec"]["containers"]
    for selector in (front["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    assert the("NetworkPolicy", documents)["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert labels[COMPONENT] == "service"
    assert port["targetPort"] == container["ports"][0]["containerPort"]
    assert {probe["httpGet"]["port"] for name, probe in container.items() if name.endswith("Probe")} == {8707}
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert (
        volumes["data"]["persistentVolumeClaim"]["claimName"]
        == the("PersistentVolumeClaim", documents)["metadata"]["name"]
    )
    certificate = the("Certificate", documents)
    assert certificate["spec"]["secretName"] == volumes["tls"]["secret"]["secretName"]
    assert certificate["spec"]["dnsNames"][0] == "tuner.ml.svc" == option(container, "--name")
    assert certificate["spec"]["issuerRef"]["name"] == the("Issuer", documents)["metadata"]["name"]
    inject = the("MutatingWebhookConfiguration", documents)["metadata"]["annotations"]
    assert inject == {"cert-manager.io/inject-ca-from": f"ml/{certificate['metadata']['name']}"}
    placed = [
        document for document in documents if document["kind"] not in {"Namespace", "MutatingWebhookConfiguration"}
    ]
    assert {document["metadata"]["namespace"] for document in placed} == {"ml"}


def option(container: dict[str, Any], name: str) -> str:
    """The value of an option of a container."""
    text: str = container["args"][container["args"].index(name) + 1]
    return text


def test_the_pod_is_restricted() -> None:
    """As the restricted profile of Kubernetes' pod security standards asks, which its namespace enforces."""
    documents = service()
    labels = the("Namespace", documents)["metadata"]["labels"]
    assert labels == {"pod-security.kubernetes.io/enforce": "restricted"}
    pod = the("Deployment", documents)["spec"]["template"]["spec"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers"} & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPort" in port for port in container["ports"])
    assert pod["automountServiceAccountToken"] is False
    policy = the("NetworkPolicy", documents)["spec"]
    assert "Egress" in policy["policyTypes"]
    assert "egress" not in policy, "an API server drops an empty list, so each apply would see a change"


def test_a_bundle_holds_certificates_alone(authority: Path) -> None:
    """The authority is in the webhooks, without its key if that stands in the file; nothing of cert-manager is left."""
    both = authority.with_name("both.pem")
    both.write_bytes(authority.with_name("ca.key").read_bytes() + authority.read_bytes())
    for file in (authority, both):
        documents = service("--ca-bundle", file)
        webhooks = the("MutatingWebhookConfiguration", documents)
        bundles = {webhook["clientConfig"]["caBundle"] for webhook in webhooks["webhooks"]}
        assert [base64.b64decode(text).strip() for text in bundles] == [authority.read_bytes().strip()]
        assert "annotations" not in webhooks["metadata"]
        assert not any("cert-manager" in document["apiVersion"] for document in documents)


def test_the_exported_command_serves(authority: Path, store: Path, tmp_path: Path) -> None:
    """The container's arguments start a service, with its files elsewhere, and it answers at the webhooks' path."""
    documents = service("--ca-bundle", authority)
    (container,) = the("Deployment", documents)["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["tuner", "service", "run"]
    for name, token in (("read", READER), ("write", WRITER)):
        (tmp_path / name).write_text(f"{token}\n", encoding="utf-8")
    places = {"/data/verdicts.sqlite": store, "/models": MODELS, "0.0.0.0": "127.0.0.1"}  # noqa: S104
    places |= {f"/tls/{name}": authority.with_name(name) for name in ("tls.crt", "tls.key")}
    places |= {f"/tokens/{name}": tmp_path / name for name in ("read", "write")}
    words = [places.get(word, word) for word in container["args"]]
    at = words.index("--port")
    webhook = the("MutatingWebhookConfiguration", documents)["webhooks"][0]
    review = {"uid": "u", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "operation": "CREATE", "object": {}}
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": review})
    with live_service(tmp_path, *words[:at], *words[at + 2 :], certificate=authority) as live:
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert live.get(container[name]["httpGet"]["path"])[0] == 200
        with closing(live.connection()) as connection:
            limit = f"timeout={webhook['timeoutSeconds']}s"  # as an API server asks
            connection.request("POST", f"{webhook['clientConfig']['service']['path']}?{limit}", body)
            answer = connection.getresponse()
            assert (answer.status, json.loads(answer.read())["response"]["allowed"]) == (200, True)


ANNOTATED: dict[str, tuple[Any, bool]] = {
    "without annotations": (None, False),
    "with none": ({}, False),
    "with others": ({"team": "a"}, False),
    "decided": ({DECISION: "x"}, True),
    "left alone": ({SKIP_REASON: "x", "team": "a"}, True),
}


@pytest.mark.parametrize("name", ANNOTATED)
def test_the_policy_takes_pods_that_the_service_saw(name: str) -> None:
    """The expression is evaluated as an API server does."""
    annotations, taken = ANNOTATED[name]
    metadata = {"name": "p"} if annotations is None else {"name": "p", "annotations": annotations}
    (validation,) = the("ValidatingAdmissionPolicy", policy())["spec"]["validations"]
    assert cel.evaluate(validation["expression"], {"object": {"metadata": metadata}}) is taken


def test_the_policy_refuses_what_requires_an_answer_and_warns_of_the_rest() -> None:
    """It sees labelled pods alone, and never the service's own."""
    documents = policy()
    spec = the("ValidatingAdmissionPolicy", documents)["spec"]
    assert spec["failurePolicy"] == "Fail"
    label, own = spec["matchConstraints"]["objectSelector"]["matchExpressions"]
    assert (label["key"], label["operator"], label["values"]) == (LABEL, "In", ["managed", "required"])
    assert own == {"key": COMPONENT, "operator": "DoesNotExist"}
    assert spec["validations"][0]["reason"] in {"Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge"}
    bindings = [document["spec"] for document in documents if document["kind"].endswith("Binding")]
    assert {binding["policyName"] for binding in bindings} == {documents[0]["metadata"]["name"]}
    actions = {
        binding["matchResources"]["objectSelector"]["matchLabels"][LABEL]: binding["validationActions"]
        for binding in bindings
    }
    assert actions == {"required": ["Deny"], "managed": ["Warn", "Audit"]}


WRONG: dict[str, tuple[str, list[str]]] = {
    "no image": ("--image", ["--format", "service"]),
    "no tag": ("names no tag", ["--format", "service", "--image", "tuner"]),
    "a model": ("no use for a model", ["m", "--format", "service", "--image", IMAGE]),
    "a launch's option": ("no use for a model", ["--format", "service", "--image", IMAGE, "--nodes", "2"]),
    "a name": ("not a name for", ["--format", "service", "--image", IMAGE, "--name", "A"]),
    "a namespace": ("not a name of a namespace", ["--format", "service", "--image", IMAGE, "--namespace", "a.b"]),
    "no bundle": ("cannot be read", ["--format", "service", "--image", IMAGE, "--ca-bundle", "/nowhere"]),
    "no certificate": ("no certificate", ["--format", "service", "--image", IMAGE, "--ca-bundle", __file__]),
    "an image of a policy": ("no use for --image", ["--format", "validating-policy", "--image", IMAGE]),
    "no model": ("needs a model", ["--format", "deployment"]),
    "a namespace of a launch": ("no use for --namespace", ["m", "--format", "deployment", "--namespace", "a"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name: str) -> None:
    """With a usage error, and nothing on stdout."""
    text, options = WRONG[name]
    answer = exported(*options, code=2)
    assert text in answer.err
    assert answer.out == ""


def test_both_formats_are_explained_and_listed() -> None:
    """In the reference and in the help."""
    page, out = PAGE.read_text(encoding="utf-8"), "".join(exported("--help").out.split())
    assert [form for form in ClusterFormat if f"`{form}`" not in page] == []
    assert f"WithoutMODEL:sweep-job,{','.join(ClusterFormat)}." in out


def test_an_export_is_the_same_every_time() -> None:
    """Nothing of this machine, and no clock."""
    text = exported("--format", "service", "--image", IMAGE).out
    assert text == exported("--format", "service", "--image", IMAGE).out
    assert not re.search(r"20\d\d-", text)
