"""Tensor parallelism with the 64 MiB of shared memory that a container has by itself."""

from collections.abc import Iterator

from tuner.checks.cache_place import volume_of
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of
from tuner.checks.rules.surroundings import are_known, platform_of, sized_pod
from tuner.manifests.launch import OWN_SHARED_MEMORY, Pod, Runtime
from tuner.manifests.yaml.pod import SHARED_MEMORY

_ONE_PROCESS = "tpu"
"""Where one process may drive all chips (`VLLM_XLA_USE_SPMD`, vllm/config/parallel.py, 0.16.0 to 0.33.0)."""

_REMEDIES = {
    Runtime.KUBERNETES: "Mount an emptyDir of medium Memory there.",
    Runtime.COMPOSE: "Set shm_size, or ipc: host.",
    Runtime.COMMAND: "Add --shm-size, or --ipc=host.",
    Runtime.QUADLET: "Set ShmSize=.",
}


def _problems(examined: Examined) -> Iterator[Problem]:
    if platform_of(examined) == _ONE_PROCESS:
        return
    pod, arguments = sized_pod(examined), examined.arguments
    if pod is None or arguments is None or pod.shared_memory is None or pod.volumes_elsewhere or pod.gpus == 1:
        return
    size = arguments.serving.tensor_parallel_size
    if size > 1 and are_known(examined, "tensor_parallel_size") and (what := _small(pod)):
        needs = f"The {size} processes of tensor parallelism share memory at {SHARED_MEMORY}"
        message = f"{needs}, and {what}. {_REMEDIES[pod.runtime]}"
        yield Problem(message, line_of(examined, "tensor"))


def _small(pod: Pod) -> str:
    """What is wrong with the shared memory of a container; empty if nothing is."""
    volume = volume_of(SHARED_MEMORY, pod)
    if volume is None or volume.path == "/":
        if pod.shared_memory is None or pod.shared_memory > OWN_SHARED_MEMORY:
            return ""
        if pod.runtime is Runtime.KUBERNETES:
            return "nothing is mounted there: a container has 64 MiB"
        return f"the container has {_mebibytes(pod.shared_memory)} MiB there"
    if volume.kind == "emptyDir" and volume.medium != "Memory":
        return f"{volume.name}, an emptyDir on the node's disk, is mounted there"
    return ""


def _mebibytes(size: int) -> int:
    """A size in MiB; Docker and Podman take a size of 0 as their default."""
    return (size or OWN_SHARED_MEMORY) >> 20


RULE = Rule(
    "shared-memory",
    Severity.WARNING,
    "Tensor parallelism has only the shared memory that a container has by itself.",
    of_launch=_problems,
    names_basis=False,
)
