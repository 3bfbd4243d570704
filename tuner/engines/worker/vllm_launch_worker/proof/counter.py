"""Condition 3: a call beyond the registered layers stops the engine. Checked on vLLM's own counter."""

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
"""Modules with `get_layer_from_name`: of 0.20 and later, of 0.17 to 0.19, of 0.16."""
NAME = "from_forward_context"
"""The name in a MoE call where the counter decides."""


def counter_against(vllm_config: VllmConfig) -> list[Failure]:
    """Why a call beyond the list would go on in silence; empty if vLLM's counter refuses it, or is never used."""
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
    """A forward context in which every registered layer was called; None if its counter has another form.

    vLLM makes a context for each pass, and its counter begins at 0 (vllm/forward_context.py, 0.16.0 to 0.33.0).
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
    """VLLM's function that resolves a MoE call; None where a release has none."""
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
    """Whether this vLLM keeps a flag that is set to true; from torch 2.11 on it forces it to false."""
    from vllm.config import CompilationConfig, VllmConfig

    config = VllmConfig(compilation_config=CompilationConfig(fast_moe_cold_start=True))
    return bool(config.compilation_config.fast_moe_cold_start)
