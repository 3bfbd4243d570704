"""report -> verdict: each word by its definition, and nothing unproved is ever called safe."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from reports import (
    SCENARIOS,
    UNEXPLORED,
    branch,
    everywhere,
    exploration,
    failed,
    layers,
    replaced,
    report,
    scenario,
    times,
    variant,
    verdict,
    without,
    word,
)

from rules.assumptions import COVERED
from rules.judge import EQUAL_PASSES, REPEATED, REQUIRED, SHOWN
from rules.verdict import Verdict, Word

A, B, C = layers(3)
MORE = {"another": [C, B, A]}
WEAK = ("hook", "counted")
"""Kinds of recording that cannot prove an order."""

# ---- one word each, by its definition


def test_passes_in_the_registered_order_are_uniform() -> None:
    """A model whose every pass runs the registered order and whose branches are explored is uniform; no witness."""
    found = verdict(report())
    assert (found.word, found.witness, found.coverage) == (Word.UNIFORM, None, "branches")
    assert "branches that can change MoE calls: 1 seen all ways, 1 constant" in found.reasons[-1]


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
    found = verdict(report([]))
    assert (found.word, found.witness, found.coverage) == (Word.NO_MOE, None, "branches")


NOTHING_TO_REACH: dict[str, dict[str, Any]] = {
    "not explored": {"exploration": None},
    "exploration failed": {"exploration": exploration(status="failed", detail="OSError: no source")},
    "nothing traced": {"exploration": exploration(functions=0)},
    "an unexplored branch": {"exploration": exploration(UNEXPLORED)},
}


@pytest.mark.parametrize("case", NOTHING_TO_REACH)
def test_no_moe_needs_no_exploration(case: str) -> None:
    """Where no layer is registered no branch can reach one, and equal passes have nothing to show."""
    assert word(report([], **NOTHING_TO_REACH[case])) == Word.NO_MOE
    assert word(without(report([], **NOTHING_TO_REACH[case]), *REPEATED)) == Word.NO_MOE


@pytest.mark.parametrize("change", [{"declares_experts": True}, {"orders": everywhere([A])}])
def test_no_moe_needs_all_three(change: dict[str, Any]) -> None:
    """A config that declares experts, or a pass that ran one, is no model without MoE layers."""
    assert word(report([], **change)) != Word.NO_MOE


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
    "a report of an older probe": (
        {name: value for name, value in report().items() if name not in {"exploration", "variants", "compile"}},
        "the branches of the model's code were not explored, as by a probe of an older release; probe it again",
    ),
    "no exploration": (report(exploration=None), "not explored"),
    "a failed exploration": (
        report(exploration=exploration(status="failed", detail="OSError: no source")),
        "no source",
    ),
    "nothing traced": (report(exploration=exploration(functions=0)), "no function"),
    "a branch without an outcome": (report(exploration=exploration(branch(outcomes=[]))), "no outcome"),
    "fifteen equal passes": (
        replaced(report(), scenario("repeated_decode", *[[A, B, C]] * 15)),
        "scenario repeated_decode ran 15 of 16 equal passes",
    ),
    "no equal passes": (without(report(), "repeated_prefill"), "scenario repeated_prefill did not run"),
}


@pytest.mark.parametrize("case", LESS_THAN_PROOF)
def test_less_than_proof_is_inconclusive(case: str) -> None:
    """A report that is uniform but for one gap is inconclusive, without witness, and the reasons name the gap."""
    data, said = LESS_THAN_PROOF[case]
    found = verdict(data)
    assert (found.word, found.witness) == (Word.INCONCLUSIVE, None)
    assert said in " ".join(found.reasons)


def lacking(data: dict[str, Any], name: str, status: str) -> dict[str, Any]:
    """The report in which a scenario did not run: with that status, or as if it had not been planned."""
    return without(data, name) if status == "missing" else replaced(data, scenario(name, status=status, passes=[]))


@pytest.mark.parametrize(
    ("name", "moe"), [*((name, True) for name in (*REQUIRED, *REPEATED)), *((name, False) for name in REQUIRED)]
)
@pytest.mark.parametrize("status", ["failed", "not_applicable", "missing"])
def test_a_required_scenario_must_have_run(name: str, moe: bool, status: str) -> None:
    """Without one of the required scenarios nothing is proved, neither uniform nor no_moe."""
    found = verdict(lacking(report(layers(2) if moe else []), name, status))
    assert found.word == Word.INCONCLUSIVE
    assert f"scenario {name} did not run" in found.reasons


@pytest.mark.parametrize("name", REPEATED)
def test_equal_passes_that_differ_are_conditional(name: str) -> None:
    """A layer that is skipped by chance shows as one of the equal passes that differs from the others."""
    by_chance = scenario(name, *[[A, B, C]] * (EQUAL_PASSES - 1), [A, C])
    found = verdict(replaced(report(), by_chance))
    assert found.word == Word.CONDITIONAL
    assert found.witness is not None
    assert (found.witness.scenario, found.witness.executed) == (name, (A, C))


@pytest.mark.parametrize(
    ("contexts", "expected"), [(0, Word.INCONCLUSIVE), (15, Word.INCONCLUSIVE), (16, Word.UNIFORM)]
)
def test_equal_orders_may_be_written_once(contexts: int, expected: Word) -> None:
    """A report that holds each order of a scenario once says how many passes there were."""
    found = verdict(replaced(report(), scenario("repeated_decode", [A, B, C], contexts=contexts)))
    assert found.word == expected


def test_passes_are_counted_not_orders() -> None:
    """The reason tells how much was run, however it is written."""
    once = replaced(report(), scenario("repeated_decode", [A, B, C], contexts=16))
    assert verdict(once).reasons == verdict(report()).reasons


def test_an_unexplored_branch_is_named_in_full() -> None:
    """The reason says where the branch is, what it asks, why it is open, and what was tried."""
    tried = [f"derived_{index}" for index in range(7)]
    one = branch(
        status="unexplored",
        condition="mask is not None\n    and mask.all()",
        because="was never true in some place; it reads `mask`",
        tried=tried,
    )
    found = verdict(report(exploration=exploration(one)))
    assert found.word == Word.INCONCLUSIVE
    (reason,) = found.reasons
    assert reason == (
        f"{one['file']}:361 (MixtralModel.forward): `mask is not None and mask.all()` {one['because']}; "
        f"tried {', '.join(tried[:5])} and 2 more"
    )


def test_nothing_tried_is_said_too() -> None:
    """A branch from which no input could be derived says so."""
    found = verdict(report(exploration=exploration(UNEXPLORED | {"tried": []})))
    assert found.reasons[0].endswith("; no input could be derived from it")


def test_many_unexplored_branches_are_counted() -> None:
    """The first ones are spelled out, the others are counted; the report holds them all."""
    many = [UNEXPLORED | {"line": line} for line in range(1, SHOWN + 4)]
    found = verdict(report(exploration=exploration(*many)))
    assert len(found.reasons) == SHOWN + 1
    assert found.reasons[-1] == "3 more branches are unexplored"


def test_a_model_without_branches_is_uniform() -> None:
    """A loop over the layers and nothing else leaves nothing to explore, once it was traced."""
    assert word(report(exploration=exploration())) == Word.UNIFORM


def test_a_scenario_that_does_not_apply_proves_nothing_and_harms_nothing() -> None:
    """A model that takes token ids only is uniform without the scenario that feeds embeddings."""
    entry = scenario("token_7_decode", status="not_applicable", passes=[])
    assert word(replaced(report(), entry)) == Word.UNIFORM


@pytest.mark.parametrize("kind", COVERED)
def test_a_covered_assumption_leaves_a_verdict_as_it_is(kind: str) -> None:
    """A difference from the launch that a rule covers does not weaken a verdict."""
    assert word(assumed(kind) | {"variants": [variant("full_depth")]}) == Word.UNIFORM


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
    "not explored": lambda data: data | {"exploration": None},
    "exploration failed": lambda data: data | {"exploration": exploration(status="failed")},
    "unexplored branch": lambda data: data | {"exploration": exploration(UNEXPLORED)},
    "no equal passes": lambda data: without(data, *REPEATED),
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
    if passes and name in REPEATED and draw(st.integers(0, 7)):  # else too few
        passes += [passes[0]] * times(name)
    return scenario(name, status=status, passes=passes, tokens=draw(st.integers(1, 300)))


@st.composite
def explorations(draw: st.DrawFn) -> dict[str, Any] | None:
    """Any exploration; most leave nothing open."""
    if not draw(st.integers(0, 9)):
        return None
    statuses = draw(st.lists(st.sampled_from(["seen", "constant"] * 4 + ["unexplored"]), max_size=4))
    taken = st.sampled_from([["true"], ["false", "true"], ["true"], ["false", "true"], []])
    return exploration(
        *(branch(status=status, outcomes=draw(taken), line=line) for line, status in enumerate(statuses)),
        status=draw(st.sampled_from(["ran"] * 9 + ["failed"])),
        functions=draw(st.sampled_from([0, *[3] * 9])),
    )


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid report over few layers; many are uniform or nearly so."""
    registered = draw(st.lists(NAMES, max_size=4, unique=True))
    prefixes = st.integers(0, len(registered)).map(lambda length: registered[:length])
    orders = st.one_of(st.just(registered), prefixes, st.lists(NAMES, max_size=5))
    if draw(st.booleans()):  # else nearly every report would be unsafe
        orders = st.just(registered)
    names = [*REQUIRED, *REPEATED, *draw(st.lists(st.sampled_from(["token_7_decode", "inputs_embeds"]), unique=True))]
    kept = [name for name in names if draw(st.integers(0, 19))] or ["decode_1"]
    return report(
        registered,
        recording=draw(st.sampled_from(["call_and_run", "call_and_run", "run", "run", *WEAK])),
        declares_experts=draw(st.booleans()),
        planned=names,
        scenarios=[draw(entries(name, orders)) for name in kept],
        assumptions=[{"kind": kind, "detail": "-"} for kind in draw(st.lists(KINDS, max_size=2))],
        exploration=draw(explorations()),
        variants=draw(st.sampled_from([[], [variant("full_depth", registered=registered)]])),
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
        and (not registered or proves_an_order(data, entries))
    )


def proves_an_order(data: dict[str, Any], entries: dict[str, dict[str, Any]]) -> bool:
    """What a model with MoE layers needs besides: strong recording, enough equal passes, and no open branch."""
    explored = data["exploration"]
    return (
        data["recording"] not in WEAK
        and (bool(data["variants"]) or not any(one["kind"] == "layers_shrunk" for one in data["assumptions"]))
        and all(len(entries[name]["passes"]) >= 16 if name in entries else False for name in REPEATED)
        and explored is not None
        and explored["status"] == "ran"
        and explored["functions"] > 0
        and not any(one["status"] == "unexplored" for one in explored["branches"])
        and not any(one["status"] == "seen" and not one["outcomes"] for one in explored["branches"])
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


FAILED, UNTRACED = {"status": "failed"}, {"functions": 0}
Weakening = Callable[[dict[str, Any], Callable[[int], int]], dict[str, Any]]
"""Takes a report and a way to choose one of so many, and gives the report with less evidence in it."""


def explored_less(data: dict[str, Any], choose: Callable[[int], int], **changes: Any) -> dict[str, Any]:
    """The report with one of its branches changed; one is there to be changed."""
    before = data["exploration"] or exploration()
    branches = before["branches"] or [branch()]
    at = choose(len(branches))
    less = [{**one, **changes} if index == at else one for index, one in enumerate(branches)]
    return data | {"exploration": before | {"branches": less}}


def passes_less(data: dict[str, Any], choose: Callable[[int], int]) -> dict[str, Any]:
    """The report in which the equal passes are fewer than enough."""
    name = REPEATED[choose(2)]
    entry = next((one for one in data["scenarios"] if one["name"] == name), None)
    if entry is None or not entry["passes"]:
        return data
    return replaced(data, entry | {"passes": entry["passes"][: choose(EQUAL_PASSES - 1) + 1]})


def lost(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The report without a scenario that was planned."""
    return data | {"scenarios": [entry for entry in data["scenarios"] if entry["name"] != name]}


def needed(data: dict[str, Any]) -> tuple[str, ...]:
    """The scenarios without which no verdict is safe; of others a report that never planned them says nothing."""
    return (*REQUIRED, *REPEATED) if data["registered"] else REQUIRED


WEAKENINGS: dict[str, Weakening] = {
    "a scenario is lost": lambda data, choose: lost(data, data["scenarios"][choose(len(data["scenarios"]))]["name"]),
    "a scenario is not planned": lambda data, choose: without(data, needed(data)[choose(len(needed(data)))]),
    "equal passes are removed": passes_less,
    "a branch loses its outcomes": lambda data, choose: explored_less(data, choose, outcomes=[]),
    "a branch turns unexplored": lambda data, choose: explored_less(data, choose, status="unexplored"),
    "the exploration is removed": lambda data, _: data | {"exploration": None},
    "the exploration fails": lambda data, _: data | {"exploration": (data["exploration"] or exploration()) | FAILED},
    "nothing is traced": lambda data, _: data | {"exploration": (data["exploration"] or exploration()) | UNTRACED},
}
HARMLESS = {"a branch loses its outcomes"}
"""Weakenings that may leave a uniform model uniform: a constant branch needs no outcome. What of them is left is judged
by the definition."""


@pytest.mark.parametrize("name", WEAKENINGS)
@given(data=reports(), choose=st.data())
@example(data=report(), choose=None)
@example(data=report([]), choose=None)
def test_less_evidence_never_makes_a_verdict_safe(
    name: str, data: dict[str, Any], choose: st.DataObject | None
) -> None:
    """Whatever is taken away, what was not safe does not become safe; an order is not proved without it at all."""
    assume(len(data["scenarios"]) > 1)
    index = (lambda count: choose.draw(st.integers(0, count - 1))) if choose else (lambda _: 0)
    changed = WEAKENINGS[name](data, index)
    before, after = word(data), word(changed)
    assert after.safe == may_be_safe(changed)
    if after.safe:
        assert before.safe or (before.unsafe and name in LOSES_A_PASS)
    if data["registered"] and name not in HARMLESS | {"a scenario is not planned"}:
        assert not after.safe


LOSES_A_PASS = {"a scenario is not planned", "equal passes are removed"}
"""Weakenings that may take the one pass away that proved a report unsafe; the rest may then hold all that is needed."""
