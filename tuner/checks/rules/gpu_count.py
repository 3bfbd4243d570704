"""GPUs that a container, or all pods of a group, ask for, against those that the launch takes."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import are_known, are_seen, platform_of, sized_pod, stated
from tuner.manifests.container_text import small_number
from tuner.manifests.launch import ManifestLaunch
from tuner.text import counted

_SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "prefill_context_parallel_size")
"""What a world of vLLM is the product of (`world_size` of vllm/config/parallel.py); other sizes share its GPUs."""
_OF_ONE_POD = frozenset({"mp", "uni"})
"""Executors of one pod, or of as many as `--nnodes` says; Ray brings GPUs of others."""
_OF_SEVERAL_PODS = frozenset({"LeaderWorkerSet", "RayCluster", "RayJob", "RayService"})
_OF_KSERVE = frozenset({"InferenceService", "ServingRuntime", "ClusterServingRuntime"})
"""Kinds of one pod, unless they state a `workerSpec`."""
_SPREAD = (
    *("--data-parallel-address", "-dpa", "--data-parallel-backend", "-dpb", "--data-parallel-external-lb", "-dpe"),
    *("--data-parallel-hybrid-lb", "-dph", "--data-parallel-multi-port-external-lb", "-dpm"),
    *("--data-parallel-start-rank", "-dpr"),
)
"""With these the ranks of data parallelism may be spread over pods."""
_VISIBLE = frozenset(
    {"CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES"}
)
"""Variables that leave a launch some of its container's GPUs."""
_ON_GPUS = frozenset({"cuda", "rocm", "xpu"})
"""Platforms whose workers take a GPU each."""
_WITHOUT = frozenset({"cpu", "tpu"})
"""Platforms whose workers take none."""


def _problems(examined: Examined) -> Iterator[Problem]:
    needed = _needed(examined)
    if needed is None:
        yield from _of_group(examined)
        return
    pod = examined.launch.pod
    if pod is None or pod.gpus is None or needed == pod.gpus:
        return
    if pod.gpus == 0 and platform_of(examined) not in _ON_GPUS:  # it may serve on a CPU
        return
    asks = f"The container asks for {counted(pod.gpus, 'GPU')}, and the launch takes {needed}"
    if needed > pod.gpus:
        yield Problem(f"{asks} ({_product(examined)}): vLLM does not start.", pod.gpus_line)
    elif sized_pod(examined) and pod.alone and not _VISIBLE & examined.launch.env.keys():
        yield Problem(f"{asks} ({_product(examined)}): the others idle.", pod.gpus_line, Severity.WARNING)


def _of_group(examined: Examined) -> Iterator[Problem]:
    """Too few GPUs in all pods that one rank of data parallelism may spread over; others may use what it leaves."""
    group, world, arguments = examined.launch.gpu_group, _world(examined), examined.arguments
    if group is None or world is None or arguments is None or arguments.serving.data_parallel_size != 1:
        return
    if world > group.gpus:
        has = f"{group.owner} have {counted(group.gpus, 'GPU')}, and the launch takes {world}"
        yield Problem(f"{has} ({_product(examined)}): vLLM does not start.", group.line)


def _world(examined: Examined) -> int | None:
    """How many GPUs one rank of data parallelism takes; None where that is not known."""
    launch, arguments = examined.launch, examined.arguments
    if platform_of(examined) in _WITHOUT or (launch.pod is not None and not launch.pod.launches_once):
        return None
    if arguments is None or not are_seen(examined) or not are_known(examined, *_SIZES, "data_parallel_size"):
        return None
    world = 1
    for size in _SIZES:
        world *= getattr(arguments.serving, size)
    return world if world > 0 else None


def _needed(examined: Examined) -> int | None:
    """How many GPUs the launch takes in one pod; None where that is not known."""
    launch, arguments, world = examined.launch, examined.arguments, _world(examined)
    if launch.pod is None or arguments is None or world is None:
        return None
    executor = stated(launch, "--distributed-executor-backend")
    if (executor is not None and executor.text not in _OF_ONE_POD) or launch.pod.mentions_ray:
        return None
    nodes, replicas = _number(launch, "--nnodes", "-n"), _replicas(examined, arguments.serving.data_parallel_size)
    if nodes is None or replicas is None:
        return None
    if nodes > 1:
        return world // nodes if replicas == 1 and world % nodes == 0 else None
    return world * replicas


def _replicas(examined: Examined, size: int) -> int | None:
    """How many ranks of data parallelism run in one pod; None where that is not known.

    As `create_engine_config` of vllm/engine/arg_utils.py decides it (0.14.1 to 0.33.0).
    """
    launch, has_nodes = examined.launch, stated(examined.launch, "--nnodes", "-n") is not None
    if not has_nodes and not _has_one_pod(examined) and launch.shape not in _OF_SEVERAL_PODS:
        return None
    if stated(launch, "--data-parallel-rank", "-dpn"):
        return 1
    if stated(launch, "--data-parallel-size-local", "-dpl"):
        return _number(launch, "--data-parallel-size-local", "-dpl")
    several = launch.shape in _OF_SEVERAL_PODS and not has_nodes
    return None if several or stated(launch, *_SPREAD) else size


def _has_one_pod(examined: Examined) -> bool:
    """Whether each replica of the launch is surely one pod; other operators may spread it over several."""
    launch = examined.launch
    of_kserve = launch.shape in _OF_KSERVE and launch.pod is not None and not launch.pod.has_workers
    return of_kserve or sized_pod(examined) is not None


def _number(launch: ManifestLaunch, *spellings: str) -> int | None:
    """The positive number that an option states, 1 where it is not set; None where it is not known."""
    value = stated(launch, *spellings)
    return 1 if value is None else small_number(value.text) or None


def _product(examined: Examined) -> str:
    """What the number is made of."""
    serving = examined.arguments.serving if examined.arguments else None
    if serving is None:
        return ""
    sizes = {
        "tensor": serving.tensor_parallel_size,
        "pipeline": serving.pipeline_parallel_size,
        "data": serving.data_parallel_size,
    }
    return ", ".join(f"{name} {size}" for name, size in sizes.items() if size > 1 or name == "tensor")


RULE = Rule(
    "gpu-count",
    Severity.ERROR,
    "The container asks for another number of GPUs than the launch takes.",
    of_launch=_problems,
    names_basis=False,
)
