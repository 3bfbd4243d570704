"""Condition 3: if a pass makes more MoE calls than there are registered layers, vLLM's counter raises an error.

This module calls the counter of the installed vLLM to check it.
"""

import importlib
from collections.abc import Callable
from typing import Any

from shared_worker.vllm_types import VllmConfig
from vllm_launch_worker.proof.failure import NOTHING_SILENT, Failure, failure

HOMES = (
    "vllm.model_executor.layers.fused_moe.runner.moe_runner",
    "vllm.model_executor.layers.fused_moe.runner.default_moe_runner",
    "vllm.model_executor.layers.fused_moe.layer",
)
"""The modules that may hold `get_layer_from_name`: in 0.20 and later, in 0.17 to 0.19, and in 0.16."""
NAME = "from_forward_context"
"""The layer name in a MoE call that lets the counter choose the layer."""


def counter_against(vllm_config: VllmConfig) -> list[Failure]:
    """A failure if one MoE call too many does not raise an error.

    The list is empty if vLLM's counter raises AssertionError, or if this vLLM never uses the counter.
    """
    if not is_honoured():
        return []
    context = context_at_the_end(vllm_config)
    resolve = counter()
    if resolve is None or context is None:
        return [failure(NOTHING_SILENT, "counter_form")]
    from vllm.forward_context import override_forward_context

    try:
        with override_forward_context(context):
            resolve(NAME)
    except AssertionError:
        return []
    except Exception:
        return [failure(NOTHING_SILENT, "counter_form")]
    return [failure(NOTHING_SILENT, "counter_wraps")]


def context_at_the_end(vllm_config: VllmConfig) -> Any:
    """A forward context whose counter stands behind the last registered layer. None if the counter has another form.

    vLLM makes a context for each pass. Its counter starts at 0 (vllm/forward_context.py, 0.16.0 to 0.33.0).
    """
    from vllm.forward_context import ForwardContext, create_forward_context

    if not {"all_moe_layers", "moe_layer_index"} <= set(ForwardContext.__dataclass_fields__):
        return None
    context = create_forward_context(None, vllm_config)
    if context.moe_layer_index != 0:
        return None
    context.all_moe_layers = list(vllm_config.compilation_config.static_all_moe_layers)
    context.moe_layer_index = len(context.all_moe_layers)
    return context


def counter() -> Callable[[str], Any] | None:
    """The function of vLLM that finds the layer of a MoE call. None if this release does not have it."""
    for home in HOMES:
        try:
            module = importlib.import_module(home)
        except ImportError:
            continue
        if hasattr(module, "get_layer_from_name"):
            resolve: Callable[[str], Any] = module.get_layer_from_name
            return resolve
    return None


def is_honoured() -> bool:
    """Whether this vLLM keeps `fast_moe_cold_start` if it is set to true. From torch 2.11 on, vLLM sets it to false."""
    from vllm.config import CompilationConfig, VllmConfig

    config = VllmConfig(compilation_config=CompilationConfig(fast_moe_cold_start=True))
    return bool(config.compilation_config.fast_moe_cold_start)
