"""verdict + flag status + facts -> decision: the whole table, and what holds in each of its cells."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest

from rules.assumptions import COVERED
from rules.decide import NO_DRAFT, Decision, Facts, Refusal, decide
from rules.releases import Flag, FlagStatus, counts_drafts, flag_status
from rules.verdict import Verdict, Word

UNSAFE = (Word.REPEATED, Word.CONDITIONAL, Word.REORDERED)
SAFE = (Word.UNIFORM, Word.NO_MOE)
WORDS = (*Word, None)
UNWRITABLE = (FlagStatus.ABSENT, FlagStatus.ALWAYS_ON, FlagStatus.INERT, FlagStatus.UNKNOWN)
NOT_PROBED = ("enable_lora", "enable_eplb", "enable_dbo", "hf_overrides", "kv_sharing_fast_prefill")
PARALLEL = (
    "tensor_parallel",
    "expert_parallel",
    "data_parallel",
    "pipeline_parallel",
    "decode_context_parallel",
)
KEEP, REFUSE, DOUBT = Refusal.NONE, Refusal.UNSAFE, Refusal.UNKNOWN


def flag(status: FlagStatus) -> Flag:
    """A flag of this status."""
    return Flag(status, "Because of this release.", "table: vLLM 0.19.1, vllm/config/vllm.py")


def decided(status: FlagStatus, word: Word | None, **facts: object) -> Decision:
    """The decision for one cell of the table."""
    verdict = None if word is None else Verdict(word, ("a reason",))
    return decide(verdict, flag(status), replace(Facts(), **facts))  # type: ignore[arg-type]


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
    found = decided(status, word, speculative=speculative, enforce=enforce, strict=strict)
    assert (found.setting, found.warnings, found.refusal) == (None, (), KEEP)
    assert found.reasons == (f"fast_moe_cold_start is {status} here: Because of this release.",)


@pytest.mark.parametrize(
    ("word", "speculative", "setting"),
    [
        (Word.UNIFORM, False, True),
        (Word.NO_MOE, False, None),
        (Word.REPEATED, False, False),
        (Word.CONDITIONAL, False, False),
        (Word.REORDERED, False, False),
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
    """Settable: true for uniform alone, nothing for no_moe, false for all else and beside any draft; never refused."""
    found = decided(FlagStatus.SETTABLE, word, speculative=speculative, enforce=enforce, strict=strict)
    assert (found.setting, found.warnings, found.refusal) == (setting, (), KEEP)


@pytest.mark.parametrize(
    ("word", "refusal", "strict_refusal", "warned"),
    [
        (Word.UNIFORM, KEEP, KEEP, False),
        (Word.NO_MOE, KEEP, KEEP, False),
        (Word.REPEATED, REFUSE, REFUSE, False),
        (Word.CONDITIONAL, REFUSE, REFUSE, False),
        (Word.REORDERED, REFUSE, REFUSE, False),
        (Word.INCONCLUSIVE, KEEP, DOUBT, True),
        (None, KEEP, DOUBT, True),
    ],
)
def test_a_flag_that_is_always_on_refuses_what_is_unsafe(
    word: Word | None, refusal: Refusal, strict_refusal: Refusal, warned: bool
) -> None:
    """Always on: unsafe is refused, unproved warns, and `--strict` refuses that too."""
    found = decided(FlagStatus.ALWAYS_ON, word)
    assert (found.setting, found.refusal, bool(found.warnings)) == (None, refusal, warned)
    assert decided(FlagStatus.ALWAYS_ON, word, strict=True).refusal == strict_refusal


@pytest.mark.parametrize("word", UNSAFE)
def test_a_refusal_names_the_way_out(word: Word) -> None:
    """Where only another release helps, the reasons say which."""
    reasons = " ".join(decided(FlagStatus.ALWAYS_ON, word).reasons)
    assert "use vLLM 0.16 or later" in reasons
    assert str(word) in reasons


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("strict", [False, True])
def test_a_draft_under_0_15_0_is_refused(word: Word | None, strict: bool) -> None:
    """0.15.0 counts a draft's layers too: whatever the verdict, the launch is refused."""
    status = flag_status("0.15.0", "2.9.1", "cuda").status
    counts = counts_drafts("0.15.0")
    found = decided(status, word, speculative=True, counts_drafts=counts, strict=strict)
    assert (found.setting, found.refusal) == (None, REFUSE)


@pytest.mark.parametrize("word", WORDS)
def test_a_draft_under_0_15_1_switches_the_flag_off_by_itself(word: Word | None) -> None:
    """0.15.1 turns itself off with speculative decoding: nothing to write, to warn of or to refuse."""
    status = flag_status("0.15.1", "2.9.1", "cuda").status
    found = decided(status, word, speculative=True, counts_drafts=counts_drafts("0.15.1"), strict=True)
    assert (found.setting, found.warnings, found.refusal) == (None, (), KEEP)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("speculative", [False, True])
def test_an_unknown_flag_is_safe_only_with_a_safe_verdict(word: Word | None, speculative: bool) -> None:
    """Unknown: a safe verdict needs no warning, all else warns, and `--strict` refuses it."""
    found = decided(FlagStatus.UNKNOWN, word, speculative=speculative)
    safe = word in SAFE and not speculative
    assert (found.setting, found.refusal, bool(found.warnings)) == (None, KEEP, not safe)
    strict = decided(FlagStatus.UNKNOWN, word, speculative=speculative, strict=True)
    assert strict.refusal == (KEEP if safe else DOUBT)


@pytest.mark.parametrize("word", UNSAFE)
def test_an_unknown_flag_with_an_unsafe_verdict_says_what_may_happen(word: Word) -> None:
    """The warning names the verdict, and does not ask for a probe that was already made."""
    (warning,) = decided(FlagStatus.UNKNOWN, word).warnings
    assert "wrong experts" in warning
    assert str(word) in warning
    assert "tuner probe" not in warning


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("speculative", [False, True])
@pytest.mark.parametrize("word", WORDS)
def test_an_unknown_flag_is_switched_off_where_the_key_is_taken(
    word: Word | None, speculative: bool, strict: bool
) -> None:
    """The key is taken: false for whatever has MoE layers, without a warning and even with `--strict`."""
    verdict = None if word is None else Verdict(word, ("a reason",))
    taken = replace(flag(FlagStatus.UNKNOWN), takes_key=True)
    found = decide(verdict, taken, Facts(speculative=speculative, strict=strict))
    without_layers = word is Word.NO_MOE and not speculative
    assert (found.setting, found.warnings, found.refusal) == (None if without_layers else False, (), KEEP)
    assert found.reasons[0] == "what fast_moe_cold_start does here is not known: Because of this release."


@pytest.mark.parametrize("takes_key", [False, None])
@pytest.mark.parametrize("word", WORDS)
def test_an_unknown_flag_is_left_alone_where_the_key_is_not_taken(word: Word | None, takes_key: bool | None) -> None:
    """A vLLM without the key would not start with it: nothing is written, and what is not safe is warned of."""
    verdict = None if word is None else Verdict(word, ("a reason",))
    found = decide(verdict, replace(flag(FlagStatus.UNKNOWN), takes_key=takes_key), Facts())
    assert (found.setting, bool(found.warnings)) == (None, word not in SAFE)


# ---- settings that the probe did not use


@pytest.mark.parametrize("name", NOT_PROBED)
@pytest.mark.parametrize("word", SAFE)
def test_a_setting_that_no_rule_covers_is_no_proof(name: str, word: Word) -> None:
    """LoRA, EPLB, DBO, config overrides, fast prefill: settable becomes false, and the reason names the setting."""
    found = decided(FlagStatus.SETTABLE, word, settings=("tensor_parallel", name))
    assert found.setting is False
    assert name in found.reasons[0]
    assert "tensor_parallel" not in found.reasons[0]


@pytest.mark.parametrize("name", NOT_PROBED)
@pytest.mark.parametrize("status", [FlagStatus.ALWAYS_ON, FlagStatus.UNKNOWN])
def test_a_setting_that_no_rule_covers_is_warned_of(name: str, status: FlagStatus) -> None:
    """Where nothing can be written, such a setting is a warning, and a refusal with `--strict`."""
    found = decided(status, Word.UNIFORM, settings=(name,))
    assert name in found.warnings[0]
    assert decided(status, Word.UNIFORM, settings=(name,), strict=True).refusal == DOUBT


@pytest.mark.parametrize("name", PARALLEL)
def test_parallelism_is_covered(name: str) -> None:
    """Tensor, expert, data, pipeline and decode-context parallelism cannot change the order: uniform stays true."""
    assert name in COVERED
    assert decided(FlagStatus.SETTABLE, Word.UNIFORM, settings=(name,)).setting is True


# ---- the user's own value


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", FlagStatus)
def test_the_users_value_is_kept(status: FlagStatus, word: Word | None, explicit: bool) -> None:
    """An explicit value is never overwritten, whatever is known, and the first reason says that it is the user's."""
    found = decided(status, word, explicit=explicit)
    assert found.setting is None
    assert found.reasons[0] == f"fast_moe_cold_start={str(explicit).lower()} was given by the user and is kept"


@pytest.mark.parametrize("speculative", [False, True])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", [FlagStatus.SETTABLE, FlagStatus.UNKNOWN])
def test_an_explicit_true_is_checked(status: FlagStatus, word: Word | None, speculative: bool) -> None:
    """A true of the user's warns unless it is proved; `--enforce` refuses a known wrong, `--strict` the unknown."""
    found = decided(status, word, explicit=True, speculative=speculative)
    proved = word in SAFE and not speculative
    unsafe = word in UNSAFE or speculative
    assert bool(found.warnings) == (not proved)
    assert all(warning.startswith("fast_moe_cold_start=true contradicts") for warning in found.warnings)
    assert found.refusal == KEEP
    enforced = decided(status, word, explicit=True, speculative=speculative, enforce=True)
    assert enforced.refusal == (REFUSE if unsafe else KEEP)
    strict = decided(status, word, explicit=True, speculative=speculative, enforce=True, strict=True)
    assert strict.refusal == (REFUSE if unsafe else KEEP if proved else DOUBT)


@pytest.mark.parametrize("name", NOT_PROBED)
def test_an_explicit_true_beside_an_uncovered_setting_warns(name: str) -> None:
    """The warning names the setting; it is no known contradiction, so `--enforce` does not refuse."""
    found = decided(FlagStatus.SETTABLE, Word.UNIFORM, explicit=True, settings=(name,), enforce=True)
    assert name in found.warnings[0]
    assert found.refusal == KEEP


@pytest.mark.parametrize("word", WORDS)
def test_an_explicit_false_is_always_right_where_it_can_be_set(word: Word | None) -> None:
    """A false of the user's is at worst slow: no warning, no refusal."""
    found = decided(FlagStatus.SETTABLE, word, explicit=False, enforce=True, strict=True, speculative=True)
    assert (found.warnings, found.refusal) == ((), KEEP)


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("status", [FlagStatus.ABSENT, FlagStatus.ALWAYS_ON])
def test_an_explicit_value_that_stops_the_server_is_warned_of(
    status: FlagStatus, word: Word | None, explicit: bool
) -> None:
    """A release without the key does not start with it: the warning says so beside any other."""
    found = decided(status, word, explicit=explicit)
    assert "does not start" in found.warnings[-1]
    assert found.refusal == decided(status, word).refusal


@pytest.mark.parametrize("word", WORDS)
def test_an_explicit_value_that_does_nothing_is_left_alone(word: Word | None) -> None:
    """Inert: a true contradicts nothing, because vLLM forces it to false."""
    found = decided(FlagStatus.INERT, word, explicit=True, enforce=True, strict=True)
    assert (found.warnings, found.refusal, found.conditions) == ((), KEEP, ())


# ---- every cell


def cells() -> Iterator[tuple[FlagStatus, Word | None, Facts]]:
    """Every flag status with every verdict and every combination of facts."""
    switches = [(False, True)] * 4
    settings = [(), ("tensor_parallel",), ("enable_lora",), ("tensor_parallel", "enable_lora")]
    explicit = (None, False, True)
    for status, word, own, names, flags in product(FlagStatus, WORDS, explicit, settings, product(*switches)):
        speculative, counts, strict, enforce = flags
        yield status, word, Facts(speculative, counts, own, names, strict, enforce)


def test_every_cell_has_a_decision() -> None:
    """Deciding never fails; every decision says why in whole words, and every refusal has a cause."""
    for status, word, facts in cells():
        found = decided(status, word, **vars(facts))
        assert found.reasons, (status, word, facts)
        assert all(text.strip() for text in (*found.reasons, *found.warnings, *found.conditions))
        if found.refusal is DOUBT:
            assert facts.strict, (status, word, facts)


def test_no_key_is_emitted_where_it_could_stop_the_server() -> None:
    """Absent, always on, inert and unknown: nothing is ever written."""
    written = {status for status, word, facts in cells() if decided(status, word, **vars(facts)).setting is not None}
    assert not written & set(UNWRITABLE)
    assert written == {FlagStatus.SETTABLE}


def test_true_is_written_for_one_reason_only() -> None:
    """True: settable, uniform, no draft, no uncovered setting, and the user said nothing."""
    for status, word, facts in cells():
        if decided(status, word, **vars(facts)).setting is True:
            assert (status, word) == (FlagStatus.SETTABLE, Word.UNIFORM)
            assert (facts.speculative, facts.explicit) == (False, None)
            assert set(facts.settings) <= set(COVERED)


def test_a_true_carries_its_condition() -> None:
    """A true in the launch, ours or the user's, says that no draft may join it; nothing else carries that."""
    for status, word, facts in cells():
        found = decided(status, word, **vars(facts))
        is_true = found.setting is True or (
            facts.explicit is True and status in {FlagStatus.SETTABLE, FlagStatus.UNKNOWN}
        )
        assert found.conditions == ((NO_DRAFT,) if is_true else ()), (status, word, facts)


def test_an_unsafe_launch_is_never_called_safe() -> None:
    """Where counting is on and known to be wrong, the launch is refused or warned of, and refused if asked to be."""
    for status, word, facts in cells():
        counted = status is FlagStatus.ALWAYS_ON or (status is FlagStatus.SETTABLE and facts.explicit is True)
        off_by_itself = status is FlagStatus.ALWAYS_ON and facts.speculative and not facts.counts_drafts
        wrong = word in UNSAFE or (facts.speculative and (status is FlagStatus.SETTABLE or facts.counts_drafts))
        if not counted or off_by_itself or not wrong:
            continue
        found = decided(status, word, **vars(facts))
        assert found.warnings or found.refusal is REFUSE, (status, word, facts)
        if facts.enforce or status is FlagStatus.ALWAYS_ON:
            assert found.refusal is REFUSE, (status, word, facts)
