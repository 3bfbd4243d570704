"""What a pod states for one of its containers: volumes, probes, ports, GPUs, memory, and fields in variables.

Names and defaults are those of Kubernetes' API (core/v1: Container, Probe, Volume, ResourceRequirements).
"""

import re
from collections.abc import Iterator
from collections.abc import Mapping as Table
from math import isfinite

from tuner.manifests.container_text import launches_once, mentions_ray, small_number, starts_others
from tuner.manifests.launch import OWN_SHARED_MEMORY, Pod, PodField, Port, Probe, Volume
from tuner.manifests.yaml.source import Mapping, Node, items_of, text_of, walk

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
SHARED_MEMORY = "/dev/shm"  # noqa: S108  a folder that processes share, and no file is written there
GPU = re.compile(
    r"nvidia\.com/gpu|amd\.com/gpu|gpu\.intel\.com/(?:i915|xe)|habana\.ai/gaudi|huawei\.com/(?:Ascend910\w*|ascend-1980)"
)
"""Resources of which each is one device, as the vendors' device plugins name them; slices of a device are none."""
_DEFAULTS = {"initialDelaySeconds": 0.0, "periodSeconds": 10.0, "failureThreshold": 3.0}
"""What a probe's waiting is made of, with Kubernetes' defaults."""
_ASKS = ("httpGet", "tcpSocket", "grpc")
_REFERENCE = re.compile(r"\$\(([\w.-]+)\)")


def pod_of(container: Mapping, pod: Mapping) -> Pod:
    """What a pod states for one of its containers.

    Args:
        container: the container.
        pod: the mapping that holds the pod's containers and volumes.
    """
    gpus, gpus_line = gpus_of(container)
    texts = _texts(container)
    return Pod(
        volumes=tuple(volumes_of(container.get("volumeMounts"), pod.get("volumes"))),
        probes=probes_of(container),
        ports=tuple(_ports(container)),
        gpus=gpus,
        gpus_line=gpus_line,
        alone=_is_alone(pod, texts),
        launches_once=launches_once(texts),
        mentions_ray=mentions_ray(texts),
        shared_memory=None if text_of(pod.get("hostIPC")) == "true" else OWN_SHARED_MEMORY,
        variables_elsewhere=container.get("envFrom") is not None,
        read_only=text_of(container.get("securityContext", "readOnlyRootFilesystem")) == "true",
        other_user=is_other_user(container.get("securityContext")) or is_other_user(pod.get("securityContext")),
        has_workers=pod.get("workerSpec") is not None,
        fields=tuple(_fields(container)),
    )


def probes_of(container: Mapping, defaults: Table[str, float] = _DEFAULTS) -> Table[str, Probe]:
    """The probes that a container states, by name.

    Args:
        container: the container.
        defaults: of the numbers that a probe does not state; without one, how long it waits is not known.
    """
    probes = {}
    for name in PROBES:
        probe = container.get(name)
        if isinstance(probe, Mapping):
            port = _port_of(probe)
            line = port.line if port else 0
            probes[name] = Probe(name, probe.line, text_of(port) or "", line, _waits(probe, defaults))
    return probes


def _waits(probe: Mapping, defaults: Table[str, float]) -> float | None:
    """Seconds until a probe that always fails ends the container; None if a number cannot be read."""
    numbers = {}
    for name in _DEFAULTS:
        number = _number(probe.get(name), defaults.get(name))
        if number is None:
            return None
        numbers[name] = number
    return numbers["initialDelaySeconds"] + numbers["periodSeconds"] * numbers["failureThreshold"]


def _number(node: Node | None, default: float | None) -> float | None:
    if node is None:
        return default
    try:
        number = float(text_of(node) or "")
    except ValueError:
        return None
    return number if isfinite(number) and number >= 0 else None


def _port_of(probe: Mapping) -> Node | None:
    """The port that a probe asks in its own pod."""
    for action in _ASKS:
        asks = probe.get(action)
        if isinstance(asks, Mapping):
            return asks.get("port") if asks.get("host") is None else None
    return None


def _ports(container: Mapping) -> Iterator[Port]:
    for port in items_of(container.get("ports")):
        if isinstance(port, Mapping):
            number = text_of(port.get("containerPort"))
            if number and (text_of(port.get("protocol")) or "TCP") == "TCP":
                yield Port(number, text_of(port.get("name")) or "", port.line)


def gpus_of(container: Mapping) -> tuple[int | None, int]:
    """How many GPUs a container asks for, and where; a limit counts as a request where both are stated."""
    for part in ("limits", "requests"):
        amounts = container.get("resources", part)
        requests = [pair for pair in amounts.pairs if GPU.fullmatch(pair[0])] if isinstance(amounts, Mapping) else []
        if len(requests) == 1:
            node = requests[0][1]
            return small_number(text_of(node)), node.line
    return None, 0


def _is_alone(pod: Mapping, texts: list[str]) -> bool:
    """Whether nothing else listens in the pod: no other container, no sidecar, and no program in the background."""
    sidecars = [item for item in items_of(pod.get("initContainers")) if _stays(item)]
    if len(items_of(pod.get("containers"))) != 1 or sidecars:
        return False
    return not starts_others(texts)


def _stays(container: Node) -> bool:
    """Whether an init container keeps running beside the others."""
    return isinstance(container, Mapping) and text_of(container.get("restartPolicy")) == "Always"


def _texts(container: Mapping) -> list[str]:
    """What a container's command and arguments say."""
    nodes = [container.get("command"), container.get("args")]
    texts = [text_of(node) for start in nodes if start is not None for node in walk(start)]
    return [text for text in texts if text]


def is_other_user(context: Node | None) -> bool:
    """Whether a security context names a user who is not root."""
    if not isinstance(context, Mapping):
        return False
    return text_of(context.get("runAsUser")) not in {None, "0"} or text_of(context.get("runAsNonRoot")) == "true"


def _fields(container: Mapping) -> Iterator[PodField]:
    """The variables that take a field of the pod; also those whose value names such a variable."""
    paths: dict[str, str] = {}
    for item in items_of(container.get("env")):
        if not isinstance(item, Mapping):
            continue
        name = text_of(item.get("name")) or ""
        references = _REFERENCE.findall(text_of(item.get("value")) or "")
        inherited = [paths[reference] for reference in references if reference in paths]
        path = text_of(item.get("valueFrom", "fieldRef", "fieldPath")) or next(iter(inherited), None)
        if path:
            paths[name] = path
            yield PodField(name, path, item.line)


def volumes_of(mounts: Node | None, volumes: Node | None) -> Iterator[Volume]:
    """The volumes that are mounted in a container.

    Args:
        mounts: the list `volumeMounts` of the container.
        volumes: the list `volumes` of its pod.
    """
    stated = _stated_volumes(volumes)
    for mount in items_of(mounts):
        path = text_of(mount.get("mountPath")) if isinstance(mount, Mapping) else None
        if isinstance(mount, Mapping) and path:
            name = text_of(mount.get("name")) or ""
            kind, detail = stated.get(name, ("", None))
            read_only = text_of(mount.get("readOnly")) == "true"
            source, medium = _source(kind, detail, mount), _detail(detail, "medium")
            yield Volume(path, name, kind, mount.line, source, medium, read_only)


def _stated_volumes(volumes: Node | None) -> Table[str, tuple[str, Node | None]]:
    """The volumes of a pod by name, each with its type and what is stated of it."""
    stated: dict[str, tuple[str, Node | None]] = {}
    for volume in items_of(volumes):
        if isinstance(volume, Mapping):
            kinds = [pair for pair in volume.pairs if pair[0] != "name"]
            stated[text_of(volume.get("name")) or ""] = kinds[0] if kinds else ("emptyDir", None)
    return stated


def _source(kind: str, detail: Node | None, mount: Mapping) -> str:
    """What tells a volume from others of its kind, with the part of it that is mounted; empty if nothing does."""
    source = _detail(detail, "claimName") or _detail(detail, "path")
    part = text_of(mount.get("subPath") or mount.get("subPathExpr")) or ""
    return f"{kind} {source}/{part}".rstrip("/") if source else ""


def _detail(volume: Node | None, key: str) -> str:
    """What is stated of a volume; empty if it is not."""
    return (text_of(volume.get(key)) or "") if isinstance(volume, Mapping) else ""
