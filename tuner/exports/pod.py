"""The parts of a pod that serves: container, probe, devices, cache volume. Pure."""

from typing import Any

from tuner.exports.server import Server
from tuner.launch.cache_root import CACHE_ROOT
from tuner.launch.startup_budget import PERIOD_S

CACHE_VOLUME = "vllm-compile-cache"
CACHE_SIZE = "20Gi"


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
        "ports": [{"name": "http", "containerPort": server.port, "protocol": "TCP"}],
        **resources(server, server.devices),
        "startupProbe": startup_probe(server),
        "readinessProbe": {**health(server), "periodSeconds": 10},
        **mounts(server, shared_memory=server.devices > 1),
    }


def launch(server: Server) -> dict[str, Any]:
    """Command, arguments and variables."""
    return {"command": ["vllm", "serve"], "args": [escaped(argument) for argument in server.args], **variables(server)}


def variables(server: Server, **more: str) -> dict[str, Any]:
    """`env` with the given variables, and with the cache root if it is set; empty without variables."""
    values = {**more, **({CACHE_ROOT: server.cache_value} if server.cache_value else {})}
    named = [{"name": name, "value": escaped(value)} for name, value in values.items()]
    return {"env": named} if named else {}


def resources(server: Server, devices: int) -> dict[str, Any]:
    """`resources` with the devices; empty if the platform has no known device plugin."""
    return {"resources": {"limits": {server.resource: str(devices)}}} if server.resource else {}


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


def mounts(server: Server, *, shared_memory: bool) -> dict[str, Any]:
    """`volumeMounts`; empty without mounts."""
    items = [{"name": CACHE_VOLUME, "mountPath": server.cache_root}] if server.cache_root else []
    items += [{"name": "shm", "mountPath": "/dev/shm"}] if shared_memory else []  # noqa: S108  in the container
    return {"volumeMounts": items} if items else {}


def volumes(server: Server, *, shared_memory: bool) -> dict[str, Any]:
    """`volumes` for those mounts. Ranks of one node exchange data through shared memory, of which pods get 64 MiB."""
    claim = {"persistentVolumeClaim": {"claimName": claim_name(server)}}
    items: list[dict[str, Any]] = [{"name": CACHE_VOLUME, **claim}] if server.cache_root else []
    items += [{"name": "shm", "emptyDir": {"medium": "Memory"}}] if shared_memory else []
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
