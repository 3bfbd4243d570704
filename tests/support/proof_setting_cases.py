"""Runs inside a serving environment: guards, the code around a region, regions and the counter, by the proof's modules.

Each `answers` is a group of `proof_part_cases.py`: name of the case -> what the proof says of it.
"""
# ruff: noqa: ANN001, ANN002, ANN003, ANN201, ANN202, ANN204, ARG001  the cases are the data

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import proof_built_models
import proof_config_models
import proof_grown_models
import proof_guard_models
import proof_none_models
import proof_outer_models
import proof_stored_models
import torch
from proof_order_cases import WIDTH
from torch import nn
from vllm.compilation import wrapper
from vllm.compilation.decorators import support_torch_compile
from vllm.config import CompilationMode, CUDAGraphMode, set_current_vllm_config
from vllm.forward_context import get_forward_context, set_forward_context

from vllm_launch_worker.proof import counter, first_call, observe, regions
from vllm_launch_worker.proof.outside import Outside
from vllm_launch_worker.proof.reads import Reads
from vllm_launch_worker.proof.tracing import Trace, watching


def codes(failures: list) -> list[str]:
    """Codes of failures, each once."""
    return sorted({failure["code"] for failure in failures})


def classes_of(module, base: type) -> dict[str, type]:
    """The classes of a module below this one, by name, with what its `enclosed` makes."""
    values = [*vars(module).values(), module.enclosed()]
    return {value.__name__: value for value in values if isinstance(value, type) and issubclass(value, base)}


# ---- guards


def guards_of(kind: type, config) -> dict[str, Any]:
    """What the trace of a compiled class lists; of places, whether they lie in its own file."""
    torch._dynamo.reset()
    trace = Trace()
    code = kind.forward.__code__
    with ExitStack() as around:
        around.enter_context(set_current_vllm_config(config))
        around.enter_context(set_forward_context(None, config, num_tokens=16))
        around.enter_context(torch.inference_mode())
        around.enter_context(watching(trace))
        trace.looked_into(code)
        kind(vllm_config=config)(torch.zeros(16, WIDTH, device="meta"))
    reads = Reads()
    reads.of_guards(trace.guards, config)
    reads.of_traced(trace.codes)
    return {
        "filtered": trace.filtered,
        "guards": [[guard["type"], guard["name"], guard["file"] == code.co_filename] for guard in trace.guards],
        "sizes": [
            [str(guard.condition), Path(guard.file).name == Path(code.co_filename).name] for guard in trace.sizes
        ],
        "variables": sorted(reads.variables),
        "fields": sorted(reads.fields),
    }


def guard_answers(config) -> dict[str, Any]:
    """Every planted guard."""
    with mock.patch.dict(os.environ, {proof_guard_models.PLANTED: "1"}):
        return {
            name: guards_of(kind, config)
            for name, kind in classes_of(proof_guard_models, proof_guard_models.Asking).items()
            if kind is not proof_guard_models.Asking
        }


@contextmanager
def without_filter() -> Iterator[None]:
    """While the block runs, what is compiled is compiled without a filter of guards, as another release might."""
    compiling = torch.compile

    def unfiltered(*args, options=None, **kwargs):
        kept = {name: value for name, value in (options or {}).items() if name != "guard_filter_fn"}
        return compiling(*args, options=kept or None, **kwargs)

    with mock.patch.object(torch, "compile", unfiltered):
        yield


@contextmanager
def vllm_filters(keeps) -> Iterator[None]:
    """While the block runs, vLLM passes this filter of guards to `torch.compile`, in place of its own."""

    def compiled(*args, options=None, **kwargs):
        return torch.compile(*args, options={**options, "guard_filter_fn": keeps}, **kwargs)

    seen_by_vllm = SimpleNamespace(**{**vars(torch), "compile": compiled})
    with mock.patch.object(wrapper, "torch", seen_by_vllm):
        yield


def keeps_sizes(entries) -> list[bool]:
    """The filter of vLLM's setting `evaluate_guards`, by which Dynamo may trace again."""
    return [entry.guard_type == "SHAPE_ENV" for entry in entries]


def keeps_none(entries) -> list[bool]:
    """The filter of 0.17.1, which is a function of vLLM."""
    return [False for _ in entries]


def whole_model(config, origins) -> list[str]:
    """What the proof of one process says of a whole model that is one region."""
    torch._dynamo.reset()
    with mock.patch.object(observe, "Origins", return_value=origins):
        rank = observe.Rank(config, (0, 0, 0), Reads(), {}, foreign=True)
    rank.layers = {"a": None, "b": None}
    with set_current_vllm_config(config), watching(rank.trace):
        model = proof_guard_models.Whole(vllm_config=config)
    rank._trace_region(model, model)
    return codes(rank.failures)


def hook_answers(config, origins) -> dict[str, Any]:
    """With torch's hook, and where it is not called."""
    answers = {"whole": whole_model(config, origins), "outside": outer(proof_outer_models.Around, config, origins)}
    with without_filter():
        answers["whole_unfiltered"] = whole_model(config, origins)
        answers["outside_unfiltered"] = outer(proof_outer_models.Around, config, origins)
    for name, keeps in {"whole_own_filter": keeps_none, "whole_kept": keeps_sizes}.items():
        with vllm_filters(keeps):
            answers[name] = whole_model(config, origins)
    return answers


# ---- the code around a region


def outer(kind: type, config, origins) -> list[str]:
    """Codes of what `outside.py` finds in a model."""
    model = kind()
    tokens = first_call.tokens(config, "cpu")
    returned = torch.zeros(tokens, WIDTH, device="meta")
    return codes(Outside(model, model.model, config, origins).failures(returned, Trace()))


def outer_answers(config, origins) -> dict[str, Any]:
    """Every model around a region."""
    kinds = classes_of(proof_outer_models, proof_outer_models.Around)
    kinds["GrownFeatures"] = proof_grown_models.GrownFeatures
    return {name: outer(kind, config, origins) for name, kind in kinds.items()}


def written_answers(folder: Path, models, groups: dict[str, Any], config, origins) -> dict[str, Any]:
    """Every model that is written into a file of its own.

    Args:
        folder: where the files go.
        models: the module whose `model_of` writes them.
        groups: begin of a case's name -> the cases, each with the parts of its model.
        config: a launch.
        origins: where files come from.
    """
    answers: dict[str, Any] = {}
    for prefix, group in groups.items():
        for name, parts in group.items():
            answers[prefix + name] = outer(models.model_of(folder, prefix + name, parts), config, origins)
    return answers


def built_answers(folder: Path, config, origins) -> dict[str, Any]:
    """Every model that stores attributes while it is built, and the first one beside a file that calls it again."""
    groups = {"": proof_built_models.SOUND, "again_": proof_built_models.AGAIN_LATER}
    answers = written_answers(folder, proof_built_models, groups, config, origins)
    again = proof_built_models.model_of(folder, "again_by_another_file", {})
    proof_built_models.imported(folder, "built_caller", proof_built_models.CALLER)
    answers["again_by_another_file"] = outer(again, config, origins)
    return answers


def none_answers(folder: Path, config, origins) -> dict[str, Any]:
    """Every model with an attribute that is None at first."""
    groups = {"": proof_none_models.SOUND, "stored_": proof_none_models.STORED}
    answers = written_answers(folder, proof_none_models, groups, config, origins)
    for name in proof_none_models.HELPERS:
        answers[name] = outer(proof_none_models.model_beside(folder, name), config, origins)
    return answers


def config_answers(folder: Path, config, origins) -> dict[str, Any]:
    """Every model that reads a config."""
    groups = {"": proof_config_models.SOUND, "changed_": proof_config_models.CHANGED}
    return written_answers(folder, proof_config_models, groups, config, origins)


def stored_answers(folder: Path, config, origins) -> dict[str, Any]:
    """Every model with a switch that code outside of the pass may store."""
    groups = {"": proof_stored_models.SOUND, "stored_": proof_stored_models.STORED}
    return written_answers(folder, proof_stored_models, groups, config, origins)


# ---- regions


class Part(nn.Module):
    """A module with two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Identity(), nn.Identity()])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Call them."""
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


@support_torch_compile
class Compiled(Part):
    """As vLLM's models."""


@support_torch_compile(enable_if=lambda _: False)
class SwitchedOff(Part):
    """A class that is compiled in no launch."""


class OwnCall(Compiled):
    """Its call does more than that of the decorator."""

    def __call__(self, *args, **kwargs):
        """Call twice."""
        super().__call__(*args, **kwargs)
        return super().__call__(*args, **kwargs)


@support_torch_compile
class Nested(nn.Module):
    """A region in a region."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Compiled()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Call it."""
        return self.part(hidden)


def model_of(*parts: type[nn.Module]) -> nn.Module:
    """A model with these parts."""
    return nn.ModuleList([part() for part in parts])


def with_own_forward() -> nn.Module:
    """A region whose `forward` is replaced."""
    model = model_of(Compiled)
    model[0].forward = lambda hidden: hidden
    return model


MODELS = {
    "one_region": partial(model_of, Compiled),
    "not_decorated": partial(model_of, Part),
    "switched_off": partial(model_of, SwitchedOff),
    "two_regions": partial(model_of, Compiled, Compiled),
    "one_of_two_switched_off": partial(model_of, Compiled, SwitchedOff),
    "layer_outside": partial(model_of, Compiled, Part),
    "region_in_region": partial(model_of, Nested),
    "own_call": partial(model_of, OwnCall),
    "own_forward": with_own_forward,
}


def region_codes(make, config) -> dict[str, list[str]]:
    """What is said of a model's regions, and whether it counts as compiled."""
    with set_current_vllm_config(config), watching(Trace()):
        model = make()
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Identity)]
    layers = {name: model.get_submodule(name) for name in names}
    decorated = regions.holders(model, layers)
    not_compiled = codes(regions.not_compiled(model, config, decorated))
    return {"not_compiled": not_compiled, "regions": codes(regions.regions_against(decorated, layers))}


def region_answers(config) -> dict[str, Any]:
    """Every model, and one where the launch compiles nothing."""
    answers: dict[str, Any] = {name: region_codes(make, config) for name, make in MODELS.items()}
    for mode in (CompilationMode.NONE, CompilationMode.STOCK_TORCH_COMPILE):
        with mock.patch.object(config.compilation_config, "mode", mode):
            answers[f"mode_{mode.name}"] = region_codes(MODELS["one_region"], config)
    return answers


# ---- settings


def settings_with(config, owner: str, **fields: Any) -> list[str]:
    """What is said of a launch with these fields of one of its configs; an error if a release has no such field."""
    part = getattr(config, owner) if owner else config
    with ExitStack() as patches:
        for name, value in fields.items():
            if name not in type(part).__dataclass_fields__:
                raise AttributeError(name)
            patches.enter_context(mock.patch.object(part, name, value))
        return codes(regions.settings_against(config))


def dynamo_with(variable: str, value: str) -> list[str]:
    """What is said of a process that is started with an environment variable of torch's.

    torch reads most of them when it is imported, so that its module of settings is run once more, under another name.
    """
    spec = importlib.util.spec_from_file_location("torch._dynamo.config_again", torch._dynamo.config.__file__)
    again = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, {variable: value}), mock.patch.dict("sys.modules", {spec.name: again}):
        spec.loader.exec_module(again)
        with mock.patch.object(torch._dynamo, "config", again):
            return codes(regions.dynamo_against())


def stance(name: str) -> list[str]:
    """What is said while Dynamo has another stance."""
    with torch.compiler.set_stance(name):
        return codes(regions.dynamo_against())


def setting_answers(config) -> dict[str, Any]:
    """Every setting."""
    shapes = config.compilation_config.dynamic_shapes_config
    one, both = ["vllm::moe_forward"], ["vllm::moe_forward", "vllm::moe_forward_shared"]
    piecewise = {"cudagraph_mode": CUDAGraphMode.PIECEWISE}
    mixed = {"cudagraph_mode": CUDAGraphMode.FULL_AND_PIECEWISE}
    compilation = partial(settings_with, config, "compilation_config")
    parallel = partial(settings_with, config, "parallel_config")
    encoder = mock.PropertyMock(return_value=True)
    answers = {
        "plain": settings_with(config, ""),
        "mode_vllm": compilation(mode=CompilationMode.VLLM_COMPILE),
        "mode_none": compilation(mode=CompilationMode.NONE),
        "mode_stock": compilation(mode=CompilationMode.STOCK_TORCH_COMPILE),
        "elastic": parallel(enable_elastic_ep=True),
        "dbo": parallel(enable_dbo=True),
        "ubatches": parallel(ubatch_size=2),
        "draft": settings_with(config, "", speculative_config=mock.Mock()),
        "partition": compilation(use_inductor_graph_partition=True),
        "piecewise_one": compilation(splitting_ops=one, **piecewise),
        "piecewise_one_mixed": compilation(splitting_ops=one, **mixed),
        "piecewise_both": compilation(splitting_ops=both, **piecewise),
        "piecewise_neither": compilation(splitting_ops=["vllm::unified_attention"], **piecewise),
        "full_one": compilation(splitting_ops=one, cudagraph_mode=CUDAGraphMode.FULL),
        "stance": stance("force_eager"),
    }
    with mock.patch.object(shapes, "evaluate_guards", new=True):
        answers["guards_kept"] = codes(regions.settings_against(config))
    with mock.patch.object(type(config.model_config), "is_encoder_decoder", encoder):
        answers["encoder_decoder"] = codes(regions.settings_against(config))
    for variable in ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "TORCHDYNAMO_SUPPRESS_ERRORS", "TORCH_PLANTED"):
        answers[variable] = dynamo_with(variable, "1")
    return answers


# ---- the counter


def around_the_end(layer_name: str):
    """A counter that begins anew at the end of its list, as vllm-ascend's does."""
    context = get_forward_context()
    name = context.all_moe_layers[context.moe_layer_index % len(context.all_moe_layers)]
    context.moe_layer_index += 1
    return context.no_compile_layers[name]


def stays_at_the_end(layer_name: str):
    """A counter that gives the last layer for every call too many."""
    context = get_forward_context()
    return context.no_compile_layers[context.all_moe_layers[-1]]


def raises_otherwise(layer_name: str):
    """A counter that fails in another way than was read."""
    raise KeyError(layer_name)


def home_of_counter():
    """The module that holds this release's counter."""
    return importlib.import_module(counter.counter().__module__)


def counted(config, resolve=None, *, is_honoured: bool = True) -> list[str]:
    """What is said of a counter; of vLLM's own without one."""
    home = home_of_counter()
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(counter, "is_honoured", return_value=is_honoured))
        if hasattr(home, "_USE_LAYERNAME"):  # where torch takes an object for a name, vLLM does not count
            patches.enter_context(mock.patch.object(home, "_USE_LAYERNAME", new=False))
        if resolve is not None:
            patches.enter_context(mock.patch.object(home, "get_layer_from_name", resolve))
        return codes(counter.counter_against(config))


def counter_answers(config) -> dict[str, Any]:
    """VLLM's own counter, and others in its place."""
    compilation = config.compilation_config
    layers = {"a": nn.Identity(), "b": nn.Identity()}
    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(compilation, "static_all_moe_layers", list(layers)))
        patches.enter_context(mock.patch.object(compilation, "static_forward_context", layers))
        answers: dict[str, Any] = {
            "own": counted(config),
            "around_the_end": counted(config, around_the_end),
            "stays_at_the_end": counted(config, stays_at_the_end),
            "raises_otherwise": counted(config, raises_otherwise),
            "around_the_end_unused": counted(config, around_the_end, is_honoured=False),
            "is_honoured": counter.is_honoured(),
        }
        with mock.patch.object(counter, "counter", return_value=None):
            answers["no_counter"] = codes(counter.counter_against(config)) if counter.is_honoured() else None
    return answers
