"""What production-stack's chart makes a pod of, from one model of its values.

helm/templates/deployment-vllm-multi.yaml, ray-cluster.yaml and _helpers.tpl of vllm-project/production-stack: the GPUs
are `requestGPU` of the type `requestGPUType`; a claim or an emptyDir `pvcStorage` is mounted at /data, and an emptyDir
of the size `shmSize` at /dev/shm wherever `tensorParallelSize` is stated. Numbers of probes that the values leave out
are the chart's own.
"""

from collections.abc import Iterator
from dataclasses import replace

from tuner.manifests.container_text import small_number
from tuner.manifests.launch import GpuGroup, Pod, Volume
from tuner.manifests.yaml.pod import GPU, SHARED_MEMORY, is_other_user, pod_of, probes_of, volumes_of
from tuner.manifests.yaml.source import Mapping, Node, text_of

_STORAGE, _SHARED_STORAGE = "/data", "/data/shared-pvc-storage"
_GPU = "nvidia.com/gpu"
"""The type of GPU without `requestGPUType`."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def stack_pod(values: Mapping, engine: Mapping, model: Mapping) -> Pod:
    """The pod of one model.

    Args:
        values: the chart's values.
        engine: its `servingEngineSpec`.
        model: one of `modelSpec`.
    """
    over_ray = model.get("raySpec") is not None
    several = over_ray or model.get("lwsSpec") is not None
    # Not every release of the chart makes an option of it.
    is_pipeline = model.get("vllmConfig", "pipelineParallelSize") is not None
    pod = pod_of(model, model)
    gpus, line = _gpus(model) if model.get("resources") is None else (pod.gpus, pod.gpus_line)
    contexts = [engine.get("securityContext"), engine.get("containerSecurityContext")]
    elsewhere = [engine.get("configs"), model.get("envFromSecret")]
    return replace(
        pod,
        volumes=tuple(_volumes(values, model)),
        probes={} if several else probes_of(engine, defaults={}),
        gpus=None if several or is_pipeline else gpus,
        gpus_line=line,
        alone=text_of(model.get("enableLoRA")) != "true",
        mentions_ray=over_ray,
        shared_memory=None if text_of(model.get("lmcacheConfig", "enablePD")) == "true" else pod.shared_memory,
        variables_elsewhere=any(node is not None for node in elsewhere),
        other_user=any(is_other_user(context) for context in contexts),
    )


def stack_variables(model: Mapping) -> dict[str, str | None]:
    """The variables that the chart sets beside those of `env`, as far as they count here."""
    visible = model.get("lmcacheConfig", "cudaVisibleDevices")
    return {} if visible is None else {_VISIBLE: text_of(visible)}


def _gpus(model: Mapping) -> tuple[int | None, int]:
    """How many GPUs a model asks for, and where; None for slices of a GPU, and where the chart asks for none."""
    number, kind = model.get("requestGPU"), model.get("requestGPUType")
    if number is None or not GPU.fullmatch(_GPU if kind is None else text_of(kind) or ""):
        return None, 0
    return small_number(text_of(number)) or None, number.line


def ray_group(model: Mapping) -> GpuGroup | None:
    """The GPUs of a model that runs in a Ray cluster: a head, and `replicaCount` workers; None for any other model."""
    head, count = model.get("raySpec", "headNode", "requestGPU"), model.get("replicaCount")
    gpus, line = _gpus(model)
    of_head = 0 if head is None else small_number(text_of(head))
    workers = small_number(text_of(count))
    if gpus is None or of_head is None or workers is None or model.get("raySpec") is None:
        return None
    return GpuGroup("The pods of the Ray cluster", of_head + workers * gpus, line)


def _volumes(values: Mapping, model: Mapping) -> Iterator[Volume]:
    storage, shared = model.get("pvcStorage"), values.get("sharedPvcStorage")
    size = model.get("vllmConfig", "tensorParallelSize")
    yield from volumes_of(model.get("extraVolumeMounts"), model.get("extraVolumes"))
    if storage is not None:
        yield Volume(_STORAGE, "pvcStorage", _kind(storage), storage.line)
    if shared is not None:
        yield Volume(_SHARED_STORAGE, "sharedPvcStorage", "persistentVolumeClaim", shared.line)
    if size is not None:
        yield Volume(SHARED_MEMORY, "shm", "emptyDir", size.line, medium="Memory")


def _kind(storage: Node) -> str:
    is_temporary = isinstance(storage, Mapping) and storage.get("emptyDir") is not None
    return "emptyDir" if is_temporary else "persistentVolumeClaim"
