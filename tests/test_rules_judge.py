"""report -> verdict: each word by its definition, and nothing unproved is ever called safe."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from reports import SCENARIOS, everywhere, failed, layers, replaced, report, scenario, verdict, word

from rules.assumptions import COVERED
from rules.judge import REQUIRED
from rules.verdict import Verdict, Word

A, B, C = layers(3)
MORE = {"another": [C, B, A]}
WEAK = ("hook", "counted")
"""Kinds of recording that cannot prove an order."""

# ---- one word each, by its definition


def test_passes_in_the_registered_order_are_uniform() -> None:
    """A model whose every pass runs the registered order is uniform, without witness, covered by scenarios only."""
    found = verdict(report())
    assert (found.word, found.witness, found.coverage) == (Word.UNIFORM, None, "scenarios")
    assert "no branch was explored" in found.reasons[-1]


def test_a_prefix_is_uniform() -> None:
    """A pass that ends early resolves rightly, so long as every layer runs in some other pass."""
    assert word(report(orders={"token_7_decode": [A, B]})) == Word.UNIFORM


def test_several_contexts_of_one_scenario_count_one_by_one() -> None:
    """Each forward context has a counter of its own: the same order in two contexts repeats nothing."""
    assert word(replaced(report(), scenario("decode_1", [A, B, C], [A, B, C]))) == Word.UNIFORM


def test_a_layer_that_runs_twice_in_a_pass_is_repeated() -> None:
    """One pass that runs one layer twice makes the model repeated, and is the witness."""
    found = verdict(report(orders={"prefill_65": [A, B, B]}))
    assert found.word == Word.REPEATED
    assert found.witness is not None
    assert (found.witness.scenario, found.witness.executed) == ("prefill_65", (A, B, B))


def test_passes_that_differ_with_one_out_of_order_are_conditional() -> None:
    """One scenario that leaves the registered order makes the model conditional; the witness shows both orders."""
    found = verdict(report(orders={"token_7_decode": [B, C]}))
    assert found.word == Word.CONDITIONAL
    assert found.witness is not None
    assert (found.witness.scenario, found.witness.executed) == ("token_7_decode", (B, C))
    assert (found.witness.other_scenario, found.witness.other_executed) == ("decode_1", (A, B, C))


def test_contexts_of_one_scenario_that_differ_are_conditional() -> None:
    """Passes may differ within one scenario: each context is judged, not the scenario."""
    registered = [A, B]
    same = report(registered, orders=everywhere([B, A]))
    assert word(same) == Word.REORDERED
    assert word(replaced(same, scenario("decode_1", [B, A], [A, B]))) == Word.CONDITIONAL


def test_one_order_that_is_no_prefix_is_reordered() -> None:
    """Every pass in the same wrong order is reordered; the reason names the first call a counter gets wrong."""
    found = verdict(report(orders=everywhere([B, A, C])))
    assert found.word == Word.REORDERED
    assert f"call 1 of that pass ran {B}; a counter would resolve it to {A}" in found.reasons


def test_an_expert_set_that_never_runs_is_reordered() -> None:
    """An expert set that no pass runs makes the others resolve wrongly: reordered, not inconclusive."""
    found = verdict(report(orders=everywhere([A, C])))
    assert found.word == Word.REORDERED
    assert found.witness is not None
    assert (found.witness.registered, found.witness.executed) == ((A, B, C), (A, C))


def test_a_layer_that_is_not_registered_is_reordered() -> None:
    """A call beyond the registered layers has nothing to be resolved to, which is as wrong as another layer."""
    assert word(report([A], orders=everywhere([A, B]))) == Word.REORDERED
    assert word(report([], orders=everywhere([A]))) == Word.REORDERED


def test_a_model_without_moe_layers_is_no_moe() -> None:
    """No layer registered, none run and none declared: no_moe."""
    assert word(report([])) == Word.NO_MOE


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ({"decode_1": [A, A], "prefill_65": [B, A]}, Word.REPEATED),
        ({"decode_1": [B, A], "prefill_65": [A, B, A]}, Word.REPEATED),
        ({**everywhere([A, A]), **MORE}, Word.REPEATED),
        (everywhere([A, A]), Word.REPEATED),
        ({"decode_1": [B, A]}, Word.CONDITIONAL),
    ],
)
def test_the_first_word_that_fits_is_given(orders: dict[str, list[str]], expected: Word) -> None:
    """Where several words fit, repeated comes before conditional, and conditional before reordered."""
    assert word(report(orders=orders)) == expected


# ---- anything less than proof


def assumed(kind: str) -> dict[str, Any]:
    """A uniform report with one more assumption."""
    return report(assumptions=[*report()["assumptions"], {"kind": kind, "detail": "-"}])


LESS_THAN_PROOF = {
    "a layer that no pass ran": (report(orders=everywhere([A, B])), C),
    "passes without a call": (report(orders=everywhere([])), A),
    "one pass without a call": (report(orders={"token_7_decode": []}), "no MoE call was recorded"),
    "an empty second context": (replaced(report(), scenario("decode_1", [A, B, C], [])), "no MoE call was recorded"),
    "a failed scenario": (replaced(report(), failed("token_7_decode", "RuntimeError: no kernel")), "no kernel"),
    "an unknown assumption": (assumed("moon_phase"), "moon_phase"),
    "hooks only": (report(recording="hook"), "hooks"),
    "seen through the counter": (report(recording="counted"), "counter"),
    "experts declared, none registered": (report([], declares_experts=True), "declares experts"),
    "a lost scenario": (report(planned=[*SCENARIOS, "token_9_decode"]), "token_9_decode"),
}


@pytest.mark.parametrize("case", LESS_THAN_PROOF)
def test_less_than_proof_is_inconclusive(case: str) -> None:
    """A report that is uniform but for one gap is inconclusive, without witness, and the reasons name the gap."""
    data, said = LESS_THAN_PROOF[case]
    found = verdict(data)
    assert (found.word, found.witness) == (Word.INCONCLUSIVE, None)
    assert said in " ".join(found.reasons)


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("moe", [True, False])
@pytest.mark.parametrize("status", ["failed", "not_applicable", "missing"])
def test_a_required_scenario_must_have_run(name: str, moe: bool, status: str) -> None:
    """Without one of the required scenarios nothing is proved, neither uniform nor no_moe."""
    data = report(layers(2) if moe else [])
    if status == "missing":
        rest = [entry for entry in data["scenarios"] if entry["name"] != name]
        data |= {"scenarios": rest, "planned": [entry["name"] for entry in rest]}
    else:
        data = replaced(data, scenario(name, status=status, passes=[]))
    found = verdict(data)
    assert found.word == Word.INCONCLUSIVE
    assert f"scenario {name} did not run" in found.reasons


def test_a_scenario_that_does_not_apply_proves_nothing_and_harms_nothing() -> None:
    """A model that takes token ids only is uniform without the scenario that feeds embeddings."""
    entry = scenario("token_7_decode", status="not_applicable", passes=[])
    assert word(replaced(report(), entry)) == Word.UNIFORM


@pytest.mark.parametrize("kind", COVERED)
def test_a_covered_assumption_leaves_a_verdict_as_it_is(kind: str) -> None:
    """A difference from the launch that a rule covers does not weaken a verdict."""
    assert word(assumed(kind)) == Word.UNIFORM


@pytest.mark.parametrize("recording", WEAK)
def test_weak_recording_suffices_where_nothing_is_registered(recording: str) -> None:
    """Without MoE layers there is nothing that hooks could miss or a counter could hide."""
    assert word(report([], recording=recording)) == Word.NO_MOE


GAPS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "failed scenario": lambda data: replaced(data, failed("prefill_65")),
    "unknown assumption": lambda data: data | {"assumptions": [{"kind": "moon_phase", "detail": "-"}]},
    "hooks only": lambda data: data | {"recording": "hook"},
    "seen through the counter": lambda data: data | {"recording": "counted"},
    "lost scenario": lambda data: data | {"planned": [*data["planned"], "token_9_decode"]},
    "empty pass": lambda data: replaced(data, scenario("batch_limit", [])),
}


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("order", [[A, A], [B, A]])
def test_a_wrong_pass_is_unsafe_whatever_else_is_missing(gap: str, order: list[str]) -> None:
    """One pass that a counter would resolve wrongly is proof; no gap elsewhere takes it away."""
    found = verdict(GAPS[gap](report(orders={"token_7_decode": order})))
    assert found.word.unsafe
    assert found.witness is not None
    assert found.witness.scenario == "token_7_decode"


# ---- any report

NAMES = st.sampled_from(layers(4))
KINDS = st.sampled_from([*COVERED, "moon_phase"])


@st.composite
def entries(draw: st.DrawFn, name: str, orders: st.SearchStrategy[list[str]]) -> dict[str, Any]:
    """One scenario's entry; most ran."""
    status = draw(st.sampled_from(["ran", "ran", "ran", "ran", "failed", "not_applicable"]))
    passes = draw(st.lists(orders, min_size=1, max_size=3)) if status == "ran" else []
    return scenario(name, status=status, passes=passes, tokens=draw(st.integers(1, 300)))


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid report over few layers; many are uniform or nearly so."""
    registered = draw(st.lists(NAMES, max_size=4, unique=True))
    prefixes = st.integers(0, len(registered)).map(lambda length: registered[:length])
    orders = st.one_of(st.just(registered), prefixes, st.lists(NAMES, max_size=5))
    if draw(st.booleans()):  # else nearly every report would be unsafe
        orders = st.just(registered)
    names = [*REQUIRED, *draw(st.lists(st.sampled_from(["token_7_decode", "inputs_embeds"]), unique=True))]
    kept = [name for name in names if draw(st.integers(0, 9))] or ["decode_1"]
    return report(
        registered,
        recording=draw(st.sampled_from(["call_and_run", "call_and_run", "run", "run", *WEAK])),
        declares_experts=draw(st.booleans()),
        planned=names,
        scenarios=[draw(entries(name, orders)) for name in kept],
        assumptions=[{"kind": kind, "detail": "-"} for kind in draw(st.lists(KINDS, max_size=2))],
    )


def may_be_safe(data: dict[str, Any]) -> bool:
    """The definition of a safe verdict, spelled out over the raw report."""
    registered = data["registered"]
    entries = {entry["name"]: entry for entry in data["scenarios"]}
    passes = [order for entry in entries.values() for order in entry["passes"]]
    return (
        all(order == registered[: len(order)] for order in passes)
        and all(name in entries and entries[name]["status"] == "ran" for name in REQUIRED)
        and all(name in entries and entries[name]["status"] != "failed" for name in data["planned"])
        and {layer for order in passes for layer in order} == set(registered)
        and (all(passes) if registered else not data["declares_experts"])
        and all(assumption["kind"] in COVERED for assumption in data["assumptions"])
        and (data["recording"] not in WEAK or not registered)
    )


@given(reports())
@example(report())
@example(report([]))
def test_every_valid_report_has_one_verdict(data: dict[str, Any]) -> None:
    """Judging never fails; an unsafe verdict alone has a witness, every verdict has reasons and survives storing."""
    found = verdict(data)
    assert found.word.safe + found.word.unsafe + (found.word == Word.INCONCLUSIVE) == 1
    assert (found.witness is not None) == found.word.unsafe
    assert found.reasons
    assert all(reason.strip() for reason in found.reasons)
    assert Verdict.from_dict(found.to_dict()) == found


@given(reports())
@example(report())
@example(report([]))
def test_a_verdict_is_safe_exactly_by_the_definition(data: dict[str, Any]) -> None:
    """Safe means: every pass a non-empty prefix, all planned scenarios there, every layer run, every gap covered."""
    assert word(data).safe == may_be_safe(data)


@given(reports())
def test_the_witness_proves_its_verdict(data: dict[str, Any]) -> None:
    """A witness is a pass of the report; it repeats a layer, or is no prefix, and `conditional` shows two orders."""
    found = verdict(data)
    if found.witness is None:
        return
    seen = {entry["name"]: entry["passes"] for entry in data["scenarios"]}
    executed = list(found.witness.executed)
    assert executed in seen[found.witness.scenario]
    assert executed != data["registered"][: len(executed)]
    assert (found.word == Word.REPEATED) == (len(set(executed)) < len(executed))
    if found.word == Word.CONDITIONAL:
        assert list(found.witness.other_executed) in seen[found.witness.other_scenario]
        assert found.witness.other_executed != found.witness.executed


# ---- less evidence never makes a verdict safer


@given(reports(), st.data())
@example(report(), None)
def test_removing_a_scenario_leaves_nothing_safe(data: dict[str, Any], choose: st.DataObject | None) -> None:
    """A report that lost a planned scenario is never safe, whatever the lost one would have shown."""
    assume(len(data["scenarios"]) > 1)
    at = choose.draw(st.integers(0, len(data["scenarios"]) - 1)) if choose else 0
    rest = data["scenarios"][:at] + data["scenarios"][at + 1 :]
    assert not word(data | {"scenarios": rest}).safe


def test_losing_the_only_unsafe_scenario_is_inconclusive() -> None:
    """A model that only a special token shows to be unsafe does not become uniform when that scenario is lost."""
    data = report(orders={"token_7_decode": [B, A]})
    assert word(data) == Word.CONDITIONAL
    rest = [entry for entry in data["scenarios"] if entry["name"] != "token_7_decode"]
    assert word(data | {"scenarios": rest}) == Word.INCONCLUSIVE


@given(reports(), st.data())
def test_a_failed_scenario_leaves_nothing_safe(data: dict[str, Any], choose: st.DataObject) -> None:
    """A report in which any scenario failed is never safe."""
    name = choose.draw(st.sampled_from([entry["name"] for entry in data["scenarios"]]))
    assert not word(replaced(data, failed(name))).safe


@given(reports())
@example(report())
@example(report([]))
def test_an_unknown_assumption_leaves_nothing_safe(data: dict[str, Any]) -> None:
    """A difference that no rule covers makes a safe verdict inconclusive and leaves an unsafe one unsafe."""
    before = word(data)
    after = word(data | {"assumptions": [*data["assumptions"], {"kind": "moon_phase", "detail": "-"}]})
    assert after == (before if before.unsafe else Word.INCONCLUSIVE)


@given(reports(), st.data())
def test_a_truncated_order_never_adds_proof(data: dict[str, Any], choose: st.DataObject) -> None:
    """Cutting the end off a pass makes nothing inconclusive safe; what stays safe still meets the definition.

    Only a pass that was wrong at its very end can look right afterwards, as any prefix does.
    """
    ran = [entry for entry in data["scenarios"] if entry["status"] == "ran"]
    assume(ran)
    entry = choose.draw(st.sampled_from(ran))
    at = choose.draw(st.integers(0, len(entry["passes"]) - 1))
    length = choose.draw(st.integers(0, len(entry["passes"][at])))
    passes = [order[:length] if index == at else order for index, order in enumerate(entry["passes"])]
    changed = replaced(data, entry | {"passes": passes})
    before, after = word(data), word(changed)
    assert after.safe == may_be_safe(changed)
    assert not (before == Word.INCONCLUSIVE and after.safe)
    assert not (before.safe and after.unsafe)


@given(reports(), st.data())
@example(report(), None)
def test_a_truncated_list_of_layers_never_hides_a_wrong_pass(
    data: dict[str, Any], choose: st.DataObject | None
) -> None:
    """Cutting the end off the registered layers leaves an unsafe report unsafe and makes a uniform one unsafe."""
    length = choose.draw(st.integers(0, len(data["registered"]))) if choose else 1
    before, after = word(data), word(data | {"registered": data["registered"][:length]})
    if before.unsafe:
        assert after.unsafe
    if before == Word.UNIFORM:
        assert after == Word.UNIFORM if length == len(data["registered"]) else after.unsafe
