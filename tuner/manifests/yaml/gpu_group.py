"""GPUs of several pods that one launch may spread over: of a LeaderWorkerSet, and of a Ray cluster.

LeaderWorkerSet (kubernetes-sigs/lws, api/leaderworkerset/v1): a group is a leader and `size - 1` workers; without
`leaderTemplate` the leader is as the workers. KubeRay (ray-project/kuberay, apis/ray/v1): `headGroupSpec`, and
`workerGroupSpecs` with `replicas`, `maxReplicas` and `numOfHosts`.
"""

from collections.abc import Iterator

from tuner.manifests.container_text import small_number
from tuner.manifests.launch import GpuGroup
from tuner.manifests.yaml.pod import gpus_of
from tuner.manifests.yaml.source import Mapping, Node, items_of, text_of

_RAY_CLUSTERS = {
    "RayCluster": ("spec",),
    "RayService": ("spec", "rayClusterConfig"),
    "RayJob": ("spec", "rayClusterSpec"),
}
"""Where each kind of KubeRay states its cluster."""
_OF_RAY = "num-gpus"
"""The start parameter that overrides what Ray counts in a pod."""

Part = tuple[int, int, int] | None
"""How many pods, GPUs of each, and where these are stated; None where one of the numbers is not known."""


def group_of(document: Node, kind: str) -> GpuGroup | None:
    """The GPUs of all pods of a group or cluster; None for other kinds, and where a number is not known.

    Args:
        document: a Kubernetes object.
        kind: its kind.
    """
    if not isinstance(document, Mapping):
        return None
    template = document.get("spec", "leaderWorkerTemplate")
    if kind == "LeaderWorkerSet" and isinstance(template, Mapping):
        return _sum("The pods of a group", list(_parts_of_set(template)))
    cluster = document.get(*_RAY_CLUSTERS[kind]) if kind in _RAY_CLUSTERS else None
    return _sum("The pods of the Ray cluster", list(_parts_of_ray(cluster))) if isinstance(cluster, Mapping) else None


def _sum(owner: str, parts: list[Part]) -> GpuGroup | None:
    """All parts together; None where one of them is not known, or none has a GPU."""
    stated = [part for part in parts if part is not None]
    total = sum(pods * gpus for pods, gpus, _ in stated)
    if len(stated) != len(parts) or not total:
        return None
    return GpuGroup(owner, total, next(line for _, gpus, line in stated if gpus))


def _parts_of_set(template: Mapping) -> Iterator[Part]:
    """The leader, and the workers."""
    size = 1 if template.get("size") is None else _count(template.get("size"))
    workers = template.get("workerTemplate", "spec")
    yield _part(1, template.get("leaderTemplate", "spec") or workers)
    yield _part(size - 1, workers) if size else None


def _parts_of_ray(cluster: Mapping) -> Iterator[Part]:
    """The head, and each group of workers; of those that grow, as many as they may become."""
    yield _part_of_ray(1, cluster.get("headGroupSpec"))
    for group in items_of(cluster.get("workerGroupSpecs")):
        yield _part_of_ray(_pods_of(group), group)


def _pods_of(group: Node) -> int | None:
    """How many pods a group of workers may have; None where that is not known."""
    if not isinstance(group, Mapping):
        return None
    stated = [node for node in (group.get("replicas"), group.get("maxReplicas")) if node is not None]
    counts = [count for count in map(_count, stated) if count is not None]
    hosts = 1 if group.get("numOfHosts") is None else _count(group.get("numOfHosts"))
    if not counts or len(counts) != len(stated) or hosts is None:
        return None
    return max(counts) * hosts


def _count(node: Node | None) -> int | None:
    return small_number(text_of(node))


def _part_of_ray(pods: int | None, group: Node | None) -> Part:
    """A group of Ray's pods. Ray may be told to count other GPUs than a pod has."""
    if pods is None or not isinstance(group, Mapping):
        return None
    override = text_of(group.get("rayStartParams", _OF_RAY))
    if override == "0":
        return pods, 0, group.line
    return _part(pods, group.get("template", "spec")) if override is None else None


def _part(pods: int, pod: Node | None) -> Part:
    """Pods of one template, one container of which asks for GPUs."""
    if pods == 0:
        return 0, 0, 0
    if not isinstance(pod, Mapping) or pod.get("resourceClaims") is not None:
        return None
    containers = [node for node in items_of(pod.get("containers")) if isinstance(node, Mapping)]
    stated = [(gpus, line) for gpus, line in map(gpus_of, containers) if line]
    gpus, line = stated[0] if len(stated) == 1 else (None, 0)
    return None if gpus is None else (pods, gpus, line)
