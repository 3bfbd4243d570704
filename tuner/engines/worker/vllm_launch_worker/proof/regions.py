"""Condition 1: vLLM compiles one region of the model, with all MoE layers in it, and compiles it only once."""

import os
from typing import Any

from shared_worker.vllm_types import CompilationConfig, Module, Region, VllmConfig
from vllm_launch_worker.proof.failure import COMPILED, NOTHING_SILENT, Failure, failure

TRACED_ONCE = ("VLLM_COMPILE", "DYNAMO_TRACE_ONCE")
"""The names of the compile modes that trace once and drop the guards (vllm/config/compilation.py)."""


def moe_layers(vllm_config: VllmConfig) -> dict[str, Module]:
    """Registered name -> MoE layer, in construction order."""
    compilation = vllm_config.compilation_config
    return {name: compilation.static_forward_context[name] for name in compilation.static_all_moe_layers}


def identities(module: Module) -> set[int]:
    """The identities (`id`) of a module and of all modules inside it."""
    return set(map(id, module.modules()))


def holders(model: Module, layers: dict[str, Module]) -> list[Region]:
    """The outermost modules that vLLM's decorator `support_torch_compile` decorates and that hold a MoE layer.

    A module inside another is listed, too, if vLLM does not compile the outer module.
    """
    from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

    experts = set(map(id, layers.values()))
    regions: list[Region] = []
    inside: set[int] = set()
    module: Any
    for module in model.modules():
        is_decorated = isinstance(module, TorchCompileWithNoGuardsWrapper)
        if is_decorated and id(module) not in inside and experts & identities(module):
            regions.append(module)
            if not module.do_not_compile:
                inside |= identities(module)
    return regions


def not_compiled(model: Module, vllm_config: VllmConfig, decorated: list[Region]) -> list[Failure]:
    """A failure if vLLM does not compile any module that holds MoE layers. Empty if it compiles one."""
    if any(not module.do_not_compile for module in decorated):
        return []
    mode = getattr(vllm_config.compilation_config.mode, "name", str(vllm_config.compilation_config.mode))
    if not decorated:
        return [failure(COMPILED, "not_decorated", **{"class": type(model).__name__})]
    if mode not in TRACED_ONCE:
        return [failure(COMPILED, "compilation_off", mode=mode)]
    return [failure(COMPILED, "do_not_compile", **{"class": type(decorated[0]).__name__})]


def settings_against(vllm_config: VllmConfig) -> list[Failure]:
    """Failures for settings of the launch that let a pass differ from the trace."""
    return [
        *dynamo_against(),
        *mode_against(vllm_config),
        *passes_against(vllm_config),
        *graphs_against(vllm_config.compilation_config),
    ]


def dynamo_against() -> list[Failure]:
    """Failures if Dynamo is switched off, hides its errors, or runs eagerly."""
    import torch

    failures = []
    if torch._dynamo.config.disable or os.environ.get("TORCHDYNAMO_DISABLE") == "1":  # read at each compile
        failures.append(failure(COMPILED, "dynamo_disabled", variable="TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE"))
    if torch._dynamo.config.suppress_errors:
        failures.append(failure(COMPILED, "errors_suppressed", variable="TORCHDYNAMO_SUPPRESS_ERRORS"))
    stance = torch._dynamo.eval_frame._stance.stance
    if stance != "default":
        failures.append(failure(COMPILED, "dynamo_disabled", variable=f"stance {stance}"))
    return failures


def mode_against(vllm_config: VllmConfig) -> list[Failure]:
    """Failures if the compile mode may trace more than once or keeps the guards."""
    compilation = vllm_config.compilation_config
    mode = getattr(compilation.mode, "name", str(compilation.mode))
    failures = []
    if mode not in TRACED_ONCE:
        failures.append(failure(COMPILED, "compilation_off", mode=mode))
    shapes = getattr(compilation, "dynamic_shapes_config", None)
    if getattr(shapes, "evaluate_guards", False):
        failures.append(failure(COMPILED, "guards_kept", mode=mode))
    return failures


def passes_against(vllm_config: VllmConfig) -> list[Failure]:
    """Failures if some passes may bypass the compiled code, or if vLLM may compile again."""
    parallel = vllm_config.parallel_config
    failures: list[Failure] = []
    if vllm_config.model_config.is_encoder_decoder:
        failures.append(failure(COMPILED, "encoder_decoder"))
    if getattr(parallel, "enable_elastic_ep", False):
        failures.append(failure(COMPILED, "elastic"))
    if getattr(parallel, "enable_dbo", False) or getattr(parallel, "ubatch_size", 0) > 1:
        failures.append(failure(COMPILED, "dbo"))
    if vllm_config.speculative_config is not None:
        failures.append(failure(COMPILED, "draft"))
    return failures


def graphs_against(compilation: CompilationConfig) -> list[Failure]:
    """Failures of condition 3: a pass may replay some MoE calls from CUDA graphs and make the others in Python."""
    failures = splits_against(compilation, {"vllm::moe_forward", "vllm::moe_forward_shared"})
    if getattr(compilation, "use_inductor_graph_partition", False):
        failures.append(failure(NOTHING_SILENT, "inductor_partition"))
    return failures


def splits_against(compilation: CompilationConfig, operators: set[str]) -> list[Failure]:
    """A failure if vLLM splits the graph at some of these operators and not at the others."""
    graphs = getattr(compilation.cudagraph_mode, "name", str(compilation.cudagraph_mode))
    split = operators.intersection(compilation.splitting_ops or ())
    if "PIECEWISE" not in graphs or not split or split == operators:
        return []
    return [failure(NOTHING_SILENT, "mixed_graphs", setting=", ".join(sorted(split)))]


def regions_against(decorated: list[Region], layers: dict[str, Module]) -> list[Failure]:
    """Failures if there is not exactly one region, if a layer is outside of it, or if its call is not vLLM's own."""
    from vllm.compilation import decorators

    active = [module for module in decorated if not module.do_not_compile]
    failures = []
    if len(active) != 1 or len(decorated) != 1:
        return [failure(COMPILED, "regions", count=len(decorated))]
    inside = identities(active[0])
    for name, layer in layers.items():
        if id(layer) not in inside:
            failures.append(failure(COMPILED, "layer_outside", layer=name))
    code = getattr(type(active[0]).__call__, "__code__", None)
    if code is None or code.co_filename != decorators.__file__:
        failures.append(failure(COMPILED, "call_wrapped", **{"class": type(active[0]).__name__}))
    if "forward" in vars(active[0]) or "__call__" in vars(active[0]):
        failures.append(failure(COMPILED, "call_wrapped", **{"class": type(active[0]).__name__}))
    return failures
