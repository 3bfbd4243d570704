"""Makes the process groups of a launch in one process. Torch's fake backend stands for the other ranks."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any
from unittest import mock

from shared_worker.vllm_types import ParallelConfig, VllmConfig

Ranks = tuple[int, int, int]
"""The data-parallel rank, the pipeline rank and the tensor rank. Each counts from 0."""


def ranks(parallel: ParallelConfig) -> list[Ranks]:
    """The ranks that may run different code.

    These are the first, middle and last pipeline stage, and the first and last rank of each other group.
    """
    stages = sorted({0, parallel.pipeline_parallel_size // 2, parallel.pipeline_parallel_size - 1})
    tensors = sorted({0, parallel.tensor_parallel_size - 1})
    replicas = sorted({0, parallel.data_parallel_size - 1})
    return list(product(replicas, stages, tensors))


@contextmanager
def devices_of_a_launch() -> Iterator[None]:
    """While the block runs, vLLM sees `DEVICES` devices, more than any launch asks for.

    vLLM refuses a launch with more processes than GPUs (vllm/config/parallel.py, 0.16.0 to 0.32.0). This worker
    simulates the ranks, so it does not need the GPUs.
    """
    from vllm.config import parallel
    from vllm.platforms import current_platform

    with ExitStack() as patches:
        patches.enter_context(
            mock.patch.object(type(current_platform), "device_count", return_value=DEVICES, create=True)
        )
        for name in ("cuda_device_count_stateless", "device_count"):
            if hasattr(parallel, name):
                patches.enter_context(mock.patch.object(parallel, name, return_value=DEVICES))
        yield


DEVICES = 4096
"""The number of devices that vLLM sees (see `devices_of_a_launch`)."""


def name_of(rank: Ranks, parallel: ParallelConfig) -> str:
    """The name of a rank for the report, such as `pipeline 0 of 2, tensor 3 of 4`. Groups of one rank are left out."""
    sizes = (parallel.data_parallel_size, parallel.pipeline_parallel_size, parallel.tensor_parallel_size)
    words = ("data", "pipeline", "tensor")
    parts = [f"{word} {at} of {size}" for word, at, size in zip(words, rank, sizes, strict=True) if size > 1]
    return ", ".join(parts) or "rank 0 of 1"


def join(vllm_config: VllmConfig, rank: Ranks) -> None:
    """Make vLLM's process groups as this rank of the launch sees them.

    Collectives call vLLM's operators, as on a GPU. The operators are traced and never run.
    """
    import torch
    from torch.testing._internal.distributed.fake_pg import FakeStore
    from vllm.config import set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel, parallel_state
    from vllm.distributed.device_communicators.base_device_communicator import DeviceCommunicatorBase
    from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
    from vllm.platforms import current_platform

    parallel = vllm_config.parallel_config
    replica, stage, tensor = rank
    inner = parallel.pipeline_parallel_size * parallel.tensor_parallel_size
    world = parallel.data_parallel_size * inner
    within = stage * parallel.tensor_parallel_size + tensor  # the rank within this rank's replica
    parallel.rank = within
    parallel.data_parallel_rank = replica
    torch.distributed.init_process_group("fake", rank=replica * inner + within, world_size=world, store=FakeStore())
    plain = f"{DeviceCommunicatorBase.__module__}.{DeviceCommunicatorBase.__qualname__}"
    new_group = torch.distributed.new_group

    def fake_group(ranks: Any = None, *_: Any, **__: Any) -> Any:
        return new_group(ranks, backend="fake")

    with (
        mock.patch.object(torch.distributed, "new_group", fake_group),
        mock.patch.object(parallel_state, "_node_count", return_value=1),
        mock.patch.object(type(current_platform), "get_device_communicator_cls", classmethod(lambda _: plain)),
        mock.patch.object(MessageQueue, "create_from_process_group", return_value=None),
        set_current_vllm_config(vllm_config),
    ):
        init_distributed_environment(inner, within, "env://", tensor, "fake")
        initialize_model_parallel(parallel.tensor_parallel_size, parallel.pipeline_parallel_size)
    for group in parallel_state._groups.values():
        if group() is not None:
            group().use_custom_op_call = True


def classes_of_the_launch(parallel_config: ParallelConfig) -> list[str]:
    """The files of the worker, executor and worker extension classes that the launch names.

    If the file of a class is not found, the list holds the name of its module.
    """
    settings = (
        parallel_config.worker_cls,
        parallel_config.worker_extension_cls,
        parallel_config.distributed_executor_backend,
    )
    # An executor may also be named by one of vLLM's words, such as `mp`.
    return [file_of(setting) for setting in settings if isinstance(setting, type) or "." in (setting or "")]


def file_of(name: Any) -> str:
    """The file of a class.

    Args:
        name: the class, or its path `module.Class`. If its package is not imported, the result is the package's
            `__init__.py`, because to look up an inner module would import the package.

    Returns:
        The path of the file, or the name of the module if there is no file.
    """
    module = name.__module__ if isinstance(name, type) else name.rpartition(".")[0]
    package = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(module if package in sys.modules else package)
    except (ImportError, ValueError):
        spec = None
    return spec.origin if spec is not None and spec.origin else module
