"""verdict + flag status + serving facts -> decision: what the launch should say about the flag."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from rules.assumptions import uncovered
from rules.releases import Flag, FlagStatus
from rules.verdict import Verdict, Word

NAME = "fast_moe_cold_start"


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
        settings: launch settings the probe did not use, by name (see `rules.assumptions`).
        strict: refuse where nothing is known and the flag may be on.
        enforce: refuse where the user's value contradicts an unsafe verdict.
    """

    speculative: bool = False
    counts_drafts: bool = False
    explicit: bool | None = None
    settings: tuple[str, ...] = ()
    strict: bool = False
    enforce: bool = False


@dataclass(frozen=True)
class Decision:
    """What to write into the launch.

    Attributes:
        setting: value to write for the flag; None: write nothing.
        reasons: why, whole sentences.
        warnings: what the operator should know before starting.
        refusal: whether the launch must not happen, and why.
        conditions: what must stay true for the setting to stay right; travels with an exported `true`.
    """

    setting: bool | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    refusal: Refusal = Refusal.NONE
    conditions: tuple[str, ...] = field(default=())


def decide(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    """Decide one launch. Total over every verdict, flag status and fact.

    Args:
        verdict: the stored verdict; None if there is none.
        flag: what the flag can do in the serving environment.
        facts: what the launch says.
    """
    decision = BY_STATUS[flag.status](verdict, flag, facts)
    return decision if facts.explicit is None else _explicit(decision, verdict, flag, facts)


def _nothing(_: Verdict | None, flag: Flag, __: Facts) -> Decision:
    return Decision(None, (f"{NAME} is {flag.status} here: {flag.reason}",))


def _always_on(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    reason = f"{NAME} cannot be changed here: {flag.reason}"
    if facts.speculative and facts.counts_drafts:
        said = "this release counts the draft model's MoE layers too and resolves them wrongly"
        return Decision(None, (reason, said, OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if facts.speculative:
        return Decision(None, (reason, "with speculative decoding this release turns it off by itself"))
    if verdict is not None and verdict.word.unsafe:
        said = f"the verdict is {verdict.word}: this release would run wrong experts"
        return Decision(None, (reason, said, OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if _proved(verdict, facts):
        return Decision(None, (reason, f"the verdict is {_word(verdict)}: that is safe"))
    return _unproved(reason, verdict, facts)


def _unknown(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    reason = f"what {NAME} does here is not known: {flag.reason}"
    if verdict is not None and verdict.word.unsafe:
        said = f"the verdict is {verdict.word}: if this vLLM counts MoE layers, it runs wrong experts"
        return Decision(None, (reason,), (said,), Refusal.UNKNOWN if facts.strict else Refusal.NONE)
    if _proved(verdict, facts) and not facts.speculative:
        return Decision(None, (reason, f"the verdict is {_word(verdict)}: counting would be safe"))
    return _unproved(reason, verdict, facts)


def _unproved(reason: str, verdict: Verdict | None, facts: Facts) -> Decision:
    """The flag may be on and nothing can be written about it."""
    said = f"nothing proves that counting MoE layers is safe here ({_doubt(verdict, facts)}); run `tuner probe` first"
    refusal = Refusal.UNKNOWN if facts.strict else Refusal.NONE
    return Decision(None, (reason,), warnings=(said,), refusal=refusal)


def _settable(verdict: Verdict | None, _: Flag, facts: Facts) -> Decision:
    if _proved(verdict, facts) and _word(verdict) == Word.NO_MOE and not facts.speculative:
        return Decision(None, ("the model has no MoE layers, so the flag does nothing",))
    if facts.speculative:
        said = "speculative decoding: a draft model's MoE layers share the target's counter"
        return Decision(False, (said, "vLLM's own default is off for the same reason"))
    if verdict is not None and verdict.word.unsafe:
        return Decision(False, (f"the verdict is {verdict.word}: counting would run wrong experts",))
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
    if facts.speculative or (verdict is not None and verdict.word.unsafe):
        refusal = Refusal.UNSAFE if facts.enforce else refusal
    elif facts.strict:
        refusal = Refusal.UNKNOWN
    because = (*kept.warnings, *kept.reasons[1:])[0]
    return replace(kept, warnings=(f"{NAME}=true contradicts what is known: {because}",), refusal=refusal)


def _proved(verdict: Verdict | None, facts: Facts) -> bool:
    return verdict is not None and verdict.word.safe and not uncovered([*facts.settings])


def _word(verdict: Verdict | None) -> str:
    return "none stored" if verdict is None else str(verdict.word)


def _doubt(verdict: Verdict | None, facts: Facts) -> str:
    """Why a launch is not proved safe, in a few words."""
    settings = uncovered([*facts.settings])
    if verdict is None:
        return "no verdict is stored"
    if verdict.word.safe and settings:
        return f"the probe did not use {', '.join(settings)}"
    if verdict.word.safe:
        return "a draft model's MoE layers share the target's counter"
    return f"the verdict is {verdict.word}"


OTHER_RELEASE = (
    "use vLLM 0.16 or later, where the launch can switch it off, or one with torch 2.11 or later, where it is gone"
)
NO_DRAFT = "no speculative decoding: an explicit true switches off vLLM's own guard for draft models"

BY_STATUS: dict[FlagStatus, Callable[[Verdict | None, Flag, Facts], Decision]] = {
    FlagStatus.ABSENT: _nothing,
    FlagStatus.INERT: _nothing,
    FlagStatus.ALWAYS_ON: _always_on,
    FlagStatus.SETTABLE: _settable,
    FlagStatus.UNKNOWN: _unknown,
}
