"""verdict + flag status + serving facts -> decision: what the launch should say about the flag, and about compiling."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, TypeGuard

from msgspec import Struct, field
from msgspec.structs import replace

from rules.arms import MODE_KEY as MODE_KEY  # noqa: PLC0414  keys and values that decisions write, for their readers
from rules.arms import MODE_NONE as MODE_NONE  # noqa: PLC0414
from rules.ladder_finding import ArmWord, LadderFinding
from rules.proof_finding import BLIND, ProofFinding, ProofWord
from rules.reason import Reason, reason
from rules.releases import FLAG_KEY as FLAG_KEY  # noqa: PLC0414  the name that decisions write, for their readers
from rules.releases import Flag, FlagStatus
from rules.verdict import WRONG_LAYER, Verdict, Word


class Refusal(StrEnum):
    """Why a launch must not happen."""

    NONE = "none"
    UNSAFE = "unsafe"
    """The counter is on, resolves this model's layers wrongly, and no setting of the launch helps."""
    UNKNOWN = "unknown"
    """Asked to fail where nothing is known."""


class Facts(Struct, frozen=True):
    """What is known of the launch itself.

    Attributes:
        speculative: speculative decoding is configured and its draft model is not stored as `no_moe`.
        counts_drafts: this vLLM counts a draft's layers too, whatever it is told (0.15.0).
        explicit: the user's own value of the flag; None if they gave none.
        proof: what the trace of this very launch proves; None if no proof of it is stored that applies here.
        no_proof: why none is or applies; None if there is one.
        command: the command that would prove this launch; empty if none would.
        launch: for which launch the proof holds, in words.
        plain: the launch is the model's plain one, or may share its proof.
        other_model: settings and variables with which vLLM may serve another model than the one that was probed.
        other_config: options with which vLLM may read another configuration; a proof covers them, `no_moe` does not.
        old_code: why code that another launch compiled may run in this one; None if its cache is its own.
        foreign: why no trace proves a launch on this platform, which a plugin brings; empty on one of vLLM's own.
        accepted_platform: the platform of the proof where that is another one than the launch's; else empty.
        fail_on_unknown: refuse where nothing is known and the flag may be on.
        enforce: refuse where the user's value contradicts an unsafe verdict.
        compiles: what the user's own settings say of compiling; None if they say nothing.
        ladder: what the arms of this very launch show; None if they were not tried here.
    """

    speculative: bool = False
    counts_drafts: bool = False
    explicit: bool | None = None
    proof: ProofFinding | None = None
    no_proof: Reason | None = None
    command: str = ""
    launch: str = "the plain launch"
    plain: bool = True
    other_model: tuple[str, ...] = ()
    other_config: tuple[str, ...] = ()
    old_code: Reason | None = None
    foreign: str = ""
    accepted_platform: str = ""
    fail_on_unknown: bool = False
    enforce: bool = False
    compiles: bool | None = None
    ladder: LadderFinding | None = None


class Decision(Struct, frozen=True):
    """What to write into the launch.

    Attributes:
        setting: value to write for the flag; None: write nothing.
        reasons: why, most important first.
        warnings: what the operator should know before starting.
        refusal: whether the launch must not happen, and why.
        conditions: what must stay true for the setting to stay right; travels with an exported `true`.
        mode: value to write for the compile mode; None: write nothing.
        mode_reasons: what was found of the compiled model that matters here, whatever the flag.
        config: further keys of the compilation config to write, because the arms of the launch showed that it needs
            them.
        options: further arguments to write, for the same reason.
        engine_reasons: what the arms showed; empty if they were not tried.
    """

    setting: bool | None
    reasons: tuple[Reason, ...]
    warnings: tuple[Reason, ...] = ()
    refusal: Refusal = Refusal.NONE
    conditions: tuple[Reason, ...] = ()
    mode: int | None = None
    mode_reasons: tuple[Reason, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    engine_reasons: tuple[Reason, ...] = ()

    @property
    def holds_for(self) -> str | None:
        """For which launch a `true` holds, on one line; None without one."""
        launches = (condition.fields["launch"] for condition in self.conditions if condition.code == HOLDS_FOR)
        return next(map(str, launches), None)

    @property
    def other_conditions(self) -> tuple[Reason, ...]:
        """What else must stay true for it."""
        return tuple(condition for condition in self.conditions if condition.code != HOLDS_FOR)


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
    if _is_frozen(verdict):
        decision = _advised(decision, verdict, facts)
    return _engine_set(decision, facts.ladder, facts) if facts.ladder is not None else decision


def _nothing(_: Verdict | None, flag: Flag, __: Facts) -> Decision:
    return Decision(None, (reason("flag_does_nothing", status=str(flag.status), why=flag.reason),))


def _always_on(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    always_on = reason("flag_always_on", why=flag.reason)
    if facts.speculative and facts.counts_drafts:
        return Decision(None, (always_on, reason("drafts_counted"), OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if facts.speculative:
        return Decision(None, (always_on, reason("drafts_switch_off")))
    if _is_unsafe(verdict):
        runs_wrong = reason("runs_wrong_experts", verdict=str(verdict.word))
        return Decision(None, (always_on, runs_wrong, OTHER_RELEASE), refusal=Refusal.UNSAFE)
    if not _doubt(verdict, facts):
        return Decision(None, (always_on, reason("safe", _why_safe(verdict))))
    return _unproved(always_on, verdict, facts)


def _unknown(verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    unknown = reason("flag_unknown", why=flag.reason)
    doubt = _doubt(verdict, facts)
    needless = not doubt and facts.plain and verdict is not None and verdict.word is Word.NO_MOE
    if flag.takes_key and not needless:
        return Decision(False, (unknown, reason("key_taken", _stored(verdict, facts))))
    if _is_unsafe(verdict):
        warning = reason("may_run_wrong_experts", verdict=str(verdict.word))
        return Decision(None, (unknown,), (warning,), _if_unknown(facts))
    if not doubt:
        return Decision(None, (unknown, reason("safe_to_count", _why_safe(verdict))))
    return _unproved(unknown, verdict, facts)


def _stored(verdict: Verdict | None, facts: Facts) -> Reason:
    """What is stored of a launch whose vLLM may count in a way of its own."""
    if _is_unsafe(verdict):
        return _would_run_wrong(verdict)
    if doubt := _doubt(verdict, facts):
        return reason("not_proved_safe", doubt)
    return reason("safe_as_read", _why_safe(verdict))


def _unproved(first: Reason, verdict: Verdict | None, facts: Facts) -> Decision:
    """The flag may be on and nothing can be written about it."""
    warning = reason("nothing_proves", _doubt(verdict, facts), **_command(facts))
    return Decision(None, (first,), (warning,), _if_unknown(facts))


def _if_unknown(facts: Facts) -> Refusal:
    """Whether a launch is refused of which nothing is known."""
    return Refusal.UNKNOWN if facts.fail_on_unknown else Refusal.NONE


def _settable(verdict: Verdict | None, _: Flag, facts: Facts) -> Decision:
    if facts.speculative:
        return Decision(False, (reason("draft_shares"), reason("default_is_off")))
    if _is_unsafe(verdict):
        return Decision(False, (_would_run_wrong(verdict),))
    doubt = _doubt(verdict, facts)
    if verdict is not None and verdict.word is Word.NO_MOE and not doubt:
        return _without_layers(facts)
    if saves_nothing := _saves_nothing(verdict, facts):
        return Decision(False, (saves_nothing,))
    if doubt:
        return Decision(False, (reason("slower_start", doubt, **_command(facts)),))
    return Decision(True, (reason("proved"),), conditions=_conditions(facts))


def _without_layers(facts: Facts) -> Decision:
    """What a model without MoE layers needs: nothing, where the launch is the one in which none were seen."""
    if facts.plain:
        return Decision(None, (reason("nothing_to_count"),))
    return Decision(False, (reason("launch_not_seen"),))


def _saves_nothing(verdict: Verdict | None, facts: Facts) -> Reason | None:
    """Why the flag would save nothing: the model is not compiled in this launch. None if it may save something."""
    if facts.compiles is False:
        return reason("launch_does_not_compile")
    if _is_frozen(verdict) and not facts.compiles:
        return reason("run_without_compiling")
    if facts.proof is not None and facts.proof.word is ProofWord.NOT_COMPILED:
        failures = facts.proof.reasons
        return reason("vllm_does_not_compile", failures[0].without_condition() if failures else None)
    return None


def _conditions(facts: Facts) -> tuple[Reason, ...]:
    """What must stay true for a `true` to stay right."""
    conditions = (reason(HOLDS_FOR, launch=facts.launch), NO_DRAFT)
    if facts.accepted_platform:
        return (*conditions, reason("platform_accepted", platform=facts.accepted_platform))
    return conditions


def _explicit(decision: Decision, verdict: Verdict | None, flag: Flag, facts: Facts) -> Decision:
    """The user's own value wins; what it contradicts is warned of, and refused with `enforce`."""
    users_flag = reason("users_flag", value=str(facts.explicit).lower())
    unchanged = replace(decision, setting=None, reasons=(users_flag, *decision.reasons), conditions=())
    if flag.status in {FlagStatus.ABSENT, FlagStatus.ALWAYS_ON}:
        return replace(unchanged, warnings=(*unchanged.warnings, reason("key_not_everywhere", why=flag.reason)))
    if facts.explicit and flag.status is not FlagStatus.INERT:
        return _explicit_true(unchanged, verdict, facts)
    return unchanged


def _explicit_true(decision: Decision, verdict: Verdict | None, facts: Facts) -> Decision:
    """The user switched counting on: what speaks against it, and whether that stops the launch."""
    doubt = _doubt(verdict, facts)
    if not doubt:
        proved = facts.proof is not None and facts.proof.proved
        return replace(decision, conditions=_conditions(facts) if proved else (NO_DRAFT,))
    refusal = decision.refusal
    if facts.speculative or _is_unsafe(verdict):
        refusal = Refusal.UNSAFE if facts.enforce else refusal
    elif facts.fail_on_unknown:
        refusal = Refusal.UNKNOWN
    against = (*decision.warnings, *decision.reasons[1:])[0]
    return replace(decision, warnings=(reason("contradicts", against),), refusal=refusal, conditions=(NO_DRAFT,))


def _advised(decision: Decision, verdict: Verdict, facts: Facts) -> Decision:
    """The decision with what a model that changes when it is compiled needs, whatever the flag.

    The user's own settings win: eager ones do what is needed, others are warned of.
    """
    change = verdict.compile_reasons[0] if verdict.compile_reasons else reason("compiled_differs")
    if facts.compiles:
        warnings = (*decision.warnings, reason("users_compiling", change))
        return replace(decision, warnings=warnings, mode_reasons=(change,))
    conditions = (*decision.conditions, reason("stays_not_compiled")) if decision.conditions else ()
    if facts.compiles is False:
        return replace(decision, mode_reasons=(reason("users_eager", change),), conditions=conditions)
    reasons = (reason("compiling_off", change), reason("graphs_not_probed"))
    return replace(decision, mode=MODE_NONE, mode_reasons=reasons, conditions=conditions)


def _engine_set(decision: Decision, ladder: LadderFinding, facts: Facts) -> Decision:
    """The decision with what the arms of the launch showed. The user's own settings win, and are warned of."""
    why = ladder.reasons[0] if ladder.reasons else reason("arm_missing", arm="as_launched")
    if ladder.word is ArmWord.UNKNOWN:
        return replace(decision, engine_reasons=(reason("launch_not_judged", why),))
    if ladder.word is ArmWord.RIGHT and ladder.remedy is None:
        return replace(decision, engine_reasons=(reason("launch_right", arms=len(ladder.arms)),))
    fault = reason("launch_not_started" if ladder.word is ArmWord.NOT_STARTED else "launch_wrong", why)
    if ladder.remedy is None:
        instead = reason("users_setting_wrong", settings=", ".join(ladder.users)) if ladder.users else NOTHING_HELPS
        refusal = Refusal.UNSAFE if ladder.users and facts.enforce else decision.refusal
        warnings = (*decision.warnings, fault, instead)
        return replace(decision, warnings=warnings, engine_reasons=(fault, instead), refusal=refusal)
    right = reason("arm_right", arm=ladder.remedy.arm)
    reasons = (reason("arm_faster", arm=ladder.remedy.arm),) if ladder.word is ArmWord.RIGHT else (fault, right)
    return replace(decision, config=ladder.remedy.config, options=ladder.remedy.options, engine_reasons=reasons)


def _is_frozen(verdict: Verdict | None) -> TypeGuard[Verdict]:
    return verdict is not None and verdict.compile == "frozen"


def _is_unsafe(verdict: Verdict | None) -> TypeGuard[Verdict]:
    """Whether something was seen that counting would resolve wrongly."""
    return verdict is not None and verdict.word.unsafe


def _would_run_wrong(verdict: Verdict) -> Reason:
    return reason("would_run_wrong_experts", verdict=str(verdict.word))


def _why_safe(verdict: Verdict | None) -> Reason:
    """What shows that counting is safe in a launch without a doubt."""
    without_layers = verdict is not None and verdict.word is Word.NO_MOE
    return reason("no_moe_layers" if without_layers else "launch_proved")


def _doubt(verdict: Verdict | None, facts: Facts) -> Reason | None:
    """Why counting is not proved safe in this launch; None if it is."""
    if verdict is None:
        return reason("no_verdict")
    if facts.speculative:
        return reason("draft_counter")
    if verdict.word.unsafe:
        return reason("unsafe_verdict", verdict=str(verdict.word))
    without_layers = verdict.word is Word.NO_MOE
    if others := (*facts.other_model, *(facts.other_config if without_layers else ())):
        return reason("other_model", settings=", ".join(others))
    if without_layers:
        return None
    return _against_evidence(verdict) or _foreign(facts) or _unproved_launch(facts) or facts.old_code


def _against_evidence(verdict: Verdict) -> Reason | None:
    """What was seen beside the trace that a proof cannot stand against."""
    if _is_frozen(verdict):
        return reason("compiled_differs")
    if WRONG_LAYER in verdict.replays.values():
        return reason("replay_wrong")
    if any(ladder.flag_moves_answers for ladder in verdict.ladders.values()):
        return reason("answers_differ")
    blind = any(reason.code in BLIND for reason in verdict.reasons)
    return verdict.reasons[0] if blind else None


def _foreign(facts: Facts) -> Reason | None:
    """That a plugin brings the platform, so that a proof says nothing there."""
    return reason("platform_of_a_plugin", why=facts.foreign) if facts.foreign else None


def _unproved_launch(facts: Facts) -> Reason | None:
    """What this launch lacks to be proved."""
    if facts.proof is None:
        return facts.no_proof or reason("no_proof_of_launch", launch="this launch")
    if facts.proof.proved:
        return None
    return facts.proof.reasons[0] if facts.proof.reasons else reason("proof_is", word=str(facts.proof.word))


def _command(facts: Facts) -> dict[str, str]:
    """The command that would try to prove the launch, where no proof of it is stored, as a field of a reason."""
    helps = facts.proof is None and not facts.foreign
    return {"command": facts.command} if helps and facts.command else {}


HOLDS_FOR = "holds_for"
"""Code of the condition that names the launch of a `true`."""
OTHER_RELEASE = reason("other_release")
NOTHING_HELPS = reason("nothing_helps")
NO_DRAFT = reason("no_draft")

BY_STATUS: dict[FlagStatus, Callable[[Verdict | None, Flag, Facts], Decision]] = {
    FlagStatus.ABSENT: _nothing,
    FlagStatus.INERT: _nothing,
    FlagStatus.ALWAYS_ON: _always_on,
    FlagStatus.SETTABLE: _settable,
    FlagStatus.UNKNOWN: _unknown,
}
