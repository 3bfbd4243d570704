"""Stand-ins that keep shapes, for layers that have no kernel on this machine.

Token mixers (attention, Mamba, …) and the experts' arithmetic do not decide
which MoE layer runs: they return a tensor of the shape of their input. When one
of them raises, only that one is replaced, and the pass is run again. The report
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
from shared_worker.vllm_types import Function, Module

MIXER = re.compile(r"Attention|Attn|Mamba|Mixer|DeltaNet|Indexer|KDA|ShortConv")
MOE = re.compile(r"MoE|Moe|Expert")


class Stubs:
    """The stand-ins of one model; leaving the context restores every class.

    Attributes:
        used: for the report, `{"kind", "detail"}` for each stand-in.
    """

    def __init__(self) -> None:
        self.used: list[dict[str, str]] = []
        self._restore: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> "Stubs":  # noqa: PYI034  typing.Self is Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        for owner, attribute, original in reversed(self._restore):
            setattr(owner, attribute, original)

    def replace_class(self, error: BaseException) -> bool:
        """After a failed construction: stand in for the token mixer whose constructor raised.

        Returns:
            Whether one was found, so that building again may go further.
        """
        cls = failed_mixer(error)
        if cls is None or any(owner is cls for owner, *_ in self._restore):
            return False
        self.patch(cls, "__init__", bare_init)
        if hasattr(cls, "process_weights_after_loading"):
            self.patch(cls, "process_weights_after_loading", lambda *_: None)
        for name in [name for name in dir(cls) if name.startswith("forward") and callable(getattr(cls, name))]:
            self.patch(cls, name, keep_shape(getattr(cls, name)))
        self._note("attention_stubbed", cls.__name__, error)
        return True

    def replace_module(self, error: BaseException, model: Module, recorder: Watcher) -> bool:
        """After a failed pass: stand in for the module or the experts that raised.

        Returns:
            Whether something was replaced, so that the pass may be tried again.
        """
        culprit = failed_module(error, model, recorder)
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
        """Let a linear layer keep its weights as they are if its step after loading fails; the report names it.

        On a CPU, vLLM 0.19.1 treats the three-dimensional weights of a convolution as a matrix there. If such a
        layer cannot compute either, a pass fails.
        """
        from vllm.model_executor.layers.linear import LinearBase

        for module in model.modules():
            method: Any = getattr(module, "quant_method", None)
            if isinstance(module, LinearBase) and hasattr(method, "process_weights_after_loading"):
                method.process_weights_after_loading = self._excused(method.process_weights_after_loading)

    def _excused(self, step: Function) -> Function:
        def process(layer: Module, *arguments: Any) -> None:
            try:
                step(layer, *arguments)
            except Exception as error:
                part = getattr(layer, "prefix", "").rpartition(".")[2] or type(layer).__name__
                self._note("attention_stubbed", f"weights of {part} left as they are", error)

        return process

    def note_skipped(self, computed: tuple[str, ...]) -> None:
        """Note, once, the only scenarios in which the experts computed."""
        passes = f"in any scenario but {', '.join(computed)}" if computed else "in any scenario"
        entry = {"kind": "experts_skipped", "detail": f"no expert compute {passes}"}
        if entry not in self.used:
            self.used.append(entry)

    def patch(self, owner: Any, attribute: str, replacement: object) -> None:
        """Replace an attribute until the context is left."""
        self._restore.append((owner, attribute, getattr(owner, attribute)))
        setattr(owner, attribute, replacement)

    def _note(self, kind: str, what: str, error: BaseException) -> None:
        message = " ".join(str(error).split())[:160] or "no message"
        entry = {"kind": kind, "detail": f"{what}: {type(error).__name__}: {message}"}
        if entry not in self.used:
            self.used.append(entry)


def bare_init(module: Module, *_args: object, **_kwargs: object) -> None:
    """Construct nothing but the module itself."""
    import torch

    torch.nn.Module.__init__(module)


def gives_pair(cls: Any) -> bool:
    """Whether it is an attention of transformers, whose forward returns the weights of attention besides."""
    annotation = str(inspect.signature(cls.forward).return_annotation).lower()
    return cls.__module__.startswith("transformers.") and annotation.removeprefix("typing.").startswith("tuple")


def answers(original: Function) -> set[int]:
    """How many values a function returns, by its source, in each of its returns; empty where that cannot be told."""
    with suppress(OSError, SyntaxError, TypeError):
        tree = ast.parse(textwrap.dedent(inspect.getsource(original)))
        sizes = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Return):
                sizes.add(len(node.value.elts) if isinstance(node.value, ast.Tuple) else 1)
        return sizes
    return set()


def keep_shape(original: Function, pair: bool = False) -> Function:
    """A `forward` that returns its hidden states (`pair`: and None), or copies them to its `output` argument.

    If the original returns several values, such as the residual, it returns the hidden states for each. A norm that
    returns the residual only if it gets one does the same.
    """
    signature, sizes = inspect.signature(original), answers(original)

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
        copies = max(sizes) if len(sizes) == 1 else 1
        return hidden if copies == 1 else (hidden,) * copies

    setattr(forward, "keeps_shape", True)  # noqa: B010  no attribute of a function
    return forward


def hidden_states(arguments: dict[str, Any]) -> Any:
    """The argument that carries the hidden states: by name, else the first floating tensor."""
    import torch

    if isinstance(arguments.get("hidden_states"), torch.Tensor):
        return arguments["hidden_states"]
    for argument in arguments.values():
        for value in argument.values() if isinstance(argument, dict) else [argument]:
            if isinstance(value, torch.Tensor) and value.is_floating_point():
                return value
    raise ValueError("no argument carries hidden states")


def owners(error: BaseException) -> Iterator[object]:
    """`self` of each frame of the traceback that has one, outermost first."""
    trace = error.__traceback__
    while trace is not None:
        if "self" in trace.tb_frame.f_locals:
            yield trace.tb_frame.f_locals["self"]
        trace = trace.tb_next


def failed_mixer(error: BaseException) -> type | None:
    """The outermost token-mixer class whose constructor raised, or None."""
    import torch

    for owner in owners(error):
        if isinstance(owner, torch.nn.Module) and is_mixer(type(owner).__name__):
            return type(owner)
    return None


def is_mixer(name: str) -> bool:
    """Whether a class of this name mixes tokens, and does not contain other mixers or experts."""
    return bool(MIXER.search(name)) and not is_container(name)


def is_container(name: str) -> bool:
    """Whether a class of this name holds more than one mixer, or an MoE layer."""
    return bool(MOE.search(name)) or name.endswith(("Layer", "Model", "ForCausalLM", "ForConditionalGeneration"))


def failed_module(error: BaseException, model: Module, recorder: Watcher) -> Any:
    """The outermost module in the traceback below a decoder layer and without an MoE layer inside.

    Returns:
        The module; the word `experts` if an MoE layer's own implementation
        raised; None if the failure lies elsewhere (embedding, the model itself).
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
