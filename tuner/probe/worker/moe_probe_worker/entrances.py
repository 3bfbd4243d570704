"""Where the MoE layers of a compiled model are entered, noted at run time.

Dynamo follows Python functions while it traces and leaves no trace of the
recorder's hooks, and on a CPU vLLM calls its MoE operator's function directly
(`_select_forward`, fused_moe/runner/moe_runner.py, 0.32.0). An operator of our
own is kept in the graph, not looked into, and runs whenever the graph runs.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moe_probe_worker.stubs import gives_pair, hidden_states, is_mixer
from shared_worker.vllm_types import Function, Json, Layers, Module, Tensor

Form = tuple[Any, ...] | None
"""Width and type of a tensor, or the form of each part of a tuple; None for None."""

_library: list[Any] = []
_listening: "list[Notes]" = []


class Notes:
    """Notes which MoE layers are entered; takes the recorder's place.

    Args:
        layers: registered name -> layer object.

    Attributes:
        stubbed: true, since the experts never compute here.
        counted: false, since names are not resolved here.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers, self.names = layers, list(layers)
        self.stubbed, self.counted = True, False
        self.entered: list[tuple[object, str]] = []

    def note(self, layer: int) -> None:
        """The layer of this index is entered now."""
        from vllm.forward_context import get_forward_context

        self.entered.append((get_forward_context(), self.names[layer]))

    def record(self, forward: Callable[[], object]) -> list[list[Json]]:
        """Run one pass; the answer is as `Recorder.record`'s."""
        self.entered = []
        _listening.append(self)
        try:
            forward()
        finally:
            _listening.remove(self)
        calls: dict[int, list[Json]] = {}
        for context, name in self.entered:
            calls.setdefault(id(context), []).append({"called": name, "ran": name})
        return list(calls.values())


def entrance_operator() -> Function:
    """Our operator: it notes a layer's index and returns zeros.

    Its schema says that it changes its argument, so that no pass drops it or moves it past another.
    """
    import torch

    def run(hidden: Tensor, layer: int, width: int) -> Tensor:
        if _listening:
            _listening[-1].note(layer)
        return zeros(hidden, layer, width)

    def zeros(hidden: Tensor, _layer: int, width: int) -> Tensor:
        return hidden.new_zeros((*hidden.shape[:-1], width))

    if not _library:
        library = torch.library.Library("moe_probe", "FRAGMENT")
        library.define("entrance(Tensor(a!) hidden, int layer, int width) -> Tensor")
        library.impl("entrance", run, "CompositeExplicitAutograd")
        torch.library.register_fake("moe_probe::entrance", zeros, lib=library)
        _library.append(library)
    operator: Function = torch.ops.moe_probe.entrance
    return operator


def mark_entrances(layers: Layers, forms: dict[str, Form]) -> None:
    """Put our operator in the place of each layer's arithmetic, which cannot choose layers.

    Args:
        layers: registered name -> layer object.
        forms: registered name -> form of what the layer returns, see `form_of`.
    """
    operator = entrance_operator()
    usual = next(iter(forms.values()), None)

    def entrance(index: int, form: Form) -> Function:
        width = max((width for width, _ in tensors(form)), default=None)

        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            output = operator(hidden, index, width or hidden.shape[-1])
            return shaped(form, output) if form else output

        return forward

    for index, (name, layer) in enumerate(layers.items()):
        layer.forward = entrance(index, forms.get(name, usual))


@contextmanager
def watched(layers: Layers, forms: dict[str, Form]) -> Iterator[list[str]]:
    """Record the name of each layer whose `forward` is called, and the form of what it returns."""
    entered: list[str] = []

    def watch(name: str, forward: Function) -> Function:
        def watching(*args: Any, **kwargs: Any) -> Any:
            entered.append(name)
            output = forward(*args, **kwargs)
            forms[name] = form_of(output)
            return output

        return watching

    with restored(layers.values()):
        for name, layer in layers.items():
            layer.forward = watch(name, layer.forward)
        yield entered


@contextmanager
def traceable(model: Module, layers: Layers, forms: dict[str, Form]) -> Iterator[None]:
    """Let Dynamo trace a model that is built for eager passes, and quickly.

    Our operator takes the place of the layers' arithmetic, and stand-ins that of all token mixers: both take most of
    the time, and neither decides which MoE layer runs.

    Args:
        model: the model.
        layers: as for `mark_entrances`.
        forms: as for `mark_entrances`.
    """
    with restored([*model.modules(), *layers.values()]):
        mark_entrances(layers, forms)
        stand_in_alike(model, model)
        for mixer in mixers(model, layers):
            mixer.forward = stand_in(type(mixer))
        yield


def mixers(model: Module, layers: Layers) -> list[Module]:
    """The token mixers of a model that hold no MoE layer."""
    named = [module for module in model.modules() if is_mixer(type(module).__name__)]
    return [module for module in named if not holds_layer(module, layers)]


def holds_layer(module: Module, layers: Layers) -> bool:
    """Whether a module is a MoE layer or has one inside."""
    registered = set(map(id, layers.values()))
    return not registered.isdisjoint(map(id, module.modules()))


@contextmanager
def restored(modules: Iterable[Module]) -> Iterator[None]:
    """Take back each `forward` that the block sets on one of these modules."""
    before = [(module, vars(module).get("forward")) for module in modules]
    try:
        yield
    finally:
        for module, forward in before:
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward


def form_of(value: Any) -> Form:
    """Width and type of a tensor, the forms of a tuple's parts, or None."""
    if isinstance(value, tuple):
        return tuple(map(form_of, value))
    return None if value is None else (int(value.shape[-1]), value.dtype)


def tensors(form: Form) -> list[tuple[int, Any]]:
    """The tensors of a form."""
    if form is None:
        return []
    if isinstance(form[0], int):
        return [(form[0], form[1])]
    return list(itertools.chain.from_iterable(map(tensors, form)))


def shaped(form: Form, output: Tensor) -> Any:
    """A result of this form, cut out of what the operator made."""
    if form is None:
        return None
    if isinstance(form[0], int):
        return output[..., : form[0]].to(form[1])
    return tuple([shaped(part, output) for part in form])


def stand_in_alike(model: Module, compiled: Module) -> None:
    """Give the compiled model the stand-ins that the eager one needed, in a form that Dynamo can trace."""
    stood_in = {type(module) for module in model.modules() if getattr(module.forward, "keeps_shape", False)}
    for module in compiled.modules():
        if type(module) in stood_in:
            module.forward = stand_in(type(module))


def stand_in(cls: Any) -> Function:
    """A `forward` like that of `stubs.keep_shape`; arguments are found by their place in the class's own signature."""
    names = list(inspect.signature(cls.forward).parameters)[1:]
    pair = gives_pair(cls)

    def forward(*args: Any, **kwargs: Any) -> Any:
        arguments = {**dict(zip(names, args)), **kwargs}  # noqa: B905  fewer arguments than names
        hidden = hidden_states(arguments)
        output = arguments.get("output")
        if output is not None:
            output.copy_(hidden[: output.shape[0]])
        return (hidden, None) if pair else hidden

    return forward
