"""Shape-keeping stand-ins for what this machine has no kernel for.

Token mixers (attention, Mamba, …) and the experts' arithmetic do not decide
which MoE layer runs: they return a tensor of the shape they were given. So when
one of them raises, it alone is replaced and the pass is tried again. Every
stand-in is named in the report.
"""

import inspect
import re
from collections.abc import Iterator

MIXER = re.compile(r"Attention|Attn|Mamba|Mixer|DeltaNet|Indexer|KDA|ShortConv")
MOE = re.compile(r"MoE|Moe|Expert")


class Stubs:
    """The stand-ins of one model; leaving the context restores every class.

    Attributes:
        used: for the report, `{"kind", "detail"}` for each stand-in.
    """

    def __init__(self) -> None:
        self.used: list[dict] = []
        self._restore: list[tuple] = []

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
        self.patch(cls, "forward", keep_shape(inspect.signature(cls.forward)))
        self._note("attention_stubbed", cls.__name__, error)
        return True

    def replace_module(self, error: BaseException, model, recorder) -> bool:
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

    def _replace_forward(self, culprit, model, error: BaseException) -> bool:
        if getattr(culprit.forward, "keeps_shape", False):
            return False
        forward = keep_shape(inspect.signature(type(culprit).forward), gives_pair(type(culprit)))
        for module in model.modules():
            if type(module) is type(culprit):
                module.forward = forward.__get__(module)
        self._note("attention_stubbed", type(culprit).__name__, error)
        return True

    def note_skipped(self, computed: tuple) -> None:
        """Say once in which scenarios alone the experts computed."""
        passes = f"in any scenario but {', '.join(computed)}" if computed else "in any scenario"
        said = {"kind": "experts_skipped", "detail": f"no expert compute {passes}"}
        if said not in self.used:
            self.used.append(said)

    def patch(self, owner, attribute: str, replacement) -> None:
        """Replace an attribute until the context is left."""
        self._restore.append((owner, attribute, getattr(owner, attribute)))
        setattr(owner, attribute, replacement)

    def _note(self, kind: str, what: str, error: BaseException) -> None:
        said = " ".join(str(error).split())[:160] or "no message"
        self.used.append({"kind": kind, "detail": f"{what}: {type(error).__name__}: {said}"})


def bare_init(module, *_args, **_kwargs) -> None:
    """Construct nothing but the module itself."""
    import torch

    torch.nn.Module.__init__(module)


def gives_pair(cls: type) -> bool:
    """Whether it is an attention of transformers, whose forward returns the weights of attention besides."""
    said = str(inspect.signature(cls.forward).return_annotation).lower()
    return cls.__module__.startswith("transformers.") and said.removeprefix("typing.").startswith("tuple")


def keep_shape(signature: inspect.Signature, pair: bool = False):
    """A `forward` that returns its hidden states (`pair`: and None), or copies them to its `output` argument."""

    def forward(module, *args, **kwargs):
        given = signature.bind_partial(module, *args, **kwargs).arguments
        hidden = hidden_states(given)
        output = given.get("output")
        if output is not None:
            output.copy_(hidden[: output.shape[0]])
        return (hidden, None) if pair else hidden

    forward.keeps_shape = True
    return forward


def hidden_states(given: dict):
    """The argument that carries the hidden states: by name, else the first floating tensor."""
    import torch

    if isinstance(given.get("hidden_states"), torch.Tensor):
        return given["hidden_states"]
    flat = [item for value in given.values() for item in (value.values() if isinstance(value, dict) else [value])]
    return next(value for value in flat if isinstance(value, torch.Tensor) and value.is_floating_point())


def owners(error: BaseException) -> Iterator[object]:
    """`self` of each frame of the traceback that has one, outermost first."""
    trace = error.__traceback__
    while trace is not None:
        if "self" in trace.tb_frame.f_locals:
            yield trace.tb_frame.f_locals["self"]
        trace = trace.tb_next


def failed_mixer(error: BaseException):
    """The outermost token-mixer class whose constructor raised, or None."""
    classes = (type(owner) for owner in owners(error))
    return next((cls for cls in classes if MIXER.search(cls.__name__) and not is_container(cls.__name__)), None)


def is_container(name: str) -> bool:
    """Whether a class of this name holds more than one mixer, or an MoE layer."""
    return bool(MOE.search(name)) or name.endswith(("Layer", "Model", "ForCausalLM", "ForConditionalGeneration"))


def failed_module(error: BaseException, model, recorder):
    """The outermost module in the traceback below a decoder layer and without an MoE layer inside.

    Returns:
        The module; the word `experts` if an MoE layer's own implementation
        raised; None if the failure lies elsewhere (embedding, the model itself).
    """
    import torch

    elements = {id(child) for module in model.modules() if isinstance(module, torch.nn.ModuleList) for child in module}
    moe_layers = {id(layer) for layer in recorder.layers.values()}
    inside_layer = False
    for owner in owners(error):
        if not isinstance(owner, torch.nn.Module):
            continue
        if id(owner) in moe_layers:
            return "experts"
        if id(owner) in elements:
            inside_layer = True
        elif inside_layer and not any(id(part) in moe_layers for part in owner.modules()):
            return owner
    return None
