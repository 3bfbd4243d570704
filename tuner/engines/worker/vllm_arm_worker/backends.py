"""Which MoE backends vLLM's own oracle allows for a model on this device.

Each oracle (vllm/model_executor/layers/fused_moe/oracle, from 0.19.0 on) asks classes of experts whether they support a
layer. This module records these questions, and asks them again for every backend that `--moe-backend` takes.
"""

import sys
from typing import Any, NamedTuple, get_args

from shared_worker.vllm_types import VllmConfig

ORACLES = "vllm.model_executor.layers.fused_moe.oracle"


class Question(NamedTuple):
    """A question that an oracle asked.

    Attributes:
        oracle: the name of its module.
        arguments: the arguments of `is_supported_config` after the class.
    """

    oracle: str
    arguments: tuple[Any, ...]


_questions: list[Question] = []


def install() -> None:
    """Record the questions of all oracles. Does nothing in a release without them."""
    try:
        from vllm.model_executor.layers.fused_moe import modular_kernel
    except ImportError:
        return
    experts = getattr(modular_kernel, "FusedMoEExperts", None)
    ask = getattr(experts, "is_supported_config", None)
    if experts is None or ask is None:
        return

    def note_and_ask(cls: Any, *args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith(ORACLES) and not kwargs:
            _questions.append(Question(caller, args))
        return ask(cls, *args, **kwargs)

    experts.is_supported_config = staticmethod(note_and_ask)


def model_backends(vllm_config: VllmConfig) -> dict[str, Any]:
    """The backends of a loaded model.

    Returns:
        `chosen`: the names of the backends that its layers use, in vLLM's own words. `candidates`: the values of
        `--moe-backend` that the oracle allows for it; empty if this release has no such option.
    """
    layers = vllm_config.compilation_config.static_forward_context
    names = list(getattr(vllm_config.compilation_config, "static_all_moe_layers", []))
    chosen: set[str] = set()
    for name in names:
        chosen.update(of_layer(layers[name]))
    return {"chosen": sorted(chosen), "candidates": candidates()}


def of_layer(layer: Any) -> list[str]:
    """The backends that a layer uses: the members of an oracle's enum among the attributes of its method."""
    chosen: list[str] = []
    for owner in (layer, getattr(layer, "runner", None), getattr(layer, "routed_experts", None)):
        for name in ("quant_method", "_quant_method"):
            method = getattr(owner, name, None)
            values = vars(method).values() if method is not None else ()
            chosen += [str(value.value) for value in values if type(value).__module__.startswith(ORACLES)]
    return chosen


def candidates() -> list[str]:
    """The values of `--moe-backend` that the oracle of this model allows on this device."""
    try:
        from vllm.config.kernel import MoEBackend
    except ImportError:
        return []
    if not _questions:
        return []
    question = _questions[-1]
    return [name for name in get_args(MoEBackend) if name != "auto" and allows(question, name)]


def allows(question: Question, name: str) -> bool:
    """Whether the oracle that asked this question would use a backend. False if it does not know the backend."""
    oracle = sys.modules[question.oracle]
    for backend in members_of(oracle, name):
        if any(supports(kernel, question) for kernel in oracle.backend_to_kernel_cls(backend)):
            return True
    return False


def members_of(oracle: Any, name: str) -> list[Any]:
    """The members of the oracle's enum for a value of `--moe-backend`. Empty if it does not know the value.

    Each oracle has one function for this, such as `map_unquantized_backend`.
    """
    functions = [value for key, value in vars(oracle).items() if key.startswith("map_") and "backend" in key]
    if not functions:
        return []
    try:
        members = functions[0](name)
    except (ValueError, KeyError):
        return []
    return members if isinstance(members, list) else [members]


def supports(kernel: Any, question: Question) -> bool:
    """Whether a class of experts supports the layer."""
    try:
        return bool(kernel.is_supported_config(kernel, *question.arguments)[0])
    except Exception:  # a kernel whose library is missing
        return False
