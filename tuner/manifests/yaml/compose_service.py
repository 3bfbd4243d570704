"""What a service of a Compose file states for its container: volumes, ports, GPUs, shared memory, and a health check.

The Compose specification, 05-services.md, and deploy.md for `deploy.resources.reservations.devices`. A service may
extend others of its file: they come as a chain, nearest first.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as Table
from collections.abc import Set as AbstractSet

from tuner.manifests import container_text
from tuner.manifests.container_options import VISIBLE_DEVICES
from tuner.manifests.container_text import HEALTH_CHECK
from tuner.manifests.launch import OWN_SHARED_MEMORY, Pod, Port, Probe, Runtime, Volume
from tuner.manifests.yaml.compose_text import filled
from tuner.manifests.yaml.source import Mapping, Node, Scalar, items_of, text_of

_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_ROOT = frozenset({"root", "0"})
_NO_CHECK = "NONE"
_EXEC = "CMD"
_SHELLS = frozenset({"sh", "bash", "/bin/sh", "/bin/bash"})
_GPU = "gpu"
"""The capability that makes a device a GPU."""


def is_null(node: Node) -> bool:
    """Whether a node is YAML's null, which states nothing."""
    return isinstance(node, Scalar) and not node.style and node.text in _NOTHING


def first_of(chain: Sequence[Mapping], *path: str) -> Node | None:
    """What the nearest service of a chain says of a key."""
    for service in chain:
        node = service.get(*path)
        if node is not None and not is_null(node):
            return node
    return None


def networks_of(services: Mapping) -> set[str]:
    """What the services of a file state as `network_mode`."""
    modes = (text_of(service.get("network_mode")) for _, service in services.pairs if isinstance(service, Mapping))
    return {mode for mode in modes if mode}


def pod_of_service(
    name: str, chain: Sequence[Mapping], networks: AbstractSet[str], texts: Sequence[str], env: Table[str, str | None]
) -> Pod:
    """What a service states for its container.

    Args:
        name: the service's name.
        chain: the service and those that it extends.
        networks: what the services of the file state as `network_mode`.
        texts: the words of its entrypoint and command.
        env: its variables.
    """
    gpus, gpus_line = _gpus(chain)
    own_network = container_text.is_own(_text(chain, "network_mode"))
    volumes = list(_volumes(chain))
    user = (_text(chain, "user") or "root").partition(":")[0]
    return Pod(
        runtime=Runtime.COMPOSE,
        volumes=tuple(volume for volume in volumes if volume is not None),
        probes=_probes(chain),
        ports=tuple(_ports(chain)) if own_network else (),
        gpus=None if VISIBLE_DEVICES in env else gpus,
        gpus_line=gpus_line,
        alone=own_network and not _is_joined(name, chain, networks) and not container_text.starts_others(texts),
        launches_once=container_text.launches_once(texts),
        mentions_ray=container_text.mentions_ray(texts),
        shared_memory=_shared_memory(chain),
        volumes_elsewhere=None in volumes or first_of(chain, "volumes_from") is not None,
        variables_elsewhere=first_of(chain, "env_file") is not None or first_of(chain, "build") is not None,
        other_user=user not in _ROOT,
    )


def _text(chain: Sequence[Mapping], *path: str) -> str:
    return text_of(first_of(chain, *path)) or ""


def _all(chain: Sequence[Mapping], *path: str) -> list[Node]:
    """The items of a list in all services of a chain, which Compose joins; one text stands for a list of it."""
    nodes: list[Node] = []
    for service in chain:
        node = service.get(*path)
        nodes += [node] if isinstance(node, Scalar) and not is_null(node) else items_of(node)
    return nodes


def _is_joined(name: str, chain: Sequence[Mapping], networks: AbstractSet[str]) -> bool:
    """Whether another service has the network of this one."""
    return f"service:{name}" in networks or f"container:{text_of(chain[0].get('container_name'))}" in networks


def _volumes(chain: Sequence[Mapping]) -> Iterator[Volume | None]:
    """What is mounted; None for a volume of which it is not known where."""
    for node in _all(chain, "volumes"):
        if isinstance(node, Mapping):
            target, source = text_of(node.get("target")) or "", text_of(node.get("source")) or ""
            yield container_text.volume_at(target, source, text_of(node.get("type")) or "volume", node.line)
        else:
            yield container_text.volume_of_text(text_of(node) or "", node.line)
    for node in _all(chain, "tmpfs"):
        yield container_text.tmpfs_of(text_of(node) or "", node.line)


def _ports(chain: Sequence[Mapping]) -> Iterator[Port]:
    for node in _all(chain, "ports"):
        text = text_of(node) or ""
        if isinstance(node, Mapping):
            text = f"{text_of(node.get('target')) or ''}/{text_of(node.get('protocol')) or 'tcp'}"
        port = container_text.port_of(text, node.line)
        if port is not None:
            yield port


def _shared_memory(chain: Sequence[Mapping]) -> int | None:
    """Bytes of the container's own shared memory; None where it has another's, or the number is not known."""
    if not container_text.is_own(_text(chain, "ipc")):
        return None
    size = first_of(chain, "shm_size")
    return OWN_SHARED_MEMORY if size is None else container_text.size_of(text_of(size) or "")


def _gpus(chain: Sequence[Mapping]) -> tuple[int | None, int]:
    """How many GPUs a service gets, and where that is stated; None where it is not known."""
    if _text(chain, "privileged") not in {"", "false"}:  # it sees every device
        return None, 0
    requests = list(_gpu_requests(chain))
    devices = _all(chain, "devices")
    if not requests and devices:
        return container_text.device_gpus(list(map(_device_path, devices))), devices[0].line
    if len(requests) != 1 or devices:
        return None, 0
    return _requested(requests[0])


def _device_path(device: Node) -> str:
    """The device that an item of `devices` names; empty where it names none."""
    source = device.get("source") if isinstance(device, Mapping) else device
    return text_of(source) or ""


def _gpu_requests(chain: Sequence[Mapping]) -> Iterator[Node]:
    """What asks for GPUs: each item of `gpus`, and each reserved device that is one."""
    yield from _all(chain, "gpus")
    for device in _all(chain, "deploy", "resources", "reservations", "devices"):
        capabilities = items_of(device.get("capabilities")) if isinstance(device, Mapping) else []
        if any(text_of(capability) == _GPU for capability in capabilities):
            yield device


def _requested(request: Node) -> tuple[int | None, int]:
    """How many GPUs one request names; None for all of them."""
    if not isinstance(request, Mapping):
        return None, request.line
    names, count = request.get("device_ids"), request.get("count")
    if names is not None and count is None:
        return container_text.listed_gpus([text_of(node) or "" for node in items_of(names)]), names.line
    number = container_text.small_number(text_of(count)) if names is None else None
    return number or None, count.line if count else request.line


def _probes(chain: Sequence[Mapping]) -> dict[str, Probe]:
    """The health check, where the file states its command."""
    check, test = first_of(chain, "healthcheck"), first_of(chain, "healthcheck", "test")
    if not isinstance(check, Mapping) or test is None or text_of(check.get("disable")) == "true":
        return {}
    command = _command(test)
    if command is None:
        return {}
    interval, retries, start_period = (text_of(check.get(key)) for key in ("interval", "retries", "start_period"))
    waits = container_text.unhealthy_after(interval, retries, start_period)
    return {HEALTH_CHECK: Probe(HEALTH_CHECK, check.line, container_text.asked_port(command), test.line, waits)}


def _command(test: Node) -> str | None:
    """The command of a health check as one text, for a shell or not; None for `NONE`."""
    if isinstance(test, Scalar):
        return filled(test.text)[0]
    words = [filled(text_of(node) or "")[0] for node in items_of(test)]
    if words[:1] == [_NO_CHECK]:
        return None
    if words[:1] == [_EXEC] and words[1:2] and words[1] in _SHELLS:
        return words[-1]
    return " ".join(words[1:])
