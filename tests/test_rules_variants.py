"""The model under other serving settings, and compiled: judged apart from the model itself, and never above it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import (
    UNEXPLORED,
    compiled,
    exploration,
    failed,
    layers,
    replaced,
    report,
    scenario,
    variant,
    verdict,
    without,
)

from rules.errors import ReportError
from rules.judge import EVERY_LAUNCH, IN_VARIANTS, OTHER_CODE, REPEATED, REQUIRED
from rules.report import parse_report
from rules.verdict import Verdict, Word

A, B, C = layers(3)
OWN_CODE = ("expert_parallel", "eplb", "lora", "kv_sharing_fast_prefill", "pipeline_first")


def judged(*variants: dict[str, Any], **changes: Any) -> Verdict:
    """The verdict on a uniform report with these variants."""
    return verdict(report(variants=variants, **changes))


# ---- one word each


@pytest.mark.parametrize("name", OWN_CODE)
def test_a_variant_that_keeps_the_order_is_as_safe_as_the_model(name: str) -> None:
    """Every pass under the setting ran the registered order of what was built for it."""
    found = judged(variant(name))
    assert found.word == Word.UNIFORM
    assert (found.variants, found.variant_reasons) == ({name: "uniform"}, {})


def test_a_stage_is_judged_by_its_own_layers() -> None:
    """A pipeline stage registers a part of the layers, or none, and runs exactly those."""
    found = judged(
        variant("pipeline_first", registered=[]),
        variant("pipeline_middle", registered=[A]),
        variant("pipeline_last", registered=[B, C]),
    )
    assert found.variants == {"pipeline_first": "no_moe", "pipeline_middle": "uniform", "pipeline_last": "uniform"}


@pytest.mark.parametrize(
    ("order", "word"), [([A, B, B], Word.REPEATED), ([B, A, C], Word.CONDITIONAL), ([B, C], Word.CONDITIONAL)]
)
def test_one_wrong_pass_makes_a_variant_unsafe(order: list[str], word: Word) -> None:
    """The setting is unsafe, and says why; the model itself stays what it is."""
    found = judged(variant("lora", order))
    assert (found.word, found.variants) == (Word.UNIFORM, {"lora": str(word)})
    assert "more_0" in found.variant_reasons["lora"]


def test_a_draft_that_shares_the_list_is_conditional() -> None:
    """The draft's pass runs the end of the list that it shares with the target, which is no prefix."""
    drafting = variant("speculative_draft", registered=[A, B, C])
    target = [entry | {"passes": [[A, B]] * len(entry["passes"])} for entry in drafting["scenarios"]]
    steps = [scenario("draft_step_0", [C]), scenario("draft_step_1", [C])]
    found = judged(drafting | {"scenarios": [*target, *steps]}, registered=[A, B])
    assert found.variants == {"speculative_draft": "conditional"}


@pytest.mark.parametrize("name", OTHER_CODE)
def test_other_code_is_never_safe_by_its_passes_alone(name: str) -> None:
    """A draft and another implementation have branches of their own, and nobody explored them."""
    found = judged(variant(name))
    assert found.variants == {name: "inconclusive"}
    assert "not explored" in found.variant_reasons[name]


def test_what_was_not_tried_has_no_word() -> None:
    """A setting that does not apply or could not be built says so in words."""
    found = judged(
        variant(
            "lora", status="not_applicable", detail="This vLLM takes no LoRA adapters for the model.", scenarios=[]
        ),
        variant("eplb", status="failed", detail="RuntimeError: no kernel", scenarios=[]),
    )
    assert found.variants == {}
    assert found.variant_reasons == {
        "lora": "does not apply: This vLLM takes no LoRA adapters for the model.",
        "eplb": "could not be run here: RuntimeError: no kernel",
    }


GAPS: dict[str, tuple[dict[str, Any], str]] = {
    "no scenario": (variant("lora", scenarios=[]), "scenario decode_1 did not run"),
    "a failed scenario": (replaced(variant("lora"), failed("prefill_short")), "scenario prefill_short did not run"),
    "a failed further scenario": (
        variant("lora") | {"scenarios": [*variant("lora")["scenarios"], failed("token_1_decode")]},
        "scenario token_1_decode failed: RuntimeError: no kernel",
    ),
    "an empty pass": (variant("lora", []), "no MoE call was recorded in scenario more_0"),
    "few equal passes": (replaced(variant("lora"), scenario("repeated_decode", [A, B, C])), "ran 1 of 16 equal passes"),
    "a layer that no pass ran": (
        variant("lora", registered=[A, B]) | {"registered": [A, B, C]},
        f"registered layer {C} ran in no pass",
    ),
}


@pytest.mark.parametrize("case", GAPS)
def test_less_than_proof_is_inconclusive(case: str) -> None:
    """A variant needs what the model itself needs, but for the largest batch."""
    data, said = GAPS[case]
    found = judged(data)
    assert found.variants == {"lora": "inconclusive"}
    assert said in found.variant_reasons["lora"]


def test_a_variant_needs_no_more_than_the_model() -> None:
    """Decode, prefill, a mixed batch and equal passes; the other scenarios explored the same code before."""
    assert {*IN_VARIANTS} < {*REQUIRED, *REPEATED}


# ---- what every launch is like


CUT = {"assumptions": [{"kind": "layers_shrunk", "detail": "num_hidden_layers 32 -> 3"}]}


def test_a_cut_model_stands_for_one_that_ran_with_every_layer() -> None:
    """More layers, the same loop, no branch that is not constant: the cut model's verdict holds."""
    found = judged(variant("full_depth", registered=layers(32)), **CUT)
    assert (found.word, found.variants) == (Word.UNIFORM, {"full_depth": "uniform"})


UNLIKE: dict[str, tuple[tuple[dict[str, Any], ...], str]] = {
    "was not built": ((), "was not run"),
    "failed": (
        (variant("full_depth", status="failed", detail="MemoryError: no room", scenarios=[]),),
        "was not run: MemoryError: no room",
    ),
    "has a branch of its own": (
        (variant("full_depth", registered=layers(32), detail="x.py:1 `index in self.skipped`"),),
        "branches there are not constant: x.py:1",
    ),
    "a layer never ran": ((variant("full_depth") | {"registered": layers(4)},), "ran in no pass"),
    "no decode": ((variant("full_depth", scenarios=[]),), "scenario decode_1 did not run"),
}


@pytest.mark.parametrize("case", UNLIKE)
def test_a_cut_model_proves_nothing_alone(case: str) -> None:
    """A layer that was cut away may be the one that is skipped."""
    variants, said = UNLIKE[case]
    found = judged(*variants, **CUT)
    assert found.word == Word.INCONCLUSIVE
    assert found.reasons[0].startswith("layers were cut, and ")
    assert said in found.reasons[0]


def test_a_cut_model_without_layers_needs_no_more() -> None:
    """Nothing is registered, so nothing can be skipped; unless the whole model does register layers."""
    assert verdict(report([], **CUT)).word == Word.NO_MOE
    assert verdict(report([], variants=[variant("full_depth", registered=[])], **CUT)).word == Word.NO_MOE
    found = verdict(report([], variants=[variant("full_depth")], **CUT))
    assert (found.word, found.reasons) == (
        Word.INCONCLUSIVE,
        ("with every layer of the model it registers 3 MoE layers",),
    )


@pytest.mark.parametrize("name", EVERY_LAUNCH)
def test_a_wrong_pass_in_every_launch_is_one_of_the_model(name: str) -> None:
    """With all layers, or quantised as the config says, the model is what is served."""
    found = judged(variant(name, [B, A, C]))
    assert found.word == Word.CONDITIONAL
    assert found.reasons[-1] == f"seen {EVERY_LAUNCH[name]}"
    assert found.witness is not None
    assert found.witness.executed == (B, A, C)


BASES: dict[str, dict[str, Any]] = {
    "inconclusive": report(exploration=exploration(UNEXPLORED)),
    "conditional": report(orders={"token_7_decode": [B]}),
    "no_moe": report([]),
}


@pytest.mark.parametrize("word", BASES)
@pytest.mark.parametrize("name", OWN_CODE)
def test_a_variant_with_layers_is_safe_only_beside_a_uniform_model(name: str, word: str) -> None:
    """Its branches were explored with the model's; where they were not, or lead to no layer, nothing is proved."""
    found = verdict(BASES[word] | {"variants": [variant(name)]})
    assert found.word == word
    assert found.variants == {name: "inconclusive"}
    assert found.variant_reasons[name] == f"the model itself is {word}"


def test_a_variant_without_layers_is_safe_beside_a_model_without() -> None:
    """No MoE layer anywhere is safe under any setting that was run."""
    assert verdict(report([], variants=[variant("lora", registered=[])])).variants == {"lora": "no_moe"}


def test_a_variant_is_named_once() -> None:
    """Else the later one would hide the earlier."""
    with pytest.raises(ReportError, match="a variant is named twice"):
        parse_report(report(variants=[variant("lora", [B]), variant("lora")]))


def test_variants_survive_storing() -> None:
    """Words and reasons are read back as they were written."""
    found = judged(variant("lora"), variant("eplb", status="failed", scenarios=[]), compile=compiled(([A], [B])))
    assert Verdict.from_dict(found.to_dict()) == found


def test_a_verdict_of_an_older_release_is_read() -> None:
    """What it did not say is unknown."""
    new = {"variants", "variant_reasons", "compile", "compile_reasons"}
    old = {name: value for name, value in verdict(report()).to_dict().items() if name not in new}
    found = Verdict.from_dict(old)
    assert (found.variants, found.variant_reasons, found.compile) == ({}, {}, "unknown")


def test_a_stored_word_that_is_none_is_refused() -> None:
    """A damaged store is not a safe verdict."""
    with pytest.raises(ValueError, match="moon"):
        Verdict.from_dict(verdict(report()).to_dict() | {"variants": {"lora": "moon"}})


# ---- less evidence never makes a variant safer


@given(st.data())
def test_losing_a_scenario_never_makes_a_variant_safe(choose: st.DataObject) -> None:
    """What a variant lost it does not have; only a wrong pass that is lost leaves what was around it."""
    orders = st.sampled_from([[A, B, C], [A, B], [], [B], [A, A]])
    data = variant("lora", *choose.draw(st.lists(orders, max_size=3)))
    name = choose.draw(st.sampled_from(IN_VARIANTS))
    before = judged(data).variants["lora"]
    after = judged({**without(data | {"planned": []}, name), "planned": []}).variants["lora"]
    assert not Word(after).safe
    assert Word(after).unsafe == Word(before).unsafe


# ---- compiled


@pytest.mark.parametrize("pairs", [[([A, B], [A, B])], [([A, B], [A, B]), ([A], [A])]])
def test_equal_passes_are_stable(pairs: list[Any]) -> None:
    """Eager and compiled ran the same layers in every scenario that was compared."""
    found = judged(compile=compiled(*pairs))
    assert (found.word, found.compile, found.compile_reasons) == (Word.UNIFORM, "stable", ())


@pytest.mark.parametrize("now", [[A], [], [B, A], [A, B, C]])
def test_one_pass_that_differs_is_frozen(now: list[str]) -> None:
    """It is a finding of its own: the verdict on the eager model stays, and the reason names the scenario."""
    found = judged(compile=compiled(([A, B, C], [A, B, C]), ([A, B], now)))
    assert (found.word, found.compile) == (Word.UNIFORM, "frozen")
    assert "compared_1" in found.compile_reasons[0]
    assert f"({len(now)} calls against 2)" in found.compile_reasons[0]
    assert len(found.compile_reasons) == 1


def test_a_difference_beside_passes_that_differ_by_themselves_may_be_chance() -> None:
    """The advice stays the careful one, and the second reason says what else may explain it."""
    by_chance = scenario("repeated_decode", *[[A, B, C]] * 15, [A, C])
    found = verdict(replaced(report(compile=compiled(([A, B, C], [A, B]))), by_chance))
    assert (found.word, found.compile) == (Word.CONDITIONAL, "frozen")
    assert found.compile_reasons[1] == "equal passes of repeated_decode differ by themselves, so this may be chance"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (None, "was not run"),
        (compiled(status="failed", detail="BackendCompilerFailed: no"), "BackendCompilerFailed: no"),
        (compiled(status="not_applicable", detail="vLLM does not compile this class."), "does not compile"),
        (compiled(), "was not compared: ran"),
        (compiled(([], [])), "no MoE call was recorded"),
    ],
)
def test_what_was_not_compared_is_unknown(part: dict[str, Any] | None, said: str) -> None:
    """Unknown is no finding: the verdict stays, and the reason says what is missing."""
    found = judged(compile=part)
    assert (found.word, found.compile) == (Word.UNIFORM, "unknown")
    assert said in found.compile_reasons[0]


def test_a_model_without_layers_is_stable_when_compiled() -> None:
    """There is nothing that could run otherwise."""
    assert verdict(report([], compile=compiled(([], [])))).compile == "stable"
