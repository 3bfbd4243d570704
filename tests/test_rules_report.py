"""A report is validated where it enters: what is damaged is refused with its place, what is new is tolerated."""

import copy
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reports import failed, failure, layers, proof, rank, replaced, report, scenario, whole, word

from rules.errors import ReportError
from rules.report import parse_report

COUNTED = {"scenario": "decode_1", "ran": True, "called": layers(3), "resolved": [*layers(2), None], "error": ""}
MISSING = object()
OPTIONAL = {"counter", "model_class", "whole", "compile", "proofs"}
"""Fields that a report may lack: nothing rests on them, or a probe of an older release did not write them."""


def damaged(place: str, value: object, whole: dict[str, Any] | None = None) -> dict[str, Any]:
    """A report with another value at this place (`scenarios.0.tokens`), or with none."""
    data = copy.deepcopy(whole or report(counter=COUNTED))
    *parents, last = [int(part) if part.isdecimal() else part for part in place.split(".")]
    node: Any = data
    for part in parents:
        node = node[part]
    if value is MISSING:
        del node[last]
    else:
        node[last] = value
    return data


def refusal(data: Any) -> str:
    """The sentence with which this is refused; it tells what to do and shows nothing of the validator."""
    with pytest.raises(ReportError) as caught:
        parse_report(data)
    assert caught.value.__suppress_context__
    assert caught.value.hint == "probe the model again"
    assert "`$" not in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value.message


A, B, C = layers(3)
SPOILED = report(proofs=[proof(rank={"failures": [failure()]})])
MISSED = report(proofs=[proof(rank={"calls": [A, B]})])
LOSSES = {
    "whole": report(whole=whole([B, A])),
    "whole.scenarios": report(whole=whole([B, A])),
    "whole.registered": report(whole=whole([B, A])),
    "proofs.0.ranks": SPOILED,
    "proofs.0.key": SPOILED,
    "proofs.0.ranks.0.failures": SPOILED,
    "proofs.0.ranks.0.status": SPOILED,
    "proofs.0.ranks.0.calls": MISSED,
    "proofs.0.ranks.0.registered": MISSED,
    "proofs.0.ranks.0.assumptions": MISSED,
    "proofs.0.variables": SPOILED,
    "proofs.0.sources": SPOILED,
    "proofs.0.fields": SPOILED,
}
"""Where a report that is not safe may lose a field -> the report, of which nothing else is unsafe."""


@pytest.mark.parametrize("place", LOSSES)
def test_a_lost_field_does_not_read_as_an_empty_one(place: str) -> None:
    """What keeps a report from being safe cannot be lost with its field: the report is refused."""
    assert not word(LOSSES[place]).safe
    assert "damaged at" in refusal(damaged(place, MISSING, LOSSES[place]))


def test_a_whole_report_is_read() -> None:
    """What the worker writes is read field by field, the counted pass included."""
    found = parse_report(report(counter=COUNTED))
    assert found.registered == tuple(layers(3))
    assert [entry.name for entry in found.scenarios] == list(found.planned)
    assert found.counter is not None
    assert found.counter.resolved == (*layers(2), None)
    assert parse_report(report()).counter is None


@pytest.mark.parametrize("field", [name for name in report() if name not in OPTIONAL])
def test_a_missing_field_is_refused(field: str) -> None:
    """Each field that a verdict or a user may rest on must be there, and the sentence names the one that is not."""
    assert f"damaged at {field}: it is missing" in refusal(damaged(field, MISSING))


@pytest.mark.parametrize("field", ["name", "tokens", "status"])
def test_a_scenario_without_its_facts_is_refused(field: str) -> None:
    """Name, size and status of a scenario are never guessed."""
    assert f"damaged at scenarios.2.{field}" in refusal(damaged(f"scenarios.2.{field}", MISSING))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("result", "failed"),
        ("architecture", ""),
        ("architecture", None),
        ("environment", []),
        ("flag", None),
        ("flag.field", "maybe"),
        ("flag.effective_when_true", 1),
        ("flag.effective_when_true", "true"),
        ("flag.counter_ran", 0),
        ("registered", "model.layers.0"),
        ("registered.0", 0),
        ("registered.0", None),
        ("observation_method", "guess"),
        ("declares_experts", 1),
        ("declares_experts", "false"),
        ("planned", []),
        ("planned", "decode_1"),
        ("planned.1", 1),
        ("scenarios", []),
        ("scenarios", {}),
        ("scenarios.0", "decode_1"),
        ("scenarios.0.name", ""),
        ("scenarios.0.tokens", True),
        ("scenarios.0.tokens", 0),
        ("scenarios.0.tokens", -1),
        ("scenarios.0.tokens", 1.5),
        ("scenarios.0.tokens", "9"),
        ("scenarios.0.status", "RAN"),
        ("scenarios.0.detail", None),
        ("scenarios.0.passes", None),
        ("scenarios.0.passes.0", "model.layers.0"),
        ("scenarios.0.passes.0.0", 3),
        ("assumptions", None),
        ("assumptions.0", "weights_random"),
        ("assumptions.0.kind", None),
        ("sources", {}),
        ("sources", None),
        ("proofs", None),
        ("proofs.0", "plain"),
        ("proofs.0.key", ""),
        ("proofs.0.ranks.0.status", "proved"),
        ("proofs.0.ranks.0.calls", "model.layers.0"),
        ("proofs.0.ranks.0.failures", None),
        ("proofs.0.sources", None),
        ("counter", []),
        ("counter.ran", "yes"),
        ("counter.called", None),
        ("counter.resolved.0", 1),
        ("counter.scenario", None),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(place: str, value: object) -> None:
    """No value is converted: text for a number, a number for true, NaN for seconds are damage, named by place."""
    assert f"damaged at {place}" in refusal(damaged(place, value))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("environment.vllm", 19),
        ("seconds.build", float("nan")),
        ("seconds.build", float("inf")),
        ("seconds.build", True),
        ("seconds.build", "1.5"),
        ("proofs.0.variables.PATH", 7),
    ],
)
def test_a_wrong_value_of_a_mapping_is_refused_with_the_mapping(place: str, value: object) -> None:
    """The sentence names the field that holds the mapping, whose names the report chooses."""
    assert f"damaged at {place.rpartition('.')[0]}: " in refusal(damaged(place, value))


@pytest.mark.parametrize("status", ["failed", "not_applicable"])
def test_passes_without_having_run_are_refused(status: str) -> None:
    """A scenario that did not run cannot have passes."""
    entry = scenario("prefill_65", layers(3), status=status)
    assert "damaged at scenarios.2: " in refusal(replaced(report(), entry))


def test_having_run_without_passes_is_refused() -> None:
    """A scenario that ran has at least one pass, if only an empty one: no pass at all is a lost observation."""
    assert "if and only if it ran" in refusal(replaced(report(), scenario("prefill_65", passes=[])))


def test_a_layer_named_twice_is_refused() -> None:
    """Registered names are unique: a counter's order could not be told otherwise."""
    assert "a registered layer is named twice" in refusal(report(registered=[*layers(2), layers(1)[0]]))


def test_a_scenario_named_twice_is_refused() -> None:
    """Scenario names are unique: a failed one could hide behind one that ran."""
    data = report()
    assert "a scenario is named twice" in refusal(data | {"scenarios": [*data["scenarios"], failed("decode_1")]})


def test_a_scenario_that_was_not_planned_is_refused() -> None:
    """Scenarios come from the plan: a plan that was cut short is damage, not less to prove."""
    data = report()
    assert "a scenario was not planned" in refusal(data | {"planned": data["planned"][:-1]})


def test_a_launch_that_is_proved_twice_is_refused() -> None:
    """Which of the two holds could not be told; nor of two processes of one name."""
    assert "a launch is proved twice" in refusal(report(proofs=[proof(), proof()]))
    assert "a rank is named twice" in refusal(report(proofs=[proof(ranks=[rank(), rank()])]))


@pytest.mark.parametrize("number", [True, 0.5, 5, -1])
def test_a_failure_is_of_a_condition(number: object) -> None:
    """Numbers and texts are what they are: no other number is a condition, and no truth value is a number."""
    spoiled = report(proofs=[proof(rank={"failures": [failure() | {"condition": number}]})])
    assert "damaged at proofs.0.ranks.0.failures.0.condition" in refusal(spoiled)


@pytest.mark.parametrize("data", [None, [], "ok", 3, {}, {"result": "ok"}, {"result": object()}, {1: {2}}])
def test_what_is_no_report_is_refused(data: object) -> None:
    """Anything else, JSON or not, is refused with a sentence too."""
    assert refusal(data)


def test_a_long_word_in_a_report_is_cut_in_the_sentence_on_it() -> None:
    """A worker wrote it, and it may be of any size."""
    message = refusal(damaged("observation_method", "a" * 5000))
    assert message.startswith("the probe report is damaged at observation_method: Invalid enum value 'aaaa")
    assert len(message) < 300


def test_a_report_that_contains_itself_is_refused() -> None:
    """A value that JSON cannot have is refused with a sentence."""
    data = report()
    data["environment"]["self"] = data
    assert "damaged at environment: " in refusal(data)


def test_extra_keys_are_tolerated_everywhere() -> None:
    """A later worker may say more, at every level: what is known is still read."""
    data = report(counter={**COUNTED, "more": {"x": 1}}, more=[1, {"x": None}])
    data["flag"]["more"] = 1
    data["scenarios"] = [{**entry, "more": True} for entry in data["scenarios"]]
    data["assumptions"] = [{**entry, "more": 0.5} for entry in data["assumptions"]]
    assert parse_report(data) == parse_report(report(counter=COUNTED))


def test_a_report_cannot_be_changed_after_it_was_read() -> None:
    """What was validated stays as it was."""
    with pytest.raises(AttributeError, match="immutable"):
        parse_report(report()).observation_method = "hook"


def places(node: Any, prefix: str = "") -> list[str]:
    """Every place of a JSON value, parents before children."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, child in items for place in (f"{prefix}{key}", *places(child, f"{prefix}{key}."))]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLACES = [place for place in places(report(counter=COUNTED)) if "/" not in place]


@settings(max_examples=500)
@given(st.sampled_from(PLACES), ANYTHING | st.just(MISSING))
def test_any_damage_is_a_sentence(place: str, value: object) -> None:
    """Whatever stands anywhere in a report, reading it gives a report or a `ReportError`, nothing else."""
    with suppress(ReportError):
        parse_report(damaged(place, value))
