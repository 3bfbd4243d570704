"""Launch settings and compiling in a decision: what variants cover, what they forbid, and when the mode is written."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules.assumptions import COVERED
from rules.decide import EAGER, GRAPHS, NO_DRAFT, NOT_COMPILED, Decision, Facts, Refusal, decide
from rules.releases import Flag, FlagStatus
from rules.settings import DRAFT, SHOWN_BY, not_covered, seen_unsafe
from rules.verdict import Verdict, Word

UNSAFE = (Word.REPEATED, Word.CONDITIONAL, Word.REORDERED)
STAGES = SHOWN_BY["pipeline_parallel"]
MOVED = "compiled, scenario decode_1 ran other MoE layers than eager (2 calls against 3)"


def verdict(
    word: Word | None = Word.UNIFORM, shown: Mapping[str, Word] | None = None, *, frozen: bool = False, **more: Word
) -> Verdict | None:
    """A verdict with these words for variants; None for none."""
    if word is None:
        return None
    variants = {**(shown or {}), **more}
    unsafe = {name: "scenario decode_1 failed" for name, found in variants.items() if not found.safe}
    said = ("frozen", (MOVED,)) if frozen else ("stable", ())
    return Verdict(
        word,
        ("a reason",),
        variants={name: str(found) for name, found in variants.items()},
        variant_reasons=unsafe,
        compile=said[0],
        compile_reasons=said[1],
    )


def decided(found: Verdict | None, status: FlagStatus = FlagStatus.SETTABLE, **facts: object) -> Decision:
    """The decision on a launch."""
    return decide(found, Flag(status, "Because of this release.", "table"), replace(Facts(), **facts))  # type: ignore[arg-type]


def stages(**words: Word) -> Mapping[str, Word]:
    """Words for the pipeline stages, uniform where none is given."""
    return {stage: words.get(stage.removeprefix("pipeline_"), Word.UNIFORM) for stage in STAGES}


# ---- settings that a variant shows

SHOWN = {setting: names for setting, names in SHOWN_BY.items() if setting not in COVERED}


@pytest.mark.parametrize("setting", SHOWN)
def test_a_setting_that_was_seen_to_be_safe_is_covered(setting: str) -> None:
    """No rule covers it, but the model was run with it: a uniform model stays true."""
    safe = dict.fromkeys(SHOWN[setting], Word.UNIFORM)
    assert decided(verdict(shown=safe), settings=(setting,)).setting is True
    assert decided(verdict(Word.NO_MOE, safe), settings=(setting,)).setting is None


@pytest.mark.parametrize("setting", SHOWN_BY)
@pytest.mark.parametrize("word", UNSAFE)
def test_a_setting_that_was_seen_to_be_unsafe_makes_the_launch_unsafe(setting: str, word: Word) -> None:
    """Even where a rule would cover it: false, a refusal where it cannot be switched off, and `--enforce` refuses."""
    found = verdict(shown={SHOWN_BY[setting][-1]: word})
    launch = decided(found, settings=(setting,))
    assert launch.setting is False
    assert setting in launch.reasons[0]
    assert f"the verdict is {word}: counting would run wrong experts" in launch.reasons[0]
    assert decided(found, FlagStatus.ALWAYS_ON, settings=(setting,)).refusal is Refusal.UNSAFE
    assert "wrong experts" in decided(found, FlagStatus.UNKNOWN, settings=(setting,)).warnings[0]
    assert decided(found, explicit=True, enforce=True, settings=(setting,)).refusal is Refusal.UNSAFE


@pytest.mark.parametrize("word", UNSAFE)
def test_one_stage_is_enough(word: Word) -> None:
    """A pipeline is as unsafe as its worst stage, and the reason names the stage."""
    reasons = decided(verdict(shown=stages(last=word)), settings=("pipeline_parallel",)).reasons
    assert reasons[0].startswith(f"with pipeline_parallel (pipeline_last) the verdict is {word}:")


def test_an_unsafe_variant_of_another_launch_changes_nothing() -> None:
    """What LoRA does to a model matters to launches with LoRA."""
    found = verdict(lora=Word.CONDITIONAL, eplb=Word.REORDERED)
    assert decided(found).setting is True
    assert decided(found, settings=("tensor_parallel",)).setting is True


def test_an_unsafe_variant_beats_an_inconclusive_model() -> None:
    """One wrong pass of this launch is proof, whatever is not known of the model itself."""
    found = verdict(Word.INCONCLUSIVE, lora=Word.REPEATED)
    assert decided(found, FlagStatus.ALWAYS_ON, settings=("enable_lora",)).refusal is Refusal.UNSAFE


def test_a_variant_never_makes_a_model_safe() -> None:
    """Settings come on top of a safe verdict, not in its place."""
    for word in (*UNSAFE, Word.INCONCLUSIVE):
        assert decided(verdict(word, lora=Word.UNIFORM), settings=("enable_lora",)).setting is False


def test_settings_together_are_covered_if_each_is() -> None:
    """Two settings that were each seen to be safe are; one that was not spoils both, and is the one named."""
    found = verdict(lora=Word.UNIFORM, eplb=Word.UNIFORM, expert_parallel=Word.UNIFORM)
    assert decided(found, settings=("enable_lora", "enable_eplb", "expert_parallel", "tensor_parallel")).setting is True
    launch = decided(found, settings=("enable_lora", "enable_dbo", "hf_overrides"))
    assert launch.setting is False
    assert "(the probe did not use enable_dbo, hf_overrides)" in launch.reasons[0]


def test_the_reason_says_what_was_found_of_a_setting() -> None:
    """Tried without proof, not run here, not tried at all, and no variant for it: each in its own words."""
    found = replace(
        verdict(lora=Word.INCONCLUSIVE),  # type: ignore[type-var]
        variant_reasons={"lora": "scenario decode_1 failed", "eplb": "could not be run here: RuntimeError: no kernel"},
    )
    assert isinstance(found, Verdict)
    asked = ("enable_lora", "enable_eplb", "kv_sharing_fast_prefill", "enable_dbo")
    assert not_covered(found, asked) == (
        "the probe did not use kv_sharing_fast_prefill, enable_dbo",
        "with enable_lora the verdict is inconclusive: scenario decode_1 failed",
        "enable_eplb could not be run here: RuntimeError: no kernel",
    )


def test_a_rule_covers_what_could_not_be_tried() -> None:
    """A stage that does not build here proves nothing, and takes nothing from the rule."""
    found = verdict(shown=stages(middle=Word.INCONCLUSIVE))
    assert found is not None
    assert not_covered(found, ["pipeline_parallel"]) == ()
    assert decided(found, settings=("pipeline_parallel",)).setting is True


@pytest.mark.parametrize("word", Word)
def test_a_draft_is_never_covered(word: Word) -> None:
    """A launch may bring another draft than the one that was tried; what was seen with that one is told."""
    launch = decided(verdict(shown={DRAFT: word}), speculative=True)
    assert launch.setting is False
    assert ("with its own draft the model is" in launch.reasons[0]) == word.unsafe


# ---- compiling


@pytest.mark.parametrize("status", FlagStatus)
@pytest.mark.parametrize("word", Word)
def test_a_frozen_model_is_not_compiled(status: FlagStatus, word: Word) -> None:
    """The mode is written whatever the flag does, absent and inert included, and the flag's value does not change."""
    plain, frozen = decided(verdict(word), status), decided(verdict(word, frozen=True), status)
    assert (plain.mode, plain.mode_reasons) == (None, ())
    assert (frozen.mode, frozen.mode_reasons) == (EAGER, (f"the model is run without compiling: {MOVED}", GRAPHS))
    assert (frozen.setting, frozen.refusal, frozen.warnings) == (plain.setting, plain.refusal, plain.warnings)


@pytest.mark.parametrize("status", FlagStatus)
def test_eager_settings_of_the_users_own_are_right(status: FlagStatus) -> None:
    """Nothing to write and nothing to warn of."""
    found = decided(verdict(frozen=True), status, compiles=False)
    assert (found.mode, found.warnings) == (None, decided(verdict(), status).warnings)
    assert found.mode_reasons[0].startswith("eager, as the user asks, is right")


@pytest.mark.parametrize("status", FlagStatus)
def test_a_mode_of_the_users_own_is_kept_and_warned_of(status: FlagStatus) -> None:
    """Their value wins; that it runs wrong experts is said."""
    found = decided(verdict(frozen=True), status, compiles=True)
    assert found.mode is None
    assert "The launch compiles the model as the user asks" in found.warnings[-1]
    assert MOVED in found.warnings[-1]


def test_counting_is_not_proved_for_a_frozen_model_that_is_compiled() -> None:
    """The verdict is about eager passes, and the compiled ones are others: false, and a true of the user's warns."""
    found = decided(verdict(frozen=True), compiles=True)
    assert found.setting is False
    assert "compiled, as the user asks, the model runs other MoE layers" in found.reasons[0]
    assert len(decided(verdict(frozen=True), compiles=True, explicit=True).warnings) == 2


def test_a_true_for_a_frozen_model_says_when_it_holds() -> None:
    """An exported true may meet another command line."""
    assert decided(verdict(frozen=True)).conditions == (NO_DRAFT, NOT_COMPILED)
    assert decided(verdict(frozen=True), compiles=False).conditions == (NO_DRAFT, NOT_COMPILED)
    assert decided(verdict(Word.CONDITIONAL, frozen=True)).conditions == ()


@pytest.mark.parametrize("compiles", [None, False, True])
def test_without_a_finding_compiling_is_left_alone(compiles: bool | None) -> None:
    """Stable, unknown or no verdict at all: nothing is written and nothing said."""
    for found in (None, verdict(), Verdict(Word.UNIFORM, ("a reason",), compile="unknown")):
        launch = decided(found, compiles=compiles)
        assert (launch.mode, launch.mode_reasons, launch.warnings) == (None, (), ())


# ---- every cell

WORDS = st.sampled_from([*Word])
NAMES = [*{name for names in SHOWN_BY.values() for name in names}, DRAFT, "transformers"]
SETTINGS = [*dict.fromkeys([*SHOWN_BY, "enable_dbo", "hf_overrides", *COVERED])]


@st.composite
def verdicts(draw: st.DrawFn) -> Verdict | None:
    """Any verdict."""
    word = draw(st.sampled_from([*Word, None]))
    return verdict(word, draw(st.dictionaries(st.sampled_from(NAMES), WORDS)), frozen=draw(st.booleans()))


@st.composite
def launches(draw: st.DrawFn) -> Facts:
    """Any launch."""
    maybe = st.sampled_from([None, False, True])
    return Facts(
        speculative=draw(st.booleans()),
        counts_drafts=draw(st.booleans()),
        explicit=draw(maybe),
        settings=tuple(draw(st.lists(st.sampled_from(SETTINGS), max_size=3))),
        strict=draw(st.booleans()),
        enforce=draw(st.booleans()),
        compiles=draw(maybe),
    )


def unsafe_words(found: Verdict, facts: Facts) -> Iterator[Word]:
    """Words of the variants that this launch's settings are shown by, where they are unsafe."""
    for setting, variant in product(facts.settings, NAMES):
        if variant in SHOWN_BY.get(setting, ()) and variant in found.variants:
            word = Word(found.variants[variant])
            yield from [word] * word.unsafe


@given(verdicts(), launches(), st.sampled_from([*FlagStatus]))
def test_every_cell_has_a_decision(found: Verdict | None, facts: Facts, status: FlagStatus) -> None:
    """Deciding never fails, says why, and what it writes is backed by all that it may rest on."""
    launch = decide(found, Flag(status, "Because.", "table"), facts)
    assert all(text.strip() for text in (*launch.reasons, *launch.warnings, *launch.conditions, *launch.mode_reasons))
    assert launch.reasons
    if launch.setting is True:
        assert found is not None
        assert (found.word, status, facts.speculative, facts.explicit) == (
            Word.UNIFORM,
            FlagStatus.SETTABLE,
            False,
            None,
        )
        assert not_covered(found, facts.settings) == ()
        assert seen_unsafe(found, facts.settings) is None
        assert not (found.compile == "frozen" and facts.compiles)
    assert (launch.mode == EAGER) == (found is not None and found.compile == "frozen" and facts.compiles is None)
    if (
        found is not None
        and any(unsafe_words(found, facts))
        and status is FlagStatus.ALWAYS_ON
        and not facts.speculative
    ):
        assert launch.refusal is Refusal.UNSAFE


@given(verdicts(), launches(), st.sampled_from([*FlagStatus]))
def test_one_more_setting_never_makes_a_launch_safer(found: Verdict | None, facts: Facts, status: FlagStatus) -> None:
    """Each setting can only take proof away."""
    flag = Flag(status, "Because.", "table")
    before = decide(found, flag, facts)
    for setting in SETTINGS:
        after = decide(found, flag, replace(facts, settings=(*facts.settings, setting)))
        assert not (after.setting is True and before.setting is not True)
        assert not (before.refusal is Refusal.UNSAFE and after.refusal is not Refusal.UNSAFE)


@given(verdicts(), launches(), st.sampled_from([*FlagStatus]), st.sampled_from(NAMES))
def test_losing_a_variant_never_makes_a_launch_true(
    found: Verdict | None, facts: Facts, status: FlagStatus, name: str
) -> None:
    """Only a variant that was seen to be unsafe may be missed, and then a rule must cover its setting."""
    if found is None:
        return
    rest = {variant: word for variant, word in found.variants.items() if variant != name}
    flag = Flag(status, "Because.", "table")
    before, after = decide(found, flag, facts), decide(replace(found, variants=rest), flag, facts)
    if after.setting is True and before.setting is not True:
        assert any(unsafe_words(found, facts))
        assert set(facts.settings) <= {*COVERED, *SHOWN_BY}
