"""Replaces layers that have no kernel on this machine by stand-ins that keep shapes.

Token mixers (attention, Mamba, …) and the experts' arithmetic do not decide
which MoE layer runs. They return a tensor with the shape of their input. If one
of them raises, only that one is replaced, and the pass runs again. The report
names every stand-in.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from moe_probe_worker.recorder import Watcher
from shared_worker.build_stand_ins import bare_init
from shared_worker.errors import is_out_of_memory
from shared_worker.vllm_types import Function, Module

MIXER = re.compile(r"Attention|Attn|Mamba|Mixer|DeltaNet|Indexer|KDA|ShortConv")
"""Words in the names of classes that mix tokens."""
MOE = re.compile(r"MoE|Moe|Expert")
"""Words in the names of classes with experts."""


class Stubs:
    """The stand-ins of one model. Leaving the context restores every class.

    Attributes:
        used: `kind` and `detail` of each stand-in, for the report.
    """

    def __init__(self) -> None:
        self.assumptions: list[dict[str, str]] = []
        self._restore: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "Stubs":  # noqa: PYI034  typing.Self is Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        for owner, attribute, original in reversed(self._restore):
            setattr(owner, attribute, original)

    def replace_class(self, error: BaseException) -> bool:
        """Replace the token mixer whose constructor raised.

        Args:
            error: what building the model raised.

        Returns:
            Whether a class was replaced. Then building again may get further.
        """
        cls = None if is_out_of_memory(error) else failed_mixer(error)
        if cls is None or any(owner is cls for owner, *_ in self._restore):
            return False
        self.patch(cls, "__init__", bare_init)
        if hasattr(cls, "process_weights_after_loading"):
            self.patch(cls, "process_weights_after_loading", lambda *_: None)
        for name in dir(cls):
            if name.startswith("forward") and callable(getattr(cls, name)):
                self.patch(cls, name, keep_shape(getattr(cls, name)))
        self._note("attention_stubbed", cls.__name__, error)
        return True

    def replace_module(self, error: BaseException, model: Module, recorder: Watcher) -> bool:
        """Replace the module or the experts that raised.

        Args:
            error: what the pass raised.
            model: the model.
            recorder: the recorder of its MoE layers.

        Returns:
            Whether something was replaced. Then the pass may be tried again.
        """
        culprit = None if is_out_of_memory(error) else failed_module(error, model, recorder)
        if culprit is None:
            return False
        if culprit == "experts":
            if recorder.stubbed:
                return False
            recorder.stubbed = True
            self._note("experts_stubbed", "expert compute", error)
            return True
        return self._replace_forward(culprit, model, error)

    def _replace_forward(self, culprit: Module, model: Module, error: BaseException) -> bool:
        if getattr(culprit.forward, "keeps_shape", False):
            return False
        forward = keep_shape(type(culprit).forward, gives_pair(type(culprit)))
        for module in model.modules():
            if type(module) is type(culprit):
                module.forward = forward.__get__(module)
        self._note("attention_stubbed", type(culprit).__name__, error)
        return True

    def excuse_layers(self, model: Module) -> None:
        """Ignore errors of linear layers and token mixers in the step after loading. The report names each.

        A linear layer keeps its weights as they are: on a CPU, that step of vLLM 0.19.1 treats the three-dimensional
        weights of a convolution as a matrix. If the layer cannot compute, a pass fails later. A token mixer is replaced
        by a stand-in: on a CPU, the latent attention of Kimi K3 in vLLM 0.32.0 reads weights that were repacked.
        """
        from vllm.model_executor.layers.linear import LinearBase

        for module in list(model.modules()):
            method: Any = getattr(module, "quant_method", None)
            step: Any = getattr(module, "process_weights_after_loading", None)
            if isinstance(module, LinearBase) and hasattr(method, "process_weights_after_loading"):
                method.process_weights_after_loading = self._excuse_layer(method.process_weights_after_loading)
            elif step is not None and is_mixer(type(module).__name__):
                vars(module)["process_weights_after_loading"] = self._excuse_mixer(step, module, model)

    def _excuse_layer(self, step: Function) -> Function:
        def process(layer: Module, *arguments: Any) -> None:
            try:
                step(layer, *arguments)
            except Exception as error:
                part = getattr(layer, "prefix", "").rpartition(".")[2] or type(layer).__name__
                self._note("attention_stubbed", f"weights of {part} left as they are", error)

        return process

    def _excuse_mixer(self, step: Function, mixer: Module, model: Module) -> Function:
        def process(*arguments: Any) -> None:
            try:
                step(*arguments)
            except Exception as error:
                self._replace_forward(mixer, model, error)

        return process

    def note_skipped(self, computed: tuple[str, ...]) -> None:
        """Note for the report that the experts compute only in these scenarios. The note is made once."""
        passes = f"in any scenario but {', '.join(computed)}" if computed else "in any scenario"
        self.note("experts_skipped", f"no expert compute {passes}")

    def note(self, kind: str, detail: str) -> None:
        """Note a stand-in for the report, once."""
        entry = {"kind": kind, "detail": detail}
        if entry not in self.assumptions:
            self.assumptions.append(entry)

    def replaces_experts(self) -> bool:
        """Whether this machine has no kernel for the experts. They must not compute: a wrong kernel breaks memory."""
        return any(entry["kind"] == "experts_stubbed" for entry in self.assumptions)

    def patch(self, owner: Any, attribute: str, replacement: object) -> None:
        """Replace an attribute until the context ends."""
        self._restore.append((owner, attribute, getattr(owner, attribute)))
        setattr(owner, attribute, replacement)

    def _note(self, kind: str, subject: str, error: BaseException) -> None:
        message = " ".join(str(error).split())[:160] or "no message"
        self.note(kind, f"{subject}: {type(error).__name__}: {message}")


def gives_pair(cls: Any) -> bool:
    """Whether the class is from transformers and its `forward` returns a tuple, of output and attention weights."""
    annotation = str(inspect.signature(cls.forward).return_annotation).lower()
    return cls.__module__.startswith("transformers.") and annotation.removeprefix("typing.").startswith("tuple")


def return_counts(original: Function) -> set[int]:
    """The numbers of values in the `return` statements of a function's source. Empty if the source cannot be read."""
    with suppress(OSError, SyntaxError, TypeError):
        tree = ast.parse(textwrap.dedent(inspect.getsource(original)))
        sizes = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Return):
                sizes.add(len(node.value.elts) if isinstance(node.value, ast.Tuple) else 1)
        return sizes
    return set()


def keep_shape(original: Function, pair: bool = False) -> Function:
    """Make a `forward` that returns its hidden states. If it has an `output` argument, it copies them there too.

    Args:
        original: the replaced `forward`. If it returns several values, the new one returns the hidden states for each.
            If it returns one or two values, as a norm does, the new one returns a residual only if it gets one.
        pair: return the hidden states and None.
    """
    signature, sizes = inspect.signature(original), return_counts(original)

    def forward(module: Module, *args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind_partial(module, *args, **kwargs).arguments
        hidden = hidden_states(arguments)
        output = arguments.get("output")
        if output is not None:
            output.copy_(hidden[: output.shape[0]])
        if pair:
            return hidden, None
        if sizes == {1, 2} and arguments.get("residual") is not None:
            return hidden, arguments["residual"]
        if len(sizes) == 1 and sizes != {1}:
            return (hidden,) * max(sizes)
        return hidden

    setattr(forward, "keeps_shape", True)  # noqa: B010  mypy does not know this attribute
    return forward


def hidden_states(arguments: dict[str, Any]) -> Any:
    """The hidden states among the arguments: the one with that name, else the first floating-point tensor.

    Raises:
        ValueError: there is no such tensor.
    """
    import torch

    if isinstance(arguments.get("hidden_states"), torch.Tensor):
        return arguments["hidden_states"]
    for argument in arguments.values():
        for value in argument.values() if isinstance(argument, dict) else [argument]:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value
    raise ValueError("no argument carries hidden states")


def owners(error: BaseException) -> Iterator[object]:
    """The `self` of each frame in the traceback that has one, outermost first."""
    trace = error.__traceback__
    while trace is not None:
        if "self" in trace.tb_frame.f_locals:
            yield trace.tb_frame.f_locals["self"]
        trace = trace.tb_next


def failed_mixer(error: BaseException) -> type | None:
    """The class of the outermost token mixer in the traceback, or None."""
    import torch

    for owner in owners(error):
        if isinstance(owner, torch.nn.Module) and is_mixer(type(owner).__name__):
            return type(owner)
    return None


def is_mixer(name: str) -> bool:
    """Whether a class with this name is a token mixer that does not contain other mixers or experts."""
    return bool(MIXER.search(name)) and not is_container(name)


def is_container(name: str) -> bool:
    """Whether a class with this name contains several mixers or a MoE layer."""
    return bool(MOE.search(name)) or name.endswith(("Layer", "Model", "ForCausalLM", "ForConditionalGeneration"))


def failed_module(error: BaseException, model: Module, recorder: Watcher) -> Any:
    """Find what to replace after a failed pass.

    Returns:
        The outermost module in the traceback that is inside a decoder layer and does not contain a MoE layer; or the
        string `experts` if a MoE layer raised; or None if the failure is elsewhere (embedding, the model itself).
    """
    import torch

    elements: set[int] = set()
    for module in model.modules():
        if isinstance(module, torch.nn.ModuleList):
            elements.update(map(id, module))
    moe_layers = set(map(id, recorder.layers.values()))
    inside_layer = False
    for owner in owners(error):
        if not isinstance(owner, torch.nn.Module):
            continue
        if id(owner) in moe_layers:
            return "experts"
        if id(owner) in elements:
            inside_layer = True
        elif inside_layer and moe_layers.isdisjoint(map(id, owner.modules())):
            return owner
    return None
