"""What engine and worker still decide between loading the model and its first pass, where the key is made."""

import os

from shared_worker.vllm_types import VllmConfig

READ_ON_IMPORT = {"TORCHINDUCTOR_CPP_DYNAMIC_THREADS": "cpp.dynamic_threads"}
"""Variables that vLLM sets for a CPU (vllm/platforms/cpu.py) -> the setting that torch/_inductor/config.py reads from
each as it is imported."""


def settle(vllm_config: VllmConfig) -> None:
    """Decide it for a model that was built with this config, by the installed vLLM's own functions."""
    from vllm.platforms import current_platform

    block_size = getattr(current_platform, "update_block_size_for_backend", None)
    if block_size is not None:  # as vllm/v1/executor does after loading, from 0.19.0
        block_size(vllm_config)
    settle_layout(vllm_config)
    settle_inductor()


def settle_layout(vllm_config: VllmConfig) -> None:
    """The layout of the KV cache, which is hashed; the engine core resolves it before it profiles (from 0.29.0)."""
    from vllm.v1.attention.backends import utils

    if not hasattr(utils, "resolve_kv_cache_layout"):
        return
    from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec
    from vllm.v1.worker.worker_base import get_current_attn_backends

    supported = [layout.name for layout in utils.get_supported_kv_cache_layouts(get_current_attn_backends(vllm_config))]
    utils.resolve_kv_cache_layout(vllm_config, [supported], list(get_kv_cache_spec(vllm_config).values()))


def settle_inductor() -> None:
    """Let Inductor's settings be those of a spawned worker: it imports torch with what vLLM set in the meantime."""
    import torch._inductor.config as inductor

    if os.environ.get("VLLM_WORKER_MULTIPROC_METHOD") != "spawn":
        return
    for variable, setting in READ_ON_IMPORT.items():
        if variable in os.environ:
            owner, _, name = setting.rpartition(".")
            setattr(getattr(inductor, owner), name, os.environ[variable] == "1")
