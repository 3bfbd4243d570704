"""Records at run time which MoE layers a compiled model enters.

The recorder's hooks do not work there: Dynamo runs them while it traces, and
they are not part of the graph. On a CPU vLLM calls the function of its MoE
operator directly (`_select_forward`, fused_moe/runner/moe_runner.py, 0.32.0).
So the probe puts its own operator into the graph. Dynamo does not trace into it,
and it runs each time the graph runs.
"""

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from moe_probe_worker.stubs import gives_pair, hidden_states, is_mixer
from shared_worker.vllm_types import Function, Json, Layers, Module, Tensor

Form = tuple[Any, ...] | None
"""The form of an output: width and data type of a tensor, the forms of a tuple's parts, or None for None."""

_library: list[Any] = []
"""The library of the probe's operator, once it is made. It must stay in memory."""
_active_notes: "list[Notes]" = []
"""The `Notes` of the passes that run now, innermost last."""


class Notes:
    """Records which MoE layers are entered. Compiled passes use it in place of `Recorder`.

    Args:
        layers: registered name -> layer object.

    Attributes:
        stubbed: true, because the experts never compute here.
        counted: false, because vLLM does not resolve names here.
        entered_layers: forward context and registered name of each entered layer, in order.
    """

    def __init__(self, layers: Layers) -> None:
        self.layers, self.names = layers, list(layers)
        self.stubbed, self.counted = True, False
        self.entered_layers: list[tuple[object, str]] = []

    def note(self, layer: int) -> None:
        """Add the layer with this index in `layers`. The operator calls it."""
        from vllm.forward_context import get_forward_context

        self.entered_layers.append((get_forward_context(), self.names[layer]))

    def record(self, forward: Callable[[], object]) -> list[list[Json]]:
        """Run one pass. Returns the same as `Recorder.record`."""
        self.entered_layers = []
        _active_notes.append(self)
        try:
            forward()
        finally:
            _active_notes.remove(self)
        calls: dict[int, list[Json]] = {}
        for context, name in self.entered_layers:
            calls.setdefault(id(context), []).append({"called": name, "ran": name})
        return list(calls.values())


def entrance_operator() -> Function:
    """The probe's operator `moe_probe::entrance`. It records the index of a layer and returns zeros.

    Its schema says that it changes its argument. So compiler passes neither remove it nor reorder it.
    """
    import torch

    def run(hidden: Tensor, layer: int, width: int) -> Tensor:
        if _active_notes:
            _active_notes[-1].note(layer)
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
    """Replace the `forward` of each layer by the probe's operator. A layer's arithmetic does not choose layers.

    Args:
        layers: registered name -> layer object.
        forms: registered name -> form of the layer's output, as from `form_of`. A layer without one gets the first.
    """
    operator = entrance_operator()
    usual = next(iter(forms.values()), None)

    def entrance(index: int, form: Form) -> Function:
        width = max((width for width, _ in tensors(form)), default=None)

        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
            output = operator(hidden, index, width or hidden.shape[-1])
            return in_form(form, output) if form else output

        return forward

    for index, (name, layer) in enumerate(layers.items()):
        layer.forward = entrance(index, forms.get(name, usual))


@contextmanager
def watch_layers(layers: Layers, forms: dict[str, Form]) -> Iterator[list[str]]:
    """Record the calls of each layer's `forward` in the block.

    Args:
        layers: registered name -> layer object.
        forms: gets registered name -> form of the layer's output.

    Yields:
        The names of the called layers, in order.
    """
    called: list[str] = []

    def watch(name: str, forward: Function) -> Function:
        def note_and_call(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            output = forward(*args, **kwargs)
            forms[name] = form_of(output)
            return output

        return note_and_call

    with restore_forwards(layers.values()):
        for name, layer in layers.items():
            layer.forward = watch(name, layer.forward)
        yield called


@contextmanager
def make_traceable(model: Module, layers: Layers, forms: dict[str, Form]) -> Iterator[None]:
    """Make Dynamo able to trace a model that was built for eager passes, in little time.

    The probe's operator replaces the MoE layers, and stand-ins replace all token mixers. They take most of the time,
    and they do not decide which MoE layer runs. Everything is restored after the block.

    Args:
        model: the model.
        layers: as for `mark_entrances`.
        forms: as for `mark_entrances`.
    """
    with restore_forwards([*model.modules(), *layers.values()]):
        mark_entrances(layers, forms)
        stand_in_alike(model, model)
        for mixer in mixers(model, layers):
            mixer.forward = stand_in(type(mixer))
        yield


def mixers(model: Module, layers: Layers) -> list[Module]:
    """The token mixers of a model that do not contain a MoE layer."""
    candidates = [module for module in model.modules() if is_mixer(type(module).__name__)]
    return [module for module in candidates if not holds_layer(module, layers)]


def holds_layer(module: Module, layers: Layers) -> bool:
    """Whether a module is or contains a MoE layer."""
    registered = set(map(id, layers.values()))
    return not registered.isdisjoint(map(id, module.modules()))


@contextmanager
def restore_forwards(modules: Iterable[Module]) -> Iterator[None]:
    """Restore the `forward` of these modules after the block."""
    before = [(module, vars(module).get("forward")) for module in modules]
    try:
        yield
    finally:
        for module, forward in before:
            vars(module).pop("forward", None)
            if forward is not None:
                module.forward = forward


def form_of(value: Any) -> Form:
    """The form of a layer's output, see `Form`."""
    if isinstance(value, tuple):
        return tuple(map(form_of, value))
    return None if value is None else (int(value.shape[-1]), value.dtype)


def tensors(form: Form) -> list[tuple[int, Any]]:
    """Width and data type of each tensor in a form."""
    if form is None:
        return []
    if isinstance(form[0], int):
        return [(form[0], form[1])]
    return list(itertools.chain.from_iterable(map(tensors, form)))


def in_form(form: Form, output: Tensor) -> Any:
    """A result of this form, made from the first columns of the operator's output."""
    if form is None:
        return None
    if isinstance(form[0], int):
        return output[..., : form[0]].to(form[1])
    return tuple([in_form(part, output) for part in form])


def stand_in_alike(model: Module, compiled: Module) -> None:
    """Replace the same classes in the compiled model as in the eager one, with stand-ins that Dynamo can trace."""
    replaced = {type(module) for module in model.modules() if getattr(module.forward, "keeps_shape", False)}
    for module in compiled.modules():
        if type(module) in replaced:
            module.forward = stand_in(type(module))


def stand_in(cls: Any) -> Function:
    """A `forward` like that of `stubs.keep_shape`, but without `inspect` at run time, so that Dynamo can trace it."""
    names = list(inspect.signature(cls.forward).parameters)[1:]
    pair = gives_pair(cls)

    def forward(*args: Any, **kwargs: Any) -> Any:
        arguments = {**dict(zip(names, args)), **kwargs}  # noqa: B905  there may be fewer arguments than names
        hidden = hidden_states(arguments)
        output = arguments.get("output")
        if output is not None:
            output.copy_(hidden[: output.shape[0]])
        return (hidden, None) if pair else hidden

    return forward
