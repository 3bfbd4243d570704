"""The parts of a pod that serves: container, probe, devices, cache volume. Pure."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuner.exports.server import Server
from tuner.launch.cache_root import CACHE_ROOT
from tuner.launch.startup_budget import PERIOD_S

CACHE_VOLUME = "vllm-compile-cache"
CACHE_SIZE = "20Gi"
HOME = "/home/user"
"""A folder of the pod's own: weights from the hub and whatever vLLM, triton and FlashInfer write lie below it."""
USER = 1000
"""Whom the server runs as; no image of vLLM's requires root."""
USER_NAME = "vllm"
"""Torch asks for the name of a user whom the image does not list."""
SHARED_MEMORY = "8Gi"
"""Room for what ranks exchange. It counts as memory of the pod as far as it is used."""
GRACE_S = 120
"""Seconds in which a server that is stopped answers what it has begun."""
REQUESTS = {"cpu": "4", "memory": "16Gi"}
"""What a scheduler sets aside beside the devices; every head of a file says that these are not measured values."""


def escaped(text: str) -> str:
    """Text for `command`, `args` or an `env` value: Kubernetes expands `$(NAME)` there, and `$$` is one `$`."""
    return text.replace("$", "$$")


def container(server: Server, name: str, image: str) -> dict[str, Any]:
    """The whole container.

    The command is stated: images differ in their entrypoint (vLLM's own was `python3 -m …` before 0.11).
    """
    return {
        "name": name,
        "image": image,
        **launch(server),
        **own_variables(server),
        "ports": [{"name": "http", "containerPort": server.port, "protocol": "TCP"}],
        **resources(server, server.devices, REQUESTS),
        "securityContext": CONTAINER_SECURITY,
        "startupProbe": startup_probe(server),
        "readinessProbe": {**health(server), "periodSeconds": 10, "timeoutSeconds": 5},
        # It asks only once the startup probe has succeeded, and kills after five minutes without an answer.
        "livenessProbe": {**health(server), "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 10},
        **mounts(server, shared_memory=server.devices > 1, home=True),
    }


CONTAINER_SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD_SECURITY = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Both as the profile `restricted` of Kubernetes asks for."""


def pod(server: Server, containers: list[dict[str, Any]], *, shared_memory: bool) -> dict[str, Any]:
    """The spec of a pod that serves, or that warms for one."""
    return {
        # A Service named vllm-… would put VLLM_… variables into the server, which reads VLLM_PORT as a number.
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": POD_SECURITY,
        "containers": containers,
        **volumes(server, shared_memory=shared_memory, home=True),
    }


def _below_home(path: str | None) -> str | None:
    """A path with the home of our pods for its tilde; a container's variable is no shell word."""
    return f"{HOME}{path[1:]}" if path and path.startswith("~/") else path


def home_note(server: Server) -> list[str]:
    """The note on a tilde in a container whose home is not known here (vllm/envs.py, 0.16.0 to 0.32.0)."""
    note = f"vLLM itself reads the ~ of {CACHE_ROOT} as its home; --cache-root DIR writes a path without one"
    return [note] if (server.cache_value or "").startswith("~") else []


def own_variables(server: Server) -> dict[str, Any]:
    """`env` of a container that is wholly ours: a home, and the hub's token if its Secret is there."""
    at_home = replace(server, cache_value=_below_home(server.cache_value))
    named: list[dict[str, Any]] = variables(at_home, USER=USER_NAME, HOME=HOME)["env"]
    if server.model.startswith("/"):
        return {"env": named}
    secret = {"name": hub_secret(server), "key": "token", "optional": True}
    return {"env": [*named, {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": secret}}]}


def hub_secret(server: Server) -> str:
    """Name of the Secret that may hold the hub's token."""
    return f"{server.name}-hub"


def pod_notes(server: Server) -> list[str]:
    """What to know of a pod that is wholly ours."""
    notes = [f"requests of {REQUESTS['cpu']} CPUs and {REQUESTS['memory']} are not measured: set the model's own"]
    if server.model.startswith("/"):
        return notes
    notes.append(f"a Secret {hub_secret(server)} with the key `token` gives the hub's token; it may be missing")
    if server.weights_claim is None:
        notes.append("each new pod fetches the weights anew; --weights-claim names a claim that keeps them")
    return notes


def launch(server: Server) -> dict[str, Any]:
    """Command, arguments and variables."""
    return {"command": ["vllm", "serve"], "args": [escaped(argument) for argument in server.args], **variables(server)}


def variables(server: Server, **more: str) -> dict[str, Any]:
    """`env` with the given variables, and with the cache root if it is set; empty without variables."""
    values = {**more, **({CACHE_ROOT: server.cache_value} if server.cache_value else {})}
    named = [{"name": name, "value": escaped(value)} for name, value in values.items()]
    return {"env": named} if named else {}


def resources(server: Server, devices: int, requests: Mapping[str, str] | None = None) -> dict[str, Any]:
    """`resources` with these requests, and with the devices if the platform has a known device plugin."""
    asked = {"requests": dict(requests)} if requests else {}
    limits = {"limits": {server.resource: str(devices)}} if server.resource else {}
    return {"resources": {**asked, **limits}} if asked or limits else {}


def startup_probe(server: Server) -> dict[str, Any]:
    """The server answers within the budget."""
    return {**health(server), **patience(server)}


def patience(server: Server) -> dict[str, int]:
    """How long the probe of a start waits."""
    return {"periodSeconds": PERIOD_S, "failureThreshold": server.startup_seconds // PERIOD_S}


def health(server: Server) -> dict[str, Any]:
    """How every probe asks."""
    scheme = {"scheme": server.scheme} if server.scheme != "HTTP" else {}
    return {"httpGet": {"path": "/health", "port": server.port, **scheme}}


def mounts(server: Server, *, shared_memory: bool, home: bool = False) -> dict[str, Any]:
    """`volumeMounts`; empty without mounts."""
    items: list[dict[str, Any]] = []
    if server.cache_root:
        items.append({"name": CACHE_VOLUME, "mountPath": server.cache_root})
    if shared_memory:
        items.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108  in the container
    if home:
        items.append({"name": "home", "mountPath": HOME})
    if server.weights_claim and server.model.startswith("/"):
        items.append({"name": "weights", "mountPath": server.model, "readOnly": True})
    elif server.weights_claim:
        items.append({"name": "weights", "mountPath": f"{HOME}/.cache/huggingface"})
    return {"volumeMounts": items} if items else {}


def volumes(server: Server, *, shared_memory: bool, home: bool = False) -> dict[str, Any]:
    """`volumes` for those mounts. Ranks of one node exchange data through shared memory, of which pods get 64 MiB."""
    claim = {"persistentVolumeClaim": {"claimName": claim_name(server)}}
    items: list[dict[str, Any]] = [{"name": CACHE_VOLUME, **claim}] if server.cache_root else []
    if shared_memory:
        items.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED_MEMORY}})
    if home:
        items.append({"name": "home", "emptyDir": {}})
    if server.weights_claim:
        items.append({"name": "weights", "persistentVolumeClaim": {"claimName": server.weights_claim}})
    return {"volumes": items} if items else {}


def claim_name(server: Server) -> str:
    """Name of the claim that holds compile caches."""
    return f"{server.name}-cache"


def claim(server: Server, access: str) -> list[dict[str, Any]]:
    """The claim; empty without a cache root."""
    spec = {"accessModes": [access], "resources": {"requests": {"storage": CACHE_SIZE}}}
    metadata = {"name": claim_name(server)}
    document = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
    return [document] if server.cache_root else []


def claim_note(server: Server) -> list[str]:
    """The note for a manifest that uses a claim and cannot make it."""
    note = f"compile caches need a PersistentVolumeClaim named {claim_name(server)}"
    return [note] if server.cache_root else []


def service(server: Server, selector: dict[str, str]) -> dict[str, Any]:
    """A Service in front of the server."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": server.name},
        "spec": {
            "selector": selector,
            "ports": [{"name": "http", "port": server.port, "targetPort": server.port, "protocol": "TCP"}],
        },
    }
