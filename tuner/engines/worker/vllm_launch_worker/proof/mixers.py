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
from vllm_launch_worker.proof.building import StandIns
from vllm_launch_worker.proof.failure import in_words
from vllm_launch_worker.proof.origin import Origins
from vllm_launch_worker.proof.regions import identities

NAMESPACE = "tuner_proof"
OPERATORS = {"mixed": "(Tensor hidden) -> Tensor", "mixed_into": "(Tensor(a!) hidden, Tensor(b!) output) -> ()"}
"""Name -> schema of the operators that stand for token mixers. `mixed` returns an unfilled tensor with the shape of its
input. `mixed_into` stands for a mixer that writes its result into an argument: both of its arguments count as written.
"""
Place = int | str
"""The position or the keyword of an argument."""


@contextmanager
def replace_mixers(
    model: Module,
    region: Region,
    layers: dict[str, Module],
    vllm_config: VllmConfig,
    *,
    origins: Origins,
    stand_ins: StandIns,
) -> Iterator[None]:
    """While the block runs, each token mixer in the region is one operator.

    Args:
        model: the outermost module.
        region: the compiled module.
        layers: the MoE layers by name.
        vllm_config: the launch.
        origins: tells where each source file comes from.
        stand_ins: records each stand-in.
    """
    replaced: dict[Module, type[Any]] = {}
    mixers = token_mixers(region, layers, vllm_config, origins)
    for kind, places in find_places(model, region, mixers, vllm_config, stand_ins).items():
        stand_ins.note("attention_stubbed", kind.__name__)
        for mixer in mixers:
            if type(mixer) is kind:
                replaced[mixer] = kind
                mixer.__class__ = operator_of(kind, places)
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
    attention = set(map(id, context)) - experts
    with_experts = {type(module) for module in region.modules() if experts & identities(module)}
    mixers: list[Module] = []
    inside: set[int] = set()
    for module in region.modules():
        parts = identities(module)
        if type(module) in with_experts or id(module) in inside or not attention & parts:
            continue
        if origins.is_own(code_file(type(module))) and "forward" not in vars(module):
            mixers.append(module)
        inside |= parts
    return mixers


def code_file(kind: type[Any]) -> str:
    """The file of a module class's `forward`. Empty if `forward` is not a Python function."""
    code = getattr(kind.forward, "__code__", None)
    return "" if code is None else str(code.co_filename)


def find_places(
    model: Module, region: Region, mixers: list[Module], vllm_config: VllmConfig, stand_ins: StandIns
) -> dict[type[Any], tuple[Place, ...]]:
    """Find the argument of each mixer class that holds the hidden states.

    This function runs one pass on the meta device, without compiling. A class is left out if its calls differ, or if
    its result does not have the shape of exactly one argument. If a class does not run on this machine, `result_for`
    assumes its result. If the assumption is wrong, later additions in the trace fail.

    Returns:
        Class -> position or keyword of the argument; of both floating-point arguments, for a class that writes its
        result into one of them. Empty if the pass failed.
    """
    places: dict[type[Any], tuple[Place, ...]] = {}

    def note(kind: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        of_call = places_of(args, kwargs, output)
        is_same = places.get(kind, of_call) == of_call
        places[kind] = of_call if is_same else ()

    before = {module: dict(vars(module)) for module in model.modules()}
    kinds: dict[Module, type[Any]] = {mixer: type(mixer) for mixer in mixers}
    for mixer, kind in kinds.items():
        mixer.__class__ = watching_class(kind, note, stand_ins)
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
    return {kind: of_kind for kind, of_kind in places.items() if of_kind}


Note = Callable[[type[Any], tuple[Any, ...], dict[str, Any], Any], None]


def watching_class(kind: type[Any], note: Note, stand_ins: StandIns) -> type[Any]:
    """A subclass whose `forward` passes its arguments and its result to `note`.

    If `forward` fails, the result is that of `result_for`.
    """

    def forward(mixer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            output = kind.forward(mixer, *args, **kwargs)
        except Exception as error:
            output = result_for(kind, args, kwargs)
            if output is None:
                raise
            stand_ins.note("attention_not_run", f"{kind.__name__}: {in_words(error)}"[:200])
        note(kind, args, kwargs, output)
        return None if output is INTO else output

    return type(kind.__name__, (kind,), {"forward": forward})


INTO = object()
"""Stands for the result of a mixer that writes it into an argument."""


def result_for(kind: type[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the `forward` of a class that does not run here would return.

    Returns:
        An unfilled tensor like the only floating-point argument. `INTO` if `forward` declares that it returns None, and
        there are two such arguments of one shape: the hidden states, and the memory for the result. Else None.
    """
    import torch

    values = [value for _, value in floats(args, kwargs)]
    if not returns_none(kind):
        return torch.empty_like(values[0]) if len(values) == 1 else None
    shapes = {(value.shape, value.dtype) for value in values}
    return INTO if len(values) == PAIR and len(shapes) == 1 else None


PAIR = 2
"""The number of floating-point arguments of a mixer that writes its result into one of them."""


def returns_none(kind: type[Any]) -> bool:
    """Whether the `forward` of a class declares that it returns None. The declaration may be a string."""
    annotations = getattr(kind.forward, "__annotations__", {})
    return "return" in annotations and annotations["return"] in (None, "None")


def floats(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[Place, Tensor]]:
    """The arguments that are tensors of floating-point numbers, with their places."""
    import torch

    arguments: list[tuple[Place, Any]] = [*enumerate(args), *kwargs.items()]
    values: list[tuple[Place, Tensor]] = []
    for place, value in arguments:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            values.append((place, value))
    return values


def restore(before: dict[Module, dict[str, Any]]) -> None:
    """Restore the attributes of modules. In a launch the traced pass is the first one, so no earlier pass may show."""
    for module, attributes in before.items():
        vars(module).clear()
        vars(module).update(attributes)


def places_of(args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> tuple[Place, ...]:
    """The place of the argument that has the shape and type of the result. Empty if there is not exactly one.

    If the result is `INTO`, the places of both floating-point arguments.
    """
    import torch

    if output is INTO:
        return tuple(place for place, _ in floats(args, kwargs))
    if not isinstance(output, torch.Tensor):
        return ()
    alike: list[Place] = []
    arguments: list[tuple[Place, Any]] = [*enumerate(args), *kwargs.items()]
    for place, value in arguments:
        if isinstance(value, torch.Tensor) and (value.shape, value.dtype) == (output.shape, output.dtype):
            alike.append(place)
    return (alike[0],) if len(alike) == 1 else ()


def operator_of(kind: type[Any], places: tuple[Place, ...]) -> type[Any]:
    """A subclass whose `forward` only calls an operator of `OPERATORS`, with the arguments at `places`."""
    call = operator("mixed" if len(places) == 1 else "mixed_into")

    def forward(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(*(args[place] if isinstance(place, int) else kwargs[place] for place in places))

    return type(kind.__name__, (kind,), {"forward": forward})


def operator(name: str) -> Any:
    """One of `OPERATORS`."""
    import torch

    namespace = getattr(torch.ops, NAMESPACE)
    if not hasattr(namespace, name):
        library = torch.library.Library(NAMESPACE, "FRAGMENT")
        library.define(f"{name}{OPERATORS[name]}")
        library.impl(name, torch.empty_like if name == "mixed" else nothing, "CompositeExplicitAutograd")
        LIBRARIES.append(library)
    return getattr(namespace, name)


def nothing(_hidden: Any, _output: Any) -> None:
    """What `mixed_into` computes."""


LIBRARIES: list[Any] = []
"""The libraries of operators. torch removes an operator when its library object is deleted."""
