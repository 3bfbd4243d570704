"""What engines of a launch answered: distances, the noise that they are held against, and what follows."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from output_samples import TOKENS, output, outputs, prompt
from reports import layers, report, verdict

from rules.errors import ReportError
from rules.output import CEILING, FLOOR, TIMES_NOISE, cycle, distance, judge_outputs, noise_floor
from rules.reason import Reason, reason
from rules.report import Output, parse_report
from rules.verdict import Verdict, Word

FLAG, ON, OFF = "flag_on_against_flag_off", "flag_on_against_eager", "flag_off_against_eager"


def seen(engines: list[dict[str, Any]], **changes: Any) -> Verdict:
    """The verdict on a report with these engines."""
    return verdict(report(outputs=engines, **changes))


def read(engines: list[dict[str, Any]]) -> dict[str, Output]:
    """The engines as rules read them, by name."""
    return {one.name: one for one in parse_report(report(outputs=engines)).outputs}


def test_equal_answers_deepen_the_evidence_and_leave_the_word() -> None:
    """All comparisons are `same`, and say by how much, and against what."""
    found = seen(outputs(off=0.01, on=0.01))
    assert (found.word, found.depth) == (Word.UNIFORM, "output")
    assert found.outputs == {FLAG: "same", ON: "same", OFF: "same"}
    why = found.output_reasons[ON]
    nats = {"prompt_tokens": 0.01, "added_tokens": 0.01, "alone": 0, "threshold": 0.05, "noise": 0, "largest": 0.01}
    assert (why.code, why.fields) == ("distance", pytest.approx(nats))


def test_a_report_without_outputs_says_nothing_of_them() -> None:
    """As one of the order probe."""
    found = seen([])
    assert (found.depth, found.outputs, found.output_reasons) == ("order", {}, {})


def test_a_flag_that_moves_the_answers_takes_a_safe_verdict_back() -> None:
    """Code that looks uniform and a flag that changes answers contradict one another."""
    found = seen(outputs(on=1.5))
    assert (found.word, found.outputs[FLAG]) == (Word.INCONCLUSIVE, "moved")
    assert found.reasons[0] == reason("output_contradicts", found.output_reasons[FLAG])
    assert found.output_reasons[FLAG].fields["prompt_tokens"] == pytest.approx(1.5)


def test_a_flag_that_moves_the_answers_leaves_an_unsafe_verdict_standing() -> None:
    """Where counting is known to be wrong, the answers agree."""
    order = layers(3)
    found = seen(outputs(on=1.5), orders={"decode_1": [order[0], order[2]]})
    assert (found.word, found.outputs[FLAG]) == (Word.CONDITIONAL, "moved")


def test_compiling_that_moves_the_answers_is_said_and_decides_nothing() -> None:
    """Both values of the flag are as far from eager: rounding may do that."""
    found = seen(outputs(on=0.2, off=0.2))
    assert (found.word, found.outputs) == (Word.UNIFORM, {FLAG: "same", ON: "moved", OFF: "moved"})
    assert found.output_reasons[ON].fields["prompt_tokens"] == pytest.approx(0.2)


def test_a_launch_whose_flag_does_nothing_is_held_against_eager() -> None:
    """There is one engine of it."""
    engines = [*outputs()[:2], output("as_launched", 0.01)]
    assert seen(engines).outputs == {"as_launched_against_eager": "same"}


def test_nothing_of_it_makes_a_model_safe() -> None:
    """Equal answers show the prompts that were sent; a launch that is not proved stays so."""
    found = seen(outputs(), proofs=[])
    assert (found.word, found.outputs[FLAG], found.depth) == (Word.INCONCLUSIVE, "same", "output")


@pytest.mark.parametrize(("by", "word"), [(0.19, "same"), (0.21, "moved")])
def test_the_threshold_follows_the_noise(by: float, word: str) -> None:
    """Ten times what the eager engine differs from itself, started anew or within a batch."""
    for engines in (outputs(on=by, again=0.02), outputs(on=by, noise=0.02)):
        assert seen(engines).outputs[FLAG] == word


def test_a_noisy_engine_does_not_hide_in_its_own_noise() -> None:
    """What is compared has no say in the threshold; the reference has."""
    engines = [*outputs()[:2], output("flag_on", 0.3, noise=0.3), output("flag_off")]
    assert seen(engines).outputs[FLAG] == "moved"
    engines = [*outputs()[:2], output("flag_on", 0.3), output("flag_off", noise=0.04)]
    assert seen(engines).outputs[FLAG] == "same"


def test_noise_above_all_measure_says_nothing() -> None:
    """A threshold that would pass wrong experts is none; what lies beyond even that has moved."""
    loud = seen(outputs(on=0.5, again=0.2))
    assert (loud.outputs[FLAG], loud.depth) == ("unknown", "order")
    why = loud.output_reasons[FLAG]
    assert why.code == "noise_too_large"
    assert why.because is not None
    assert why.because.fields["prompt_tokens"] == pytest.approx(0.5)
    assert seen(outputs(on=2.5, again=0.2)).outputs[FLAG] == "moved"


def without_numbers(name: str) -> dict[str, Any]:
    """An engine that answered one prompt with NaN."""
    return output(name, prompts=[prompt(given=[None, -1.0, -1.0]), prompt("tokens_3"), prompt("tokens_7_again")])


def test_numbers_that_are_none_move_the_answers_unless_both_have_them() -> None:
    """Where only the flag brings NaN, it is the flag's."""
    eager = outputs()[:2]
    assert seen([*eager, without_numbers("flag_on"), output("flag_off")]).outputs[FLAG] == "moved"
    both = seen([*eager, without_numbers("flag_on"), without_numbers("flag_off")])
    assert (both.outputs[FLAG], both.outputs[ON], both.word) == ("unknown", "moved", Word.UNIFORM)


FLAG_OFF_FAILED = reason("engine_of_two", reason("engine_failed", detail="no memory"), engine="flag_off")


@pytest.mark.parametrize(
    ("engines", "why"),
    [
        ([*outputs()[:3], output("flag_off", status="failed", detail="no memory", prompts=[])], FLAG_OFF_FAILED),
        ([*outputs()[:1], *outputs()[2:]], reason("noise_unknown")),
        ([*outputs()[:3], output("flag_off", prompts=[prompt()])], reason("other_prompts")),
        ([output(one["name"], prompts=[]) for one in outputs()], reason("no_numbers_in_both")),
        (
            [*outputs()[:2], output("flag_on", 2.0, engine={"flag": False}), output("flag_off")],
            reason("flag_switched_off"),
        ),
    ],
)
def test_less_than_a_comparison_is_unknown(engines: list[dict[str, Any]], why: Reason) -> None:
    """It proves nothing and takes nothing back."""
    found = seen(engines)
    assert (found.word, found.outputs[FLAG]) == (Word.UNIFORM, "unknown")
    assert found.output_reasons[FLAG] == why


def test_added_tokens_count_as_far_as_they_have_the_same_past() -> None:
    """Through the first one that differs: it was chosen after equal tokens; what follows was not."""
    other = prompt(tokens=[*TOKENS[:2], 77, *TOKENS[3:]], made=[-0.5, -0.5, -0.8, *[-99.0] * 13])
    engines = [*outputs()[:3], output("flag_off", prompts=[other, *output("eager")["prompts"][1:]])]
    named = read(engines)
    found = distance(named["flag_on"], named["flag_off"])
    assert found is not None
    assert (found.given, found.made) == (0, pytest.approx(0.3 / (3 + 16 + 16)))
    parting = pytest.approx(0.3)
    assert found.parted == {"parted": 1, "prompts": 3, "token": 3, "prompt": "tokens_7", "parting": parting}


@pytest.mark.parametrize(("apart", "word"), [(0.01, "same"), (0.3, "moved")])
def test_where_answers_part_the_equal_tokens_before_hide_nothing(apart: float, word: str) -> None:
    """Two tokens as likely as each other differ by little there; one that wrong experts chose does not."""
    parted = prompt(tokens=[*TOKENS[:15], 77], made=[*[-0.5] * 15, -0.5 - apart])
    engines = [*outputs()[:2], output("flag_on", prompts=[parted, *output("eager")["prompts"][1:]]), output("flag_off")]
    named = read(engines)
    found = distance(named["flag_on"], named["flag_off"])
    assert found is not None
    assert max(found.given, found.made, found.alone) < FLOOR
    assert found.parting == pytest.approx(apart)
    assert seen(engines).outputs == {FLAG: word, ON: "same", OFF: "same"}


def test_decoding_alone_can_move() -> None:
    """Prompts are answered alike, and each token after them is another's."""
    wrong = [{**one, "made": [-3.0] * len(TOKENS)} for one in output("flag_on")["prompts"]]
    found = seen([*outputs()[:2], output("flag_on", prompts=wrong), output("flag_off")])
    assert found.outputs[FLAG] == "moved"


def test_a_prompt_decoded_alone_is_not_hidden_by_the_others() -> None:
    """A model that leaves the order only in passes of one token moves one prompt of many."""
    lone = prompt("alone", alone=True)
    wrong = prompt("alone", alone=True, made=[-0.8] * len(TOKENS))
    engines = [{**one, "prompts": [*one["prompts"], lone]} for one in outputs()]
    assert seen(engines).outputs[FLAG] == "same"
    engines[2]["prompts"] = [*engines[2]["prompts"][:-1], wrong]
    found = seen(engines)
    assert found.outputs[FLAG] == "moved"
    fields = found.output_reasons[FLAG].fields
    assert (fields["added_tokens"], fields["alone"]) == (0, pytest.approx(0.3))


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([4] * 24, 1),
        ([1, 2] * 12, 2),
        ([9, 9, 9, 9, *[1, 2, 3, 4] * 5], 4),
        ([1, 2, 3, 4, 5] * 5, 0),
        ([*TOKENS], 0),
        ([4] * 11, 0),
        ([], 0),
    ],
)
def test_a_short_cycle_at_the_end_is_found(tokens: list[int], length: int) -> None:
    """Its length, or 0."""
    assert cycle(tokens) == length


def test_a_cycle_is_told_where_the_eager_engine_has_none() -> None:
    """A thin model may run into one by itself."""
    stuck = output("flag_on", prompts=[prompt(tokens=[3] * 16), *output("flag_on")["prompts"][1:]])
    fields = seen([*outputs()[:2], stuck, output("flag_off")]).output_reasons[ON].fields
    assert (fields["stuck"], fields["cycle"]) == ("tokens_7", 1)
    eager = [{**stuck, "name": name} for name in ("eager", "eager_again")]
    assert "cycle" not in seen([*eager, stuck, output("flag_off")]).output_reasons[ON].fields


def test_a_verdict_with_outputs_survives_the_store() -> None:
    """What `to_dict` writes `from_dict` reads."""
    found = seen(outputs(on=0.4))
    assert Verdict.from_dict(found.to_dict()) == found


@pytest.mark.parametrize(
    "damage",
    [
        [output("eager"), output("eager")],
        [output("eager", prompts=[prompt(), prompt()])],
        [output("eager", prompts=[prompt(made=[])])],
        [output("eager", prompts=[prompt(given=["none"])])],
        [output("sideways")],
        [{name: value for name, value in output("eager").items() if name != "prompts"}],
    ],
)
def test_damaged_outputs_are_no_report(damage: list[dict[str, Any]]) -> None:
    """A field whose loss would read as nothing found is required."""
    with pytest.raises(ReportError, match=r"damaged at outputs|an output is named twice"):
        parse_report(report(outputs=damage))


NATS = st.floats(0, 4)


@given(on=NATS, off=NATS, again=NATS, noise=NATS)
def test_words_follow_from_distance_and_noise_alone(on: float, off: float, again: float, noise: float) -> None:
    """Beyond the threshold is `moved`; below it `same`, unless the noise is too large for that."""
    named = read(outputs(on, off, again, noise))
    floor = noise_floor(named, named["flag_off"])
    assert floor is not None
    assert floor >= noise - 1e-9
    found, other = distance(named["flag_on"], named["flag_off"]), distance(named["flag_off"], named["flag_on"])
    assert found is not None
    assert found == other
    threshold = max(FLOOR, TIMES_NOISE * floor)
    word = judge_outputs(list(named.values()))[FLAG][0]
    assert word == ("moved" if found.size > threshold else "unknown" if threshold > CEILING else "same")


@given(on=NATS, off=NATS, again=NATS, unproved=st.booleans())
def test_outputs_never_make_a_verdict_safer(on: float, off: float, again: float, unproved: bool) -> None:
    """They keep its word, or make a safe one inconclusive."""
    more: dict[str, Any] = {"proofs": []} if unproved else {}
    before, after = seen([], **more), seen(outputs(on, off, again), **more)
    moved = after.outputs[FLAG] == "moved"
    assert after.word is (Word.INCONCLUSIVE if moved and before.word.safe else before.word)
