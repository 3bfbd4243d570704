"""verdict + flag status + serving facts -> decision: what the launch should say about the flag, and about compiling."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeGuard

from rules.releases import Flag, FlagStatus
from rules.settings import DRAFT, not_covered, seen_unsafe, word_of
from rules.verdict import Verdict, Word

NAME = "fast_moe_cold_start"
MODE = "mode"
"""The key of the compilation config that says how vLLM compiles (0.14.1 to 0.33.0)."""
EAGER = 0
"""Its value for not at all: `CompilationMode.NONE` (vllm/config/compilation.py)."""


class Refusal(StrEnum):
    """Why a launch must not happen."""

    NONE = "none"
    UNSAFE = "unsafe"
    """The counter is on, resolves this model's layers wrongly, and no setting of the launch helps."""
    UNKNOWN = "unknown"
    """Asked to be strict, and nothing is known."""


@dataclass(frozen=True)
class Facts:
    """What the launch itself says that matters.

    Attributes:
        speculative: speculative decoding is configured and its draft model is not stored as `no_moe`.
        counts_drafts: this vLLM counts a draft's layers too, whatever it is told (0.15.0).
        explicit: the user's own value of the flag; None if they gave none.
        settings: launch settings the probe of the model itself did not use, by name (see `rules.settings`).
        strict: refuse where nothing is known and the flag may be on.
        enforce: refuse where the user's value contradicts an unsafe verdict.
        compiles: what the user's own settings say of compiling; None if they say nothing.
    """

    speculative: bool = False
    counts_drafts: bool = False
    explicit: bool | None = None
    settings: tuple[str, ...] = ()
    strict: bool = False
    enforce: bool = False
    compiles: bool | None = None


@dataclass(frozen=True)
class Decision:
    """What to write into the launch.

    Attributes:
        setting: value to write for the flag; None: write nothing.
        reasons: why, whole sentences.
        warnings: what the operator should know before starting.
        refusal: whether the launch must not happen, and why.
        conditions: what must stay true for the setting to stay right; travels with an exported `true`.
        mode: value to write for the compile mode; None: write nothing.
        mode_reasons: what was found of the compiled model that matters here, whatever the flag.
    """

    setting: bool | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    refusal: Refusal = Refusal.NONE
    conditions: tuple[str, ...] = field(default=())
    mode: int | None = None
    mode_reasons: tuple[str, ...] = ()


def decide(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    """Decide one launch. Total over every verdict, flag status and fact.

    Args:
        verdict: the stored verdict; None if there is none.
        flag: what the flag can do in the serving environment.
        facts: what the launch says.
    """
    decision = BY_STATUS[flag.status](verdict, flag, facts)
    if facts.explicit is not None:
        decision = _explicit(decision, verdict, flag, facts)
    return _advised(decision, verdict, facts) if _frozen(verdict) else decision


def _nothing(_: Verdict | None, flag: Flag, __: Facts) -> Decision:
    return Decision(None, (f"{NAME} is {flag.status} here: {flag.reason}",))


def _always_on(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    reason = f"{NAME} cannot be changed here: {flag.reason}"
    if facts.speculative and facts.counts_drafts:
        said = "this release counts the draft model's MoE layers too and resolves them wrongly"
        return Decision(None, (reason, said, OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if facts.speculative:
        return Decision(None, (reason, "with speculative decoding this release turns it off by itself"))
    if unsafe := _unsafe(verdict, facts):
        said = f"{unsafe}: this release would run wrong experts"
        return Decision(None, (reason, said, OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if _proved(verdict, facts):
        return Decision(None, (reason, f"the verdict is {_word(verdict)}: that is safe"))
    return _unproved(reason, verdict, facts)


def _unknown(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    reason = f"what {NAME} does here is not known: {flag.reason}"
    proved = _proved(verdict, facts) and not facts.speculative
    if flag.takes_key and not (proved and _word(verdict) == Word.NO_MOE):
        return Decision(False, (reason, f"this vLLM takes the key, so it is switched off ({_stored(verdict, facts)})"))
    if unsafe := _unsafe(verdict, facts):
        said = f"{unsafe}: if this vLLM counts MoE layers, it runs wrong experts"
        return Decision(None, (reason,), (said,), Refusal.UNKNOWN if facts.strict else Refusal.NONE)
    if proved:
        return Decision(None, (reason, f"the verdict is {_word(verdict)}: counting would be safe"))
    return _unproved(reason, verdict, facts)


def _stored(verdict: Verdict | None, facts: Facts) -> str:
    """What is known of a launch whose vLLM may count in a way of its own, in a few words."""
    if unsafe := _unsafe(verdict, facts):
        return f"{unsafe}: counting would run wrong experts"
    if _proved(verdict, facts) and not facts.speculative:
        return f"the verdict is {_word(verdict)}, and holds where MoE layers are counted as in known releases"
    return f"not proved safe: {_doubt(verdict, facts)}"


def _unproved(reason: str, verdict: Verdict | None, facts: Facts) -> Decision:
    """The flag may be on and nothing can be written about it."""
    said = f"nothing proves that counting MoE layers is safe here ({_doubt(verdict, facts)}); run `tuner probe` first"
    refusal = Refusal.UNKNOWN if facts.strict else Refusal.NONE
    return Decision(None, (reason,), warnings=(said,), refusal=refusal)


def _settable(verdict: Verdict | None, _: Flag, facts: Facts) -> Decision:
    if _proved(verdict, facts) and _word(verdict) == Word.NO_MOE and not facts.speculative:
        return Decision(None, ("the model has no MoE layers, so the flag does nothing",))
    if facts.speculative:
        said = f"speculative decoding: a draft model's MoE layers share the target's counter{_with_draft(verdict)}"
        return Decision(False, (said, "vLLM's own default is off for the same reason"))
    if unsafe := _unsafe(verdict, facts):
        return Decision(False, (f"{unsafe}: counting would run wrong experts",))
    if not _proved(verdict, facts):
        return Decision(False, (f"not proved safe ({_doubt(verdict, facts)}), so the slower start is chosen",))
    said = "the verdict is uniform: counting resolves every MoE layer rightly, and the start is faster"
    return Decision(True, (said,), conditions=(NO_DRAFT,))


def _explicit(decision: Decision, verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    """The user's own value wins; what it contradicts is said, and refused with `enforce`."""
    said = f"{NAME}={str(facts.explicit).lower()} was given by the user and is kept"
    kept = replace(decision, setting=None, reasons=(said, *decision.reasons), conditions=())
    if flag.status in {FlagStatus.ABSENT, FlagStatus.ALWAYS_ON}:
        warning = f"{flag.reason} A release without the key does not start with it."
        return replace(kept, warnings=(*kept.warnings, warning))
    if facts.explicit and flag.status is not FlagStatus.INERT:
        return _explicit_true(kept, verdict, facts)
    return kept


def _explicit_true(kept: Decision, verdict: Verdict | None, facts: Facts) -> Decision:
    """The user switched counting on: what speaks against it, and whether that stops the launch."""
    kept = replace(kept, conditions=(NO_DRAFT,))
    if _proved(verdict, facts) and not facts.speculative:
        return kept
    refusal = kept.refusal
    if facts.speculative or _unsafe(verdict, facts):
        refusal = Refusal.UNSAFE if facts.enforce else refusal
    elif facts.strict:
        refusal = Refusal.UNKNOWN
    because = (*kept.warnings, *kept.reasons[1:])[0]
    return replace(kept, warnings=(f"{NAME}=true contradicts what is known: {because}",), refusal=refusal)


def _advised(decision: Decision, verdict: Verdict, facts: Facts) -> Decision:
    """The decision with what a model that changes when it is compiled asks for, whatever the flag.

    The user's own settings win: eager ones do what is needed, others are warned of.
    """
    found = verdict.compile_reasons[0] if verdict.compile_reasons else "compiled, it ran other MoE layers than eager"
    if facts.compiles:
        said = f"The launch compiles the model as the user asks, and runs wrong experts for some inputs: {found}."
        return replace(decision, warnings=(*decision.warnings, said), mode_reasons=(found,))
    conditions = (*decision.conditions, NOT_COMPILED) if decision.conditions else ()
    if facts.compiles is False:
        return replace(decision, mode_reasons=(f"eager, as the user asks, is right: {found}",), conditions=conditions)
    reasons = (f"the model is run without compiling: {found}", GRAPHS)
    return replace(decision, mode=EAGER, mode_reasons=reasons, conditions=conditions)


def _frozen(verdict: Verdict | None) -> TypeGuard[Verdict]:
    return verdict is not None and verdict.compile == "frozen"


def _unsafe(verdict: Verdict | None, facts: Facts) -> str:
    """What was seen that counting would resolve wrongly, of the model or of it with a setting of this launch."""
    if verdict is None:
        return ""
    return f"the verdict is {verdict.word}" if verdict.word.unsafe else seen_unsafe(verdict, facts.settings) or ""


def _proved(verdict: Verdict | None, facts: Facts) -> bool:
    return verdict is not None and verdict.word.safe and not _beyond(verdict, facts)


def _beyond(verdict: Verdict, facts: Facts) -> tuple[str, ...]:
    """What of the launch a verdict on the model itself does not cover."""
    compiled = ("compiled, as the user asks, the model runs other MoE layers",)
    return (*not_covered(verdict, facts.settings), *(compiled if _frozen(verdict) and facts.compiles else ()))


def _word(verdict: Verdict | None) -> str:
    return "none stored" if verdict is None else str(verdict.word)


def _with_draft(verdict: Verdict | None) -> str:
    """What was seen with the model's own draft."""
    word = word_of(verdict, DRAFT) if verdict else None
    return f" (with its own draft the model is {word})" if word is not None and word.unsafe else ""


def _doubt(verdict: Verdict | None, facts: Facts) -> str:
    """Why a launch is not proved safe, in a few words."""
    if verdict is None:
        return "no verdict is stored"
    if not verdict.word.safe:
        return f"the verdict is {verdict.word}"
    return "; ".join(_beyond(verdict, facts)) or "a draft model's MoE layers share the target's counter"


OTHER_RELEASE = (
    "use vLLM 0.16 or later, where the launch can switch it off, or one with torch 2.11 or later, where it is gone"
)
NO_DRAFT = "no speculative decoding: an explicit true switches off vLLM's own guard for draft models"
NOT_COMPILED = "the model is not compiled: compiled, it runs other MoE layers"
GRAPHS = "CUDA graphs were not probed, and a full graph fixes branches too; --enforce-eager switches both off"

BY_STATUS: dict[FlagStatus, Callable[[Verdict | None, Flag, Facts], Decision]] = {
    FlagStatus.ABSENT: _nothing,
    FlagStatus.INERT: _nothing,
    FlagStatus.ALWAYS_ON: _always_on,
    FlagStatus.SETTABLE: _settable,
    FlagStatus.UNKNOWN: _unknown,
}
