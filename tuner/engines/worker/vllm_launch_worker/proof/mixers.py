"""Replaces each of vLLM's own token mixers by one operator, to save time. A trace spends most time in their arithmetic.

A token mixer is a module that holds an attention or state-space layer, and whose class does not hold a MoE layer. In
`order.py` the operator does not carry values, so a chain of operations through it does not count. Two kinds of token
mixers are not replaced: those whose class is not vLLM's own, and those that do not have exactly one argument with the
shape and type of their result.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from shared_worker.vllm_types import Module, Region, Tensor, VllmConfig
from vllm_launch_worker.proof import first_call
from vllm_launch_worker.proof.building import Standing
from vllm_launch_worker.proof.failure import in_words
from vllm_launch_worker.proof.origin import Origins
from vllm_launch_worker.proof.regions import identities

NAMESPACE, NAME = "tuner_proof", "mixed"
Place = int | str
"""The position or the keyword of an argument."""


@contextmanager
def stood_in(
    model: Module,
    region: Region,
    layers: dict[str, Module],
    vllm_config: VllmConfig,
    *,
    origins: Origins,
    standing: Standing,
) -> Iterator[None]:
    """While the block runs, each token mixer in the region is one operator.

    Args:
        model: the outermost module.
        region: the compiled module.
        layers: the MoE layers by name.
        vllm_config: the launch.
        origins: tells where each source file comes from.
        standing: records each stand-in.
    """
    replaced: dict[Module, type[Any]] = {}
    mixers = token_mixers(region, layers, vllm_config, origins)
    for kind, place in learned(model, region, mixers, vllm_config, standing).items():
        standing.note("attention_stubbed", kind.__name__)
        for mixer in mixers:
            if type(mixer) is kind:
                replaced[mixer] = kind
                mixer.__class__ = operator_of(kind, place)
    try:
        yield
    finally:
        for mixer, kind in replaced.items():
            mixer.__class__ = kind


def token_mixers(region: Region, layers: dict[str, Module], vllm_config: VllmConfig, origins: Origins) -> list[Module]:
    """The outermost modules that hold a layer of vLLM's forward context and whose class does not hold a MoE layer.

    Modules whose class is not vLLM's own are left out.
    """
    experts = set(map(id, layers.values()))
    context = vllm_config.compilation_config.static_forward_context.values()
    mixing = set(map(id, context)) - experts
    holding = {type(module) for module in region.modules() if experts & identities(module)}
    mixers: list[Module] = []
    inside: set[int] = set()
    for module in region.modules():
        parts = identities(module)
        if type(module) in holding or id(module) in inside or not mixing & parts:
            continue
        if origins.is_own(code_file(type(module))) and "forward" not in vars(module):
            mixers.append(module)
        inside |= parts
    return mixers


def code_file(kind: type[Any]) -> str:
    """The file of a module class's `forward`. Empty if `forward` is not a Python function."""
    code = getattr(kind.forward, "__code__", None)
    return "" if code is None else str(code.co_filename)


def learned(
    model: Module, region: Region, mixers: list[Module], vllm_config: VllmConfig, standing: Standing
) -> dict[type[Any], Place]:
    """Find out which argument of each mixer class holds the hidden states.

    This function runs one pass on the meta device, without compiling. A class is left out if its calls differ, or if
    its result does not have the shape of exactly one argument. If a class does not run on this machine, its only
    floating-point argument is taken as the hidden states, and the result is taken to have its shape. If this is wrong,
    later additions in the trace fail.

    Returns:
        Class -> position or keyword of the argument. Empty if the pass failed.
    """
    places: dict[type[Any], Place | None] = {}

    def note(kind: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        place = place_of_input(args, kwargs, output)
        places[kind] = place if places.get(kind, place) == place else None

    before = {module: dict(vars(module)) for module in model.modules()}
    kinds: dict[Module, type[Any]] = {mixer: type(mixer) for mixer in mixers}
    for mixer, kind in kinds.items():
        mixer.__class__ = watched(kind, note, standing)
    compiles, region.do_not_compile = region.do_not_compile, True
    try:
        first_call.make_call(model, model, vllm_config)
    except Exception:
        traceback.print_exc()
        return {}
    finally:
        region.do_not_compile = compiles
        for mixer, kind in kinds.items():
            mixer.__class__ = kind
        restore(before)
    return {kind: place for kind, place in places.items() if place is not None}


Note = Callable[[type[Any], tuple[Any, ...], dict[str, Any], Any], None]


def watched(kind: type[Any], note: Note, standing: Standing) -> type[Any]:
    """A subclass whose `forward` passes its arguments and its result to `note`.

    If `forward` fails, a tensor from `result_for` stands for the result.
    """

    def forward(mixer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            output = kind.forward(mixer, *args, **kwargs)
        except Exception as error:
            output = result_for(args, kwargs)
            if output is None:
                raise
            standing.note("attention_not_run", f"{kind.__name__}: {in_words(error)}"[:200])
        note(kind, args, kwargs, output)
        return output

    return type(kind.__name__, (kind,), {"forward": forward})


def result_for(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """An unfilled tensor like the only floating-point argument. None if there is not exactly one such argument."""
    import torch

    values = [value for value in [*args, *kwargs.values()] if isinstance(value, torch.Tensor)]
    hidden = [value for value in values if value.is_floating_point()]
    return torch.empty_like(hidden[0]) if len(hidden) == 1 else None


def restore(before: dict[Module, dict[str, Any]]) -> None:
    """Restore the attributes of modules. In a launch the traced pass is the first one, so no earlier pass may show."""
    for module, attributes in before.items():
        vars(module).clear()
        vars(module).update(attributes)


def place_of_input(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Place | None:
    """The place of the argument that has the shape and type of the result. None if there is not exactly one."""
    import torch

    if not isinstance(output, torch.Tensor):
        return None
    alike: list[Place] = []
    arguments: list[tuple[Place, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in arguments:
        if isinstance(value, torch.Tensor) and (value.shape, value.dtype) == (output.shape, output.dtype):
            alike.append(place)
    return alike[0] if len(alike) == 1 else None


def operator_of(kind: type[Any], place: Place) -> type[Any]:
    """A subclass whose `forward` only calls the operator, with the argument at `place`."""
    mixed = operator()

    def forward(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return mixed(args[place] if isinstance(place, int) else kwargs[place])

    return type(kind.__name__, (kind,), {"forward": forward})


def operator() -> Any:
    """The operator that stands for a token mixer. It returns an unfilled tensor with the shape of its input."""
    import torch

    namespace = getattr(torch.ops, NAMESPACE)
    if not hasattr(namespace, NAME):
        library = torch.library.Library(NAMESPACE, "DEF")
        library.define(f"{NAME}(Tensor hidden) -> Tensor")
        library.impl(NAME, torch.empty_like, "CompositeExplicitAutograd")
        LIBRARIES.append(library)
    return getattr(namespace, NAME)


LIBRARIES: list[Any] = []
"""The libraries of operators. torch removes an operator when its library object is deleted."""
