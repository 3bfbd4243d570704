"""Builds the model without weights, because this changes the config and vLLM hashes the changed config.

A MoE layer adds its name to `static_all_moe_layers` (from 0.15.1 on). A custom operator increases one of two counters,
which are part of the hash up to 0.28.0. The engine computes the hash after these changes and after those of
`settling`.
"""

import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared_worker.vllm_types import Module, VllmConfig
from vllm_launch_worker.settling import settle


@dataclass
class BuiltModel:
    """The modules of a built model, or the reason why it could not be built.

    Attributes:
        modules: name -> module that vLLM compiles.
        failure: why the config differs from the config that the engine would hash. Empty if it does not differ.
    """

    modules: dict[str, Module] = field(default_factory=dict)
    failure: str = ""


def construct(vllm_config: VllmConfig, control: Path) -> BuiltModel:
    """Build the model of a launch on the meta device.

    Args:
        vllm_config: the config from the API server. This function changes it as the engine would.
        control: a folder that only this process uses.
    """
    if reason := config_difference(vllm_config):
        return BuiltModel(failure=reason)
    try:
        model = build(vllm_config, control)
        settle(vllm_config)
    except Exception as error:
        traceback.print_exc()
        return BuiltModel(failure=f"The model was not built without weights: {type(error).__name__}: {error}"[:400])
    compiled_modules = {name: module for name, module in model.named_modules() if is_compiled(module)}
    return BuiltModel(compiled_modules)


def config_difference(vllm_config: VllmConfig) -> str:
    """Why the config of one built rank differs from the config that the engine hashes. Empty if it does not differ."""
    if vllm_config.parallel_config.pipeline_parallel_size > 1:
        return "Each pipeline stage has its own layers and its own key."
    if vllm_config.parallel_config.data_parallel_size > 1:
        return "Data-parallel engines change their config as they start, and the worker does not follow that."
    if vllm_config.speculative_config is not None:
        return "A draft model writes its own layers into the config, and the worker does not build it."
    if vllm_config.lora_config is not None:
        return "LoRA wraps layers once the model is loaded, and the worker does not do that."
    return ""


def build(vllm_config: VllmConfig, control: Path) -> Any:
    """Construct the model class that vLLM picks, in a world of one process."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    init_method = f"file://{control / 'distributed'}"  # a file, because a port may already be in use
    with set_current_vllm_config(VllmConfig()):
        init_distributed_environment(1, 0, init_method, 0, "gloo")
        initialize_model_parallel(1, 1)
    dtype = vllm_config.model_config.dtype
    with set_current_vllm_config(vllm_config), set_default_torch_dtype(dtype), torch.device("meta"):
        return initialize_model(vllm_config)


def is_compiled(module: Module) -> bool:
    """Whether vLLM compiles this module. Its decorator adds the switch `do_not_compile`, and the switch must be off."""
    return not getattr(module, "do_not_compile", True)
