"""verdict + flag status + serving facts -> decision: what the launch should say about the flag, and about compiling."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeGuard

from rules.proof_finding import BLIND, ProofFinding, ProofWord, sentence, with_condition
from rules.releases import Flag, FlagStatus
from rules.verdict import AGAINST, FLAG, MOVED, WRONG_LAYER, Verdict, Word

FLAG_KEY = "fast_moe_cold_start"
MODE_KEY = "mode"
"""The key of the compilation config that says how vLLM compiles (0.14.1 to 0.33.0)."""
MODE_NONE = 0
"""Its value for not at all: `CompilationMode.NONE` (vllm/config/compilation.py)."""


class Refusal(StrEnum):
    """Why a launch must not happen."""

    NONE = "none"
    UNSAFE = "unsafe"
    """The counter is on, resolves this model's layers wrongly, and no setting of the launch helps."""
    UNKNOWN = "unknown"
    """Asked to fail where nothing is known."""


@dataclass(frozen=True)
class Facts:
    """What is known of the launch itself.

    Attributes:
        speculative: speculative decoding is configured and its draft model is not stored as `no_moe`.
        counts_drafts: this vLLM counts a draft's layers too, whatever it is told (0.15.0).
        explicit: the user's own value of the flag; None if they gave none.
        proof: what the trace of this very launch proves; None if no proof of it is stored that applies here.
        no_proof: why none is or applies, a few words; empty if there is one.
        command: the command that would prove this launch; empty if none would.
        launch: for which launch the proof holds, in words.
        plain: the launch is the model's plain one, or may share its proof.
        other_model: settings and variables with which vLLM may serve another model than the one that was probed.
        other_config: options with which vLLM may read another configuration; a proof covers them, `no_moe` does not.
        old_code: why code that another launch compiled may run in this one; empty if its cache is its own.
        accepted_platform: the platform of the proof where that is another one than the launch's; else empty.
        fail_on_unknown: refuse where nothing is known and the flag may be on.
        enforce: refuse where the user's value contradicts an unsafe verdict.
        compiles: what the user's own settings say of compiling; None if they say nothing.
    """

    speculative: bool = False
    counts_drafts: bool = False
    explicit: bool | None = None
    proof: ProofFinding | None = None
    no_proof: str = ""
    command: str = ""
    launch: str = "the plain launch"
    plain: bool = True
    other_model: tuple[str, ...] = ()
    other_config: tuple[str, ...] = ()
    old_code: str = ""
    accepted_platform: str = ""
    fail_on_unknown: bool = False
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
    return Decision(None, (f"{FLAG_KEY} is {flag.status} here: {flag.reason}",))


def _always_on(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    reason = f"{FLAG_KEY} cannot be changed here: {flag.reason}"
    if facts.speculative and facts.counts_drafts:
        said = "this release counts the draft model's MoE layers too and resolves them wrongly"
        return Decision(None, (reason, said, OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if facts.speculative:
        return Decision(None, (reason, "with speculative decoding this release turns it off by itself"))
    if unsafe := _unsafe(verdict):
        said = f"{unsafe}: this release would run wrong experts"
        return Decision(None, (reason, said, OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if not _doubt(verdict, facts):
        return Decision(None, (reason, f"{_shown_safe(verdict)}: that is safe"))
    return _unproved(reason, verdict, facts)


def _unknown(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    reason = f"what {FLAG_KEY} does here is not known: {flag.reason}"
    doubt = _doubt(verdict, facts)
    needless = not doubt and facts.plain and verdict is not None and verdict.word is Word.NO_MOE
    if flag.takes_key and not needless:
        return Decision(False, (reason, f"this vLLM takes the key, so it is switched off ({_stored(verdict, facts)})"))
    if unsafe := _unsafe(verdict):
        said = f"{unsafe}: if this vLLM counts MoE layers, it runs wrong experts"
        return Decision(None, (reason,), (said,), Refusal.UNKNOWN if facts.fail_on_unknown else Refusal.NONE)
    if not doubt:
        return Decision(None, (reason, f"{_shown_safe(verdict)}: counting would be safe"))
    return _unproved(reason, verdict, facts)


def _stored(verdict: Verdict | None, facts: Facts) -> str:
    """What is known of a launch whose vLLM may count in a way of its own, in a few words."""
    if unsafe := _unsafe(verdict):
        return f"{unsafe}: counting would run wrong experts"
    if doubt := _doubt(verdict, facts):
        return f"not proved safe: {doubt}"
    return f"{_shown_safe(verdict)}, and that holds where MoE layers are counted as in releases that were read"


def _unproved(reason: str, verdict: Verdict | None, facts: Facts) -> Decision:
    """The flag may be on and nothing can be written about it."""
    said = f"nothing proves that counting MoE layers is safe here ({_doubt(verdict, facts)}){_way_out(facts)}"
    refusal = Refusal.UNKNOWN if facts.fail_on_unknown else Refusal.NONE
    return Decision(None, (reason,), warnings=(said,), refusal=refusal)


def _settable(verdict: Verdict | None, _: Flag, facts: Facts) -> Decision:
    if facts.speculative:
        said = "speculative decoding: a draft model's MoE layers share the target's counter"
        return Decision(False, (said, "vLLM's own default is off for the same reason"))
    if unsafe := _unsafe(verdict):
        return Decision(False, (f"{unsafe}: counting would run wrong experts",))
    doubt = _doubt(verdict, facts)
    if verdict is not None and verdict.word is Word.NO_MOE and not doubt:
        return _without_layers(facts)
    if saves_nothing := _saves_nothing(verdict, facts):
        return Decision(False, (saves_nothing,))
    if doubt:
        return Decision(False, (f"not proved safe ({doubt}), so the slower start is chosen{_way_out(facts)}",))
    return Decision(True, (PROVED,), conditions=_conditions(facts))


def _without_layers(facts: Facts) -> Decision:
    """What a model without MoE layers needs: nothing, where the launch is the one in which none were seen."""
    if facts.plain:
        return Decision(None, ("the model has no MoE layers, so the flag does nothing",))
    said = "the plain launch has no MoE layers, and this one was not looked at: false costs nothing"
    return Decision(False, (said,))


def _saves_nothing(verdict: Verdict | None, facts: Facts) -> str:
    """Why the flag would save nothing: the model is not compiled in this launch."""
    if facts.compiles is False:
        return "the launch does not compile the model, so the flag would save nothing"
    if _frozen(verdict) and not facts.compiles:
        return "the model is run without compiling, so the flag would save nothing"
    if facts.proof is not None and facts.proof.word is ProofWord.NOT_COMPILED:
        because = f" ({sentence(facts.proof.reasons[0])})" if facts.proof.reasons else ""
        return f"vLLM does not compile this model here, so the flag would save nothing{because}"
    return ""


def _conditions(facts: Facts) -> tuple[str, ...]:
    """What must stay true for a `true` to stay right."""
    accepted = (
        f"that the launch compiles to the same MoE calls here as on the platform {facts.accepted_platform}, where it "
        "was proved, is taken on the user's word"
    )
    return (f"{HOLDS_FOR}{facts.launch}", NO_DRAFT, *((accepted,) if facts.accepted_platform else ()))


def _explicit(decision: Decision, verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    """The user's own value wins; what it contradicts is said, and refused with `enforce`."""
    said = f"{FLAG_KEY}={str(facts.explicit).lower()} was given by the user and is kept"
    kept = replace(decision, setting=None, reasons=(said, *decision.reasons), conditions=())
    if flag.status in {FlagStatus.ABSENT, FlagStatus.ALWAYS_ON}:
        warning = f"{flag.reason} A release without the key does not start with it."
        return replace(kept, warnings=(*kept.warnings, warning))
    if facts.explicit and flag.status is not FlagStatus.INERT:
        return _explicit_true(kept, verdict, facts)
    return kept


def _explicit_true(kept: Decision, verdict: Verdict | None, facts: Facts) -> Decision:
    """The user switched counting on: what speaks against it, and whether that stops the launch."""
    doubt = _doubt(verdict, facts)
    if not doubt:
        proved = facts.proof is not None and facts.proof.proved
        return replace(kept, conditions=_conditions(facts) if proved else (NO_DRAFT,))
    kept = replace(kept, conditions=(NO_DRAFT,))
    refusal = kept.refusal
    if facts.speculative or _unsafe(verdict):
        refusal = Refusal.UNSAFE if facts.enforce else refusal
    elif facts.fail_on_unknown:
        refusal = Refusal.UNKNOWN
    because = (*kept.warnings, *kept.reasons[1:])[0]
    return replace(kept, warnings=(f"{FLAG_KEY}=true contradicts what is known: {because}",), refusal=refusal)


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
    return replace(decision, mode=MODE_NONE, mode_reasons=reasons, conditions=conditions)


def _frozen(verdict: Verdict | None) -> TypeGuard[Verdict]:
    return verdict is not None and verdict.compile == "frozen"


def _unsafe(verdict: Verdict | None) -> str:
    """What was seen that counting would resolve wrongly."""
    return f"the verdict is {verdict.word}" if verdict is not None and verdict.word.unsafe else ""


def _shown_safe(verdict: Verdict | None) -> str:
    """What shows that counting is safe in a launch without a doubt."""
    if verdict is not None and verdict.word is Word.NO_MOE:
        return "the model has no MoE layers"
    return "this launch is proved"


def _doubt(verdict: Verdict | None, facts: Facts) -> str:
    """Why counting is not proved safe in this launch, in a few words; empty if it is."""
    if verdict is None:
        return "no verdict is stored"
    if facts.speculative:
        return "a draft model's MoE layers share the target's counter"
    if verdict.word.unsafe:
        return f"the verdict is {verdict.word}"
    without_layers = verdict.word is Word.NO_MOE
    if others := (*facts.other_model, *(facts.other_config if without_layers else ())):
        return f"{', '.join(others)}: vLLM may serve another model than the one that was probed"
    if without_layers:
        return ""
    return _against_evidence(verdict) or _unproved_launch(facts) or facts.old_code


def _against_evidence(verdict: Verdict) -> str:
    """What was seen beside the trace that a proof cannot stand against."""
    if _frozen(verdict):
        return "compiled, the model runs other MoE layers than eager"
    if WRONG_LAYER in verdict.replays.values():
        return "the replay probe saw a wrong layer run"
    if verdict.outputs.get(AGAINST.join(FLAG)) == MOVED:
        return "with the flag on the answers are others than with it off"
    blind = any(reason.code in BLIND for reason in verdict.codes)
    return verdict.reasons[0] if blind else ""


def _unproved_launch(facts: Facts) -> str:
    """What this launch lacks to be proved."""
    if facts.proof is None:
        return facts.no_proof or "no proof of this launch is stored"
    if facts.proof.proved:
        return ""
    reasons = facts.proof.reasons
    return with_condition(reasons[0]) if reasons else f"its proof is {facts.proof.word}"


def _way_out(facts: Facts) -> str:
    """The command that would prove the launch, where nothing was tried yet."""
    return f"; `{facts.command}` would try to prove it" if facts.proof is None and facts.command else ""


PROVED = (
    "this launch is proved: the code that vLLM compiles calls every MoE layer once, in the registered order, so "
    "counting resolves each rightly, and the start is faster"
)
HOLDS_FOR = "holds for: "
"""Begins the condition that names the launch of a `true`."""
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
