"""Repeats the settings that engine and worker change after the model is loaded and before vLLM makes the key."""

import os

from shared_worker.vllm_types import VllmConfig

READ_ON_IMPORT = {"TORCHINDUCTOR_CPP_DYNAMIC_THREADS": "cpp.dynamic_threads"}
"""Environment variable that vLLM sets on a CPU (vllm/platforms/cpu.py) -> the setting of torch/_inductor/config.py
that gets its value from the variable at import."""


def settle(vllm_config: VllmConfig) -> None:
    """Change the config of a built model as the engine would, with the functions of the installed vLLM."""
    from vllm.platforms import current_platform

    block_size = getattr(current_platform, "update_block_size_for_backend", None)
    if block_size is not None:  # vllm/v1/executor calls it after loading, from 0.19.0 on
        block_size(vllm_config)
    settle_layout(vllm_config)
    settle_inductor()


def settle_layout(vllm_config: VllmConfig) -> None:
    """Set the layout of the KV cache, which is part of the hash.

    From 0.29.0 on, the engine core chooses the layout before the profile run.
    """
    from vllm.v1.attention.backends import utils

    if not hasattr(utils, "resolve_kv_cache_layout"):
        return
    from vllm.v1.worker.gpu.attn_utils import get_kv_cache_spec
    from vllm.v1.worker.worker_base import get_current_attn_backends

    supported = [layout.name for layout in utils.get_supported_kv_cache_layouts(get_current_attn_backends(vllm_config))]
    utils.resolve_kv_cache_layout(vllm_config, [supported], list(get_kv_cache_spec(vllm_config).values()))


def settle_inductor() -> None:
    """Set Inductor's settings to those of a spawned worker.

    A spawned worker imports torch anew, after vLLM set the variables. This process imported torch before.
    """
    import torch._inductor.config as inductor

    if os.environ.get("VLLM_WORKER_MULTIPROC_METHOD") != "spawn":
        return
    for variable, setting in READ_ON_IMPORT.items():
        if variable in os.environ:
            owner, _, name = setting.rpartition(".")
            setattr(getattr(inductor, owner), name, os.environ[variable] == "1")
