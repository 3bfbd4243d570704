"""Whether a launch would load what the compile cache holds. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple

from tuner.compile_cache.difference import Difference, Effect

VLLM_COMPILE = 3
"""The mode with vLLM's own backend (vllm/config/compilation.py, all releases)."""


class Answer(StrEnum):
    """What a launch would find."""

    HIT = "hit"
    MISS = "miss"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Key:
    """One folder that the launch looks in.

    Attributes:
        module: name of the compiled module in the model.
        function: what is compiled.
        key: the folder's name below `torch_compile_cache/torch_aot_compile`.
        missing: the ranks, as vLLM names their folders, that lack an artifact there.
    """

    module: str
    function: str
    key: str
    missing: tuple[str, ...]


class Judged(NamedTuple):
    """An answer, and why; one sentence."""

    answer: Answer
    reason: str


@dataclass(frozen=True)
class Prediction:
    """The answer, the folders, and why; whole sentences."""

    answer: Answer
    keys: tuple[Key, ...]
    reasons: tuple[str, ...]


def expected_ranks(factors: Mapping[str, Any]) -> list[str]:
    """The folders of the ranks of one node's first data-parallel replica (vllm/compilation/decorators.py)."""
    parallel = factors["config"]["parts"]["parallel_config"]["factors"]
    return [f"rank_{rank}_0" for rank in range(int(parallel.get("tensor_parallel_size") or 1))]


def predict(
    factors: Mapping[str, Any],
    keys: Sequence[Key],
    differences: Sequence[Difference] | None,
    warmed: bool | None,
    graphs: Judged | None,
) -> Prediction:
    """Judge a launch.

    Args:
        factors: the launch's document (`tuner.compile_cache.factors`).
        keys: its folders, as they are.
        differences: what differs from the launch that filled the cache; None: nothing to compare with.
        warmed: whether the second start of that launch loaded what lies in the same folders; None: not known.
        graphs: what is known of the folder of graphs (`tuner.compile_cache.graph_prediction`); None: this launch
            needs none.
    """
    judged = _judged(factors, keys, differences or (), warmed)
    answer, reasons = judged.answer, [judged.reason]
    if graphs is not None and _counts(factors, keys, answer):
        answer = answer if keys and graphs.answer is Answer.HIT else graphs.answer
        reasons = [*reasons, graphs.reason] if keys else [graphs.reason]
    if differences is None and keys and not any(map(attrgetter("missing"), keys)):
        reasons.append("Source files were not compared: there is no record of the warm-up.")
    return Prediction(answer, tuple(keys), tuple(reasons))


def _counts(factors: Mapping[str, Any], keys: Sequence[Key], answer: Answer) -> bool:
    """Whether the folder of graphs counts: it is needed beside an artifact that is loaded, or it is all there is."""
    compiles = factors["compiles"]
    return not compiles["disabled"] and (bool(keys) or not compiles["aot"]) and answer is not Answer.MISS


def _judged(
    factors: Mapping[str, Any], keys: Sequence[Key], differences: Sequence[Difference], warmed: bool | None
) -> Judged:
    if factors["compiles"]["disabled"]:
        return Judged(Answer.MISS, "This launch reads no cache: VLLM_DISABLE_COMPILE_CACHE is set.")
    if not keys:
        return Judged(Answer.UNKNOWN, factors["keys"]["unknown"])
    if missing := [key for key in keys if key.missing]:
        lack = "; ".join(f"{key.key} ({', '.join(key.missing)})" for key in missing)
        return Judged(Answer.MISS, f"There is no artifact under the predicted key: {lack}.")
    return _loading(factors, differences, warmed)


def _loading(factors: Mapping[str, Any], differences: Sequence[Difference], warmed: bool | None) -> Judged:
    """Every artifact is there; whether vLLM will load it."""
    here = "The artifacts are there under the predicted key"
    effects = set(map(attrgetter("effect"), differences))
    if Effect.LOAD in effects:
        return Judged(Answer.MISS, f"{here}, but vLLM compiles again for what differs.")
    if warmed is not None:
        if warmed:
            return Judged(Answer.HIT, f"{here}, and the second start of the warm-up loaded them.")
        return Judged(Answer.MISS, f"{here}, but the warm-up could not load them.")
    compiles = factors["compiles"]
    if compiles["mode"] != VLLM_COMPILE:
        return _without_backend(here, compiles)
    if Effect.MAYBE in effects:
        return Judged(Answer.UNKNOWN, f"{here}; whether vLLM loads them depends on what its trace ran through.")
    return Judged(Answer.HIT, f"{here}.")


def _without_backend(here: str, compiles: Mapping[str, Any]) -> Judged:
    """The answer where torch compiled and vLLM's loader needs a function of vLLM's: seen in 0.19.1 and 0.32.0."""
    if why := why_unloadable(compiles):
        return Judged(Answer.MISS, f"{here}, but vLLM cannot load them: {why}; it compiles again.")
    return Judged(Answer.UNKNOWN, f"{here}; {_how(compiles)}, and whether this release loads them was not seen.")


def why_unloadable(compiles: Mapping[str, Any]) -> str:
    """Why vLLM cannot load what this launch saves, as half a sentence; empty where it can, or where it is not known.

    Args:
        compiles: how the launch compiles, of its factors (`tuner.compile_cache.factors`).
    """
    if not compiles["aot"] or compiles["mode"] == VLLM_COMPILE or not compiles["loads_own_alone"]:
        return ""
    return (
        f"{_how(compiles)}, and its loader needs a function of its own backend "
        "(\"'function' object has no attribute 'finalize_loading'\")"
    )


def _how(compiles: Mapping[str, Any]) -> str:
    return f"this launch compiles in mode {compiles['mode']} with the backend {compiles['backend']}"
