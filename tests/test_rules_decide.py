"""verdict + flag status + facts -> decision: the whole table, and what holds in each of its cells."""

from collections.abc import Iterator
from itertools import product

import pytest
from msgspec.structs import asdict
from msgspec.structs import replace as with_fields

from rules.decide import HOLDS_FOR, MODE_NONE, NO_DRAFT, Decision, Facts, Refusal, decide
from rules.ladder_finding import ArmWord, LadderFinding
from rules.proof_finding import ProofFinding, ProofWord
from rules.reason import SENTENCES, Reason, reason
from rules.releases import Flag, FlagStatus, counts_drafts, flag_status
from rules.verdict import Verdict, Word

UNSAFE = (Word.REPEATED, Word.CONDITIONAL, Word.REORDERED)
SAFE = (Word.UNIFORM, Word.NO_MOE)
WORDS = (*Word, None)
UNWRITABLE = (FlagStatus.ABSENT, FlagStatus.ALWAYS_ON, FlagStatus.INERT, FlagStatus.UNKNOWN)
KEEP, REFUSE, DOUBT = Refusal.NONE, Refusal.UNSAFE, Refusal.UNKNOWN


def flag(status: FlagStatus) -> Flag:
    """A flag of this status."""
    return Flag(status, "Because of this release.", "table: vLLM 0.19.1, vllm/config/vllm.py")


WHY = "Because of this release."
A_REASON = reason("order_kept", passes=3, scenarios=3)
PLAIN_COMMAND = "tuner probe org/model"
PROVED = ProofFinding(ProofWord.PROVED, platform="cpu", layers=3)
FAILED = Reason("outer_guard", 4, {"guard": "Ne(s80, 300)", "file": "vllm/a.py", "line": 46})
FINDINGS = {
    ProofWord.PROVED: PROVED,
    ProofWord.NOT_COMPILED: ProofFinding(ProofWord.NOT_COMPILED, (Reason("not_decorated", 1, {"class": "Model"}),)),
    ProofWord.REFUTED: ProofFinding(ProofWord.REFUTED, (Reason("calls", 2, {"seen": 3, "expected": 3}),)),
    ProofWord.NOT_PROVED: ProofFinding(ProofWord.NOT_PROVED, (FAILED,)),
    None: None,
}
"""What may be stored about a launch."""


def decided(status: FlagStatus, word: Word | None, found: Verdict | None = None, **facts: object) -> Decision:
    """The decision for one cell of the table; a uniform model's launch is proved unless the facts say otherwise."""
    verdict = found or (None if word is None else Verdict(word, (A_REASON,)))
    usual = Facts(proof=PROVED if word is Word.UNIFORM else None, command=PLAIN_COMMAND)
    return decide(verdict, flag(status), with_fields(usual, **facts))  # type: ignore[arg-type]


# ---- the launch says nothing about the flag


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("enforce", [False, True])
@pytest.mark.parametrize("speculative", [False, True])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", [FlagStatus.ABSENT, FlagStatus.INERT])
def test_nothing_is_written_where_the_flag_does_nothing(
    status: FlagStatus, word: Word | None, speculative: bool, enforce: bool, strict: bool
) -> None:
    """Absent and inert: no setting, no warning, no refusal, and the reason says why."""
    decision = decided(status, word, speculative=speculative, enforce=enforce, fail_on_unknown=strict)
    assert (decision.setting, decision.warnings, decision.refusal) == (None, (), KEEP)
    assert decision.reasons == (reason("flag_does_nothing", status=str(status), why=WHY),)


@pytest.mark.parametrize(
    ("word", "speculative", "setting"),
    [
        (Word.UNIFORM, False, True),
        (Word.NO_MOE, False, None),
        (Word.REPEATED, False, False),
        (Word.CONDITIONAL, False, False),
        (Word.REORDERED, False, False),
        (Word.NOT_COMPILED, False, False),
        (Word.INCONCLUSIVE, False, False),
        (None, False, False),
        *((word, True, False) for word in WORDS),
    ],
)
@pytest.mark.parametrize("enforce", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_a_settable_flag_follows_the_verdict(
    word: Word | None, speculative: bool, setting: bool | None, enforce: bool, strict: bool
) -> None:
    """Settable: true for a proved launch, nothing for no_moe, false for all else and beside any draft."""
    decision = decided(FlagStatus.SETTABLE, word, speculative=speculative, enforce=enforce, fail_on_unknown=strict)
    assert (decision.setting, decision.warnings, decision.refusal) == (setting, (), KEEP)


@pytest.mark.parametrize(
    ("word", "refusal", "strict_refusal", "warned"),
    [
        (Word.UNIFORM, KEEP, KEEP, False),
        (Word.NO_MOE, KEEP, KEEP, False),
        (Word.REPEATED, REFUSE, REFUSE, False),
        (Word.CONDITIONAL, REFUSE, REFUSE, False),
        (Word.REORDERED, REFUSE, REFUSE, False),
        (Word.NOT_COMPILED, KEEP, DOUBT, True),
        (Word.INCONCLUSIVE, KEEP, DOUBT, True),
        (None, KEEP, DOUBT, True),
    ],
)
def test_a_flag_that_is_always_on_refuses_what_is_unsafe(
    word: Word | None, refusal: Refusal, strict_refusal: Refusal, warned: bool
) -> None:
    """Always on: unsafe is refused, unproved warns, and `--fail-on-unknown` refuses that too."""
    decision = decided(FlagStatus.ALWAYS_ON, word)
    assert (decision.setting, decision.refusal, bool(decision.warnings)) == (None, refusal, warned)
    assert decided(FlagStatus.ALWAYS_ON, word, fail_on_unknown=True).refusal == strict_refusal


@pytest.mark.parametrize("word", UNSAFE)
def test_a_refusal_names_the_way_out(word: Word) -> None:
    """Where only another release helps, the reasons say which."""
    reasons = decided(FlagStatus.ALWAYS_ON, word).reasons
    assert reasons[1:] == (reason("runs_wrong_experts", verdict=str(word)), reason("other_release"))


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("strict", [False, True])
def test_a_draft_under_0_15_0_is_refused(word: Word | None, strict: bool) -> None:
    """0.15.0 counts a draft's layers too: whatever the verdict, the launch is refused."""
    status = flag_status("0.15.0", "2.9.1", "cuda").status
    counts = counts_drafts("0.15.0")
    decision = decided(status, word, speculative=True, counts_drafts=counts, fail_on_unknown=strict)
    assert (decision.setting, decision.refusal) == (None, REFUSE)


@pytest.mark.parametrize("word", WORDS)
def test_a_draft_under_0_15_1_switches_the_flag_off_by_itself(word: Word | None) -> None:
    """0.15.1 turns itself off with speculative decoding: nothing to write, to warn of or to refuse."""
    status = flag_status("0.15.1", "2.9.1", "cuda").status
    decision = decided(status, word, speculative=True, counts_drafts=counts_drafts("0.15.1"), fail_on_unknown=True)
    assert (decision.setting, decision.warnings, decision.refusal) == (None, (), KEEP)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("speculative", [False, True])
def test_an_unknown_flag_is_safe_only_with_a_safe_verdict(word: Word | None, speculative: bool) -> None:
    """Unknown: a safe verdict needs no warning, all else warns, and `--fail-on-unknown` refuses it."""
    decision = decided(FlagStatus.UNKNOWN, word, speculative=speculative)
    safe = word in SAFE and not speculative
    assert (decision.setting, decision.refusal, bool(decision.warnings)) == (None, KEEP, not safe)
    strict = decided(FlagStatus.UNKNOWN, word, speculative=speculative, fail_on_unknown=True)
    assert strict.refusal == (KEEP if safe else DOUBT)


@pytest.mark.parametrize("word", UNSAFE)
def test_an_unknown_flag_with_an_unsafe_verdict_says_what_may_happen(word: Word) -> None:
    """The warning names the verdict, and does not ask for a probe that was already made."""
    (warning,) = decided(FlagStatus.UNKNOWN, word).warnings
    assert warning == reason("may_run_wrong_experts", verdict=str(word))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("speculative", [False, True])
@pytest.mark.parametrize("word", WORDS)
def test_an_unknown_flag_is_switched_off_where_the_key_is_taken(
    word: Word | None, speculative: bool, strict: bool
) -> None:
    """The key is taken: false for whatever has MoE layers, proved or not, with `--fail-on-unknown` too."""
    verdict = None if word is None else Verdict(word, (A_REASON,))
    taken = with_fields(flag(FlagStatus.UNKNOWN), takes_key=True)
    decision = decide(verdict, taken, Facts(speculative=speculative, fail_on_unknown=strict, proof=PROVED))
    without_layers = word is Word.NO_MOE and not speculative
    assert (decision.setting, decision.warnings, decision.refusal) == (None if without_layers else False, (), KEEP)
    assert decision.reasons[0] == reason("flag_unknown", why=WHY)


@pytest.mark.parametrize("takes_key", [False, None])
@pytest.mark.parametrize("word", WORDS)
def test_an_unknown_flag_is_left_alone_where_the_key_is_not_taken(word: Word | None, takes_key: bool | None) -> None:
    """A vLLM without the key would not start with it: nothing is written, and what is not safe is warned of."""
    verdict = None if word is None else Verdict(word, (A_REASON,))
    decision = decide(
        verdict,
        with_fields(flag(FlagStatus.UNKNOWN), takes_key=takes_key),
        Facts(proof=PROVED if word is Word.UNIFORM else None),
    )
    assert (decision.setting, bool(decision.warnings)) == (None, word not in SAFE)


# ---- a launch and its proof


def test_a_launch_without_a_proof_gets_false_and_the_command() -> None:
    """However safe the model's plain launch is: false, why none applies, and what would prove it."""
    why = reason("proof_with_other_variable", variable="DEPTH")
    decision = decided(FlagStatus.SETTABLE, Word.UNIFORM, proof=None, no_proof=why)
    assert decision.setting is False
    assert decision.reasons == (reason("slower_start", why, command=PLAIN_COMMAND),)
    for status in (FlagStatus.ALWAYS_ON, FlagStatus.UNKNOWN):
        (warning,) = decided(status, Word.UNIFORM, proof=None).warnings
        assert (warning.code, warning.fields) == ("nothing_proves", {"command": PLAIN_COMMAND})
        assert decided(status, Word.UNIFORM, proof=None, fail_on_unknown=True).refusal == DOUBT


@pytest.mark.parametrize("word", [Word.UNIFORM, Word.NOT_COMPILED, Word.INCONCLUSIVE])
def test_the_launch_decides_and_not_the_plain_one(word: Word) -> None:
    """A launch with a proof of its own gets true whatever the plain launch is, so long as no wrong order was seen."""
    assert decided(FlagStatus.SETTABLE, word, proof=PROVED).setting is True
    assert decided(FlagStatus.SETTABLE, word, proof=FINDINGS[ProofWord.NOT_PROVED]).setting is False


def test_a_launch_that_is_not_compiled_loses_nothing() -> None:
    """The reason says so, and asks for no probe."""
    decision = decided(FlagStatus.SETTABLE, Word.NOT_COMPILED, proof=FINDINGS[ProofWord.NOT_COMPILED])
    assert decision.setting is False
    assert decision.reasons == (reason("vllm_does_not_compile", reason("not_decorated", **{"class": "Model"})),)
    for word in (Word.UNIFORM, Word.INCONCLUSIVE, None):
        eager = decided(FlagStatus.SETTABLE, word, compiles=False)
        assert (eager.setting, eager.reasons[0].code) == (False, "launch_does_not_compile")


def test_the_reason_names_the_condition_that_failed() -> None:
    """With the place in the code; no probe is asked for."""
    decision = decided(FlagStatus.SETTABLE, Word.INCONCLUSIVE, proof=FINDINGS[ProofWord.NOT_PROVED])
    assert decision.reasons == (reason("slower_start", FAILED),)
    assert str(FAILED) in str(decision.reasons[0])
    assert "vllm/a.py:46" in str(decision.reasons[0])


def test_a_true_says_for_which_launch_it_holds() -> None:
    """In one line; on another platform's word, that too."""
    decision = decided(FlagStatus.SETTABLE, Word.UNIFORM, launch="--max-num-seqs 8")
    assert decision.conditions == (reason(HOLDS_FOR, launch="--max-num-seqs 8"), NO_DRAFT)
    assert (decision.holds_for, decision.other_conditions) == ("--max-num-seqs 8", (NO_DRAFT,))
    accepted = decided(FlagStatus.SETTABLE, Word.UNIFORM, accepted_platform="cpu").conditions
    assert accepted[:2] == (reason(HOLDS_FOR, launch="the plain launch"), NO_DRAFT)
    assert accepted[2] == reason("platform_accepted", platform="cpu")


FLAG_MOVES = LadderFinding(ArmWord.RIGHT, arms={"flag_on": ArmWord.WRONG, "flag_off": ArmWord.RIGHT})
AGAINST: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "a wrong layer in an engine": ({"replays": {"flag_on": "wrong_layer"}}, {}),
    "answers that move with the flag": ({"ladders": {"a launch": FLAG_MOVES}}, {}),
    "a recording through the counter": ({"reasons": (reason("counted"),)}, {}),
    "a lost scenario": ({"reasons": (reason("scenario_lost", scenario="decode_1"),)}, {}),
    "a model that changes when it is compiled": ({"compile": "frozen"}, {"compiles": True}),
    "the same, run without compiling": ({"compile": "frozen"}, {}),
    "a variable that may bring another model": ({}, {"other_model": ("VLLM_PLUGINS is set",)}),
    "code that another launch compiled": ({}, {"old_code": reason("own_cache_folder")}),
    "a draft": ({}, {"speculative": True}),
    "an eager launch": ({}, {"compiles": False}),
}


@pytest.mark.parametrize("case", AGAINST)
@pytest.mark.parametrize("word", [Word.UNIFORM, Word.INCONCLUSIVE, Word.NOT_COMPILED])
def test_what_a_proof_does_not_stand_against(case: str, word: Word) -> None:
    """A proved launch gets false where something was seen, or may be otherwise, that the trace does not tell."""
    shown, facts = AGAINST[case]
    verdict = with_fields(Verdict(word, (A_REASON,)), **shown)  # type: ignore[arg-type]
    assert decided(FlagStatus.SETTABLE, word, verdict, proof=PROVED, **facts).setting is False


@pytest.mark.parametrize(
    ("arms", "setting"),
    [
        ({"flag_on": ArmWord.RIGHT, "flag_off": ArmWord.RIGHT}, True),
        ({"flag_on": ArmWord.WRONG, "flag_off": ArmWord.RIGHT}, False),
        ({"flag_on": ArmWord.WRONG, "flag_off": ArmWord.UNKNOWN}, False),
        ({"flag_on": ArmWord.WRONG, "flag_off": ArmWord.NOT_STARTED}, False),
        ({"flag_on": ArmWord.WRONG}, False),
        ({"flag_on": ArmWord.WRONG, "flag_off": ArmWord.WRONG}, True),
        ({"flag_on": ArmWord.UNKNOWN, "flag_off": ArmWord.RIGHT}, True),
        ({"flag_on": ArmWord.NOT_STARTED, "flag_off": ArmWord.RIGHT}, True),
        ({"flag_off": ArmWord.WRONG}, True),
        ({"as_launched": ArmWord.WRONG}, True),
        ({}, True),
    ],
)
def test_arms_of_any_launch_speak_against_the_flag_where_it_alone_moves_the_answers(
    arms: dict[str, ArmWord], setting: bool
) -> None:
    """An engine that is wrong with the flag off as well is wrong for another cause."""
    ladders = {"another launch": LadderFinding(ArmWord.RIGHT, arms=arms), "a third": LadderFinding(ArmWord.RIGHT)}
    verdict = Verdict(Word.UNIFORM, (A_REASON,), ladders=ladders)
    decision = decided(FlagStatus.SETTABLE, Word.UNIFORM, verdict)
    assert decision.setting is setting
    if not setting:
        assert decision.reasons == (reason("slower_start", reason("answers_differ")),)


def test_a_model_without_layers_is_left_alone_in_its_plain_launch_only() -> None:
    """Another launch might have some: false costs nothing. Another configuration is another model."""
    assert decided(FlagStatus.SETTABLE, Word.NO_MOE).setting is None
    assert decided(FlagStatus.SETTABLE, Word.NO_MOE, plain=False).setting is False
    assert decided(FlagStatus.SETTABLE, Word.NO_MOE, plain=False, other_config=("--hf-overrides",)).setting is False
    assert decided(FlagStatus.ALWAYS_ON, Word.NO_MOE, plain=False).warnings == ()
    (warning,) = decided(FlagStatus.ALWAYS_ON, Word.NO_MOE, other_config=("--hf-overrides",)).warnings
    assert warning.because == reason("other_model", settings="--hf-overrides")


# ---- the user's own value


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", FlagStatus)
def test_the_users_value_is_kept(status: FlagStatus, word: Word | None, explicit: bool) -> None:
    """An explicit value is never overwritten, whatever is known, and the first reason says that it is the user's."""
    decision = decided(status, word, explicit=explicit)
    assert decision.setting is None
    assert decision.reasons[0] == reason("users_flag", value=str(explicit).lower())


@pytest.mark.parametrize("speculative", [False, True])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", [FlagStatus.SETTABLE, FlagStatus.UNKNOWN])
def test_an_explicit_true_is_checked(status: FlagStatus, word: Word | None, speculative: bool) -> None:
    """A true of the user's warns unless proved; `--enforce` refuses a known wrong, `--fail-on-unknown` the unknown."""
    decision = decided(status, word, explicit=True, speculative=speculative)
    proved = word in SAFE and not speculative
    unsafe = word in UNSAFE or speculative
    assert bool(decision.warnings) == (not proved)
    assert {warning.code for warning in decision.warnings} <= {"contradicts"}
    assert decision.refusal == KEEP
    enforced = decided(status, word, explicit=True, speculative=speculative, enforce=True)
    assert enforced.refusal == (REFUSE if unsafe else KEEP)
    strict = decided(status, word, explicit=True, speculative=speculative, enforce=True, fail_on_unknown=True)
    assert strict.refusal == (REFUSE if unsafe else KEEP if proved else DOUBT)


def test_an_explicit_true_in_an_unproved_launch_warns() -> None:
    """It is not a known contradiction, so `--enforce` does not refuse; a proved one says for which launch it holds."""
    decision = decided(FlagStatus.SETTABLE, Word.UNIFORM, explicit=True, proof=None, enforce=True)
    assert decision.warnings[0].because is not None
    assert decision.warnings[0].because.because == reason("no_proof_of_launch", launch="this launch")
    assert decision.refusal == KEEP
    proved = decided(FlagStatus.SETTABLE, Word.UNIFORM, explicit=True)
    assert (proved.warnings, proved.conditions) == ((), (reason(HOLDS_FOR, launch="the plain launch"), NO_DRAFT))


@pytest.mark.parametrize("word", WORDS)
def test_an_explicit_false_is_always_right_where_it_can_be_set(word: Word | None) -> None:
    """A false of the user's is at worst slow: no warning, no refusal."""
    decision = decided(FlagStatus.SETTABLE, word, explicit=False, enforce=True, fail_on_unknown=True, speculative=True)
    assert (decision.warnings, decision.refusal) == ((), KEEP)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", [FlagStatus.ABSENT, FlagStatus.ALWAYS_ON])
def test_an_explicit_value_that_stops_the_server_is_warned_of(
    status: FlagStatus, word: Word | None, explicit: bool
) -> None:
    """A release without the key does not start with it: the warning says so beside any other."""
    decision = decided(status, word, explicit=explicit)
    assert decision.warnings[-1] == reason("key_not_everywhere", why=WHY)
    assert decision.refusal == decided(status, word).refusal


@pytest.mark.parametrize("word", WORDS)
def test_an_explicit_value_that_does_nothing_is_left_alone(word: Word | None) -> None:
    """Inert: a true contradicts nothing, because vLLM forces it to false."""
    decision = decided(FlagStatus.INERT, word, explicit=True, enforce=True, fail_on_unknown=True)
    assert (decision.warnings, decision.refusal, decision.conditions) == ((), KEEP, ())


# ---- compiling

MOVED = reason("compiled_moved", scenario="decode_1", compiled=2, eager=3)


def frozen(word: Word = Word.UNIFORM) -> Verdict:
    """A verdict on a model that changes when it is compiled."""
    return Verdict(word, (A_REASON,), compile="frozen", compile_reasons=(MOVED,))


@pytest.mark.parametrize("status", FlagStatus)
@pytest.mark.parametrize("word", Word)
def test_a_frozen_model_is_not_compiled(status: FlagStatus, word: Word) -> None:
    """The mode is written whatever the flag does, absent and inert included; then the flag is never true."""
    decision = decided(status, word, frozen(word))
    assert (decision.mode, decision.mode_reasons) == (
        MODE_NONE,
        (reason("compiling_off", MOVED), reason("graphs_not_probed")),
    )
    assert decision.setting is not True
    assert decided(status, word).mode is None


@pytest.mark.parametrize("status", FlagStatus)
def test_eager_settings_of_the_users_own_are_right(status: FlagStatus) -> None:
    """Nothing to write about compiling."""
    decision = decided(status, Word.UNIFORM, frozen(), compiles=False)
    assert decision.mode is None
    assert decision.mode_reasons == (reason("users_eager", MOVED),)


@pytest.mark.parametrize("status", FlagStatus)
def test_a_mode_of_the_users_own_is_kept_and_warned_of(status: FlagStatus) -> None:
    """Their value wins; that it runs wrong experts is said."""
    decision = decided(status, Word.UNIFORM, frozen(), compiles=True)
    assert decision.mode is None
    assert decision.warnings[-1] == reason("users_compiling", MOVED)


def test_a_true_of_the_users_for_a_frozen_model_is_warned_of() -> None:
    """And it says that the model must not be compiled."""
    decision = decided(FlagStatus.SETTABLE, Word.UNIFORM, frozen(), explicit=True)
    assert decision.warnings[0].code == "contradicts"
    assert decision.conditions == (NO_DRAFT, reason("stays_not_compiled"))


@pytest.mark.parametrize("compiles", [None, False, True])
def test_without_a_finding_compiling_is_left_alone(compiles: bool | None) -> None:
    """Nothing is written and nothing said."""
    for found in (decided(FlagStatus.SETTABLE, word, compiles=compiles) for word in (None, Word.UNIFORM)):
        assert (found.mode, found.mode_reasons, found.warnings) == (None, (), ())


# ---- every cell


def cells() -> Iterator[tuple[FlagStatus, Word | None, Facts]]:
    """Every flag status with every verdict, every proof, and every combination of facts."""
    switches = product(*[(False, True)] * 5)
    explicit = (None, False, True)
    for status, word, own, proof, flags in product(FlagStatus, WORDS, explicit, FINDINGS.values(), list(switches)):
        speculative, counts, strict, enforce, plain = flags
        yield (
            status,
            word,
            Facts(
                speculative=speculative,
                counts_drafts=counts,
                explicit=own,
                proof=proof,
                plain=plain,
                fail_on_unknown=strict,
                enforce=enforce,
            ),
        )


def test_every_cell_has_a_decision() -> None:
    """Deciding never fails; every decision says why with codes that have a sentence; every refusal has a cause."""
    for status, word, facts in cells():
        decision = decided(status, word, **asdict(facts))
        assert decision.reasons, (status, word, facts)
        for each in (*decision.reasons, *decision.warnings, *decision.conditions):
            assert each.code in SENTENCES
            assert "unknown " not in str(each), each
        if decision.refusal is DOUBT:
            assert facts.fail_on_unknown, (status, word, facts)


def test_no_key_is_emitted_where_it_could_stop_the_server() -> None:
    """Absent, always on, inert and unknown: nothing is ever written."""
    written = {status for status, word, facts in cells() if decided(status, word, **asdict(facts)).setting is not None}
    assert not written & set(UNWRITABLE)
    assert written == {FlagStatus.SETTABLE}


def test_true_is_never_written_without_a_proof() -> None:
    """True: settable, this launch proved, no wrong order seen, no draft, and the user said nothing."""
    for status, word, facts in cells():
        if decided(status, word, **asdict(facts)).setting is True:
            assert facts.proof is PROVED
            assert status is FlagStatus.SETTABLE
            assert word in {Word.UNIFORM, Word.NOT_COMPILED, Word.INCONCLUSIVE}
            assert (facts.speculative, facts.explicit) == (False, None)


def test_a_true_carries_its_conditions() -> None:
    """A true in the launch, ours or the user's, says that no draft may join it; a proved one, for which launch."""
    for status, word, facts in cells():
        decision = decided(status, word, **asdict(facts))
        users = facts.explicit is True and status in {FlagStatus.SETTABLE, FlagStatus.UNKNOWN}
        assert (NO_DRAFT in decision.conditions) == (decision.setting is True or users), (status, word, facts)
        held = decision.holds_for is not None
        assert held or decision.setting is not True
        assert not held or facts.proof is PROVED


def test_an_unsafe_launch_is_never_called_safe() -> None:
    """Where counting is on and known to be wrong, the launch is refused or warned of, and refused if asked to be."""
    for status, word, facts in cells():
        counted = status is FlagStatus.ALWAYS_ON or (status is FlagStatus.SETTABLE and facts.explicit is True)
        off_by_itself = status is FlagStatus.ALWAYS_ON and facts.speculative and not facts.counts_drafts
        wrong = word in UNSAFE or (facts.speculative and (status is FlagStatus.SETTABLE or facts.counts_drafts))
        if not counted or off_by_itself or not wrong:
            continue
        decision = decided(status, word, **asdict(facts))
        assert decision.warnings or decision.refusal is REFUSE, (status, word, facts)
        if facts.enforce or status is FlagStatus.ALWAYS_ON:
            assert decision.refusal is REFUSE, (status, word, facts)
