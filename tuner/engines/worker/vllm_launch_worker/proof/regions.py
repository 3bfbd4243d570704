"""Condition 1: in this launch the model is compiled, in one region, once for good."""

import os

from vllm_launch_worker.proof.failure import COMPILED, NOTHING_SILENT, failure

TRACED_ONCE = ("VLLM_COMPILE", "DYNAMO_TRACE_ONCE")
"""Names of the compile modes that trace once and drop the guards (vllm/config/compilation.py)."""


def moe_layers(vllm_config) -> dict:
    """Registered name -> MoE layer, in construction order."""
    compilation = vllm_config.compilation_config
    return {name: compilation.static_forward_context[name] for name in compilation.static_all_moe_layers}


def holders(model, layers: dict) -> list:
    """The outermost modules that vLLM's decorator made and that hold a MoE layer."""
    from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

    wanted = {id(layer) for layer in layers.values()}
    found: list = []
    inside: set = set()
    for module in model.modules():
        is_decorated = isinstance(module, TorchCompileWithNoGuardsWrapper)
        if is_decorated and id(module) not in inside and wanted & {id(part) for part in module.modules()}:
            found.append(module)
            if not module.do_not_compile:
                inside |= {id(part) for part in module.modules()}
    return found


def not_compiled(model, vllm_config, decorated: list) -> list:
    """Why vLLM compiles no part of the model that holds its MoE layers; empty if it does."""
    if any(not module.do_not_compile for module in decorated):
        return []
    mode = getattr(vllm_config.compilation_config.mode, "name", str(vllm_config.compilation_config.mode))
    if not decorated:
        return [failure(COMPILED, "not_decorated", **{"class": type(model).__name__})]
    if mode not in TRACED_ONCE:
        return [failure(COMPILED, "compilation_off", mode=mode)]
    return [failure(COMPILED, "do_not_compile", **{"class": type(decorated[0]).__name__})]


def settings_against(vllm_config) -> list:
    """What of the launch keeps one trace from standing for every pass."""
    return [
        *dynamo_against(),
        *mode_against(vllm_config),
        *passes_against(vllm_config),
        *graphs_against(vllm_config.compilation_config),
    ]


def dynamo_against() -> list:
    """Dynamo is switched off, hides its errors, or is told to run eagerly."""
    import torch

    failures = []
    if torch._dynamo.config.disable or os.environ.get("TORCHDYNAMO_DISABLE") == "1":  # asked for at each compile
        failures.append(failure(COMPILED, "dynamo_disabled", variable="TORCHDYNAMO_DISABLE, TORCH_COMPILE_DISABLE"))
    if torch._dynamo.config.suppress_errors:
        failures.append(failure(COMPILED, "errors_suppressed", variable="TORCHDYNAMO_SUPPRESS_ERRORS"))
    stance = torch._dynamo.eval_frame._stance.stance
    if stance != "default":
        failures.append(failure(COMPILED, "dynamo_disabled", variable=f"stance {stance}"))
    return failures


def mode_against(vllm_config) -> list:
    """The mode traces more than once."""
    compilation = vllm_config.compilation_config
    mode = getattr(compilation.mode, "name", str(compilation.mode))
    failures = []
    if mode not in TRACED_ONCE:
        failures.append(failure(COMPILED, "compilation_off", mode=mode))
    shapes = getattr(compilation, "dynamic_shapes_config", None)
    if getattr(shapes, "evaluate_guards", False):
        failures.append(failure(COMPILED, "guards_kept", mode=mode))
    return failures


def passes_against(vllm_config) -> list:
    """Some passes go another way than the compiled one, or the compiled code is dropped and made again."""
    parallel, failures = vllm_config.parallel_config, []
    if vllm_config.model_config.is_encoder_decoder:
        failures.append(failure(COMPILED, "encoder_decoder"))
    if getattr(parallel, "enable_elastic_ep", False):
        failures.append(failure(COMPILED, "elastic"))
    if getattr(parallel, "enable_dbo", False) or getattr(parallel, "ubatch_size", 0) > 1:
        failures.append(failure(COMPILED, "dbo"))
    if vllm_config.speculative_config is not None:
        failures.append(failure(COMPILED, "draft"))
    return failures


def graphs_against(compilation) -> list:
    """Condition 3: a pass might replay a part of its MoE calls from CUDA graphs and make the others by Python."""
    failures = []
    if getattr(compilation, "use_inductor_graph_partition", False):
        failures.append(failure(NOTHING_SILENT, "inductor_partition"))
    graphs = getattr(compilation.cudagraph_mode, "name", str(compilation.cudagraph_mode))
    splitting = set(compilation.splitting_ops or ())
    operators = {f"vllm::{name}" for name in ("moe_forward", "moe_forward_shared")}
    if "PIECEWISE" in graphs and len(splitting & operators) == 1:
        failures.append(failure(NOTHING_SILENT, "mixed_graphs", setting=", ".join(sorted(splitting & operators))))
    return failures


def regions_against(decorated: list, layers: dict) -> list:
    """There is more than one compiled region, or a layer lies outside of it."""
    from vllm.compilation import decorators

    active = [module for module in decorated if not module.do_not_compile]
    failures = []
    if len(active) != 1 or len(decorated) != 1:
        return [failure(COMPILED, "regions", count=len(decorated))]
    inside = {id(part) for part in active[0].modules()}
    for name, layer in layers.items():
        if id(layer) not in inside:
            failures.append(failure(COMPILED, "layer_outside", layer=name))
    call = type(active[0]).__call__
    if getattr(call, "__code__", None) is None or call.__code__.co_filename != decorators.__file__:
        failures.append(failure(COMPILED, "call_wrapped", **{"class": type(active[0]).__name__}))
    if "forward" in vars(active[0]) or "__call__" in vars(active[0]):
        failures.append(failure(COMPILED, "call_wrapped", **{"class": type(active[0]).__name__}))
    return failures
