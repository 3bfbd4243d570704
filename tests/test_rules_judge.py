"""report -> verdict: each word by its definition, and no model with MoE layers is called safe without a proof."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reports import (
    NOT_COMPILED,
    SCENARIOS,
    everywhere,
    failed,
    failure,
    layers,
    proof,
    rank,
    replaced,
    report,
    scenario,
    times,
    verdict,
    whole,
    without,
    word,
)

from rules.assumptions import COVERED, IN_PROOF
from rules.judge import COMPILED, REPEATED, REQUIRED
from rules.proof_finding import ProofWord
from rules.reason import CONDITIONS, SENTENCES, SHOWN, Reason, first_sentences, reason
from rules.verdict import Verdict, Word

A, B, C = layers(3)
MORE = {"another": [C, B, A]}

# ---- one word each, by its definition


def test_a_proved_plain_launch_is_uniform() -> None:
    """A model whose plain launch is proved, and of which no wrong order was seen, is uniform; no witness."""
    judgement = verdict(report())
    assert (judgement.word, judgement.witness) == (Word.UNIFORM, None)
    assert judgement.reasons[0] == reason("plain_proved", layers=3)
    assert judgement.reasons[1].code == "order_kept"
    assert [finding.word for finding in judgement.proofs.values()] == [ProofWord.PROVED]


def test_a_prefix_is_uniform() -> None:
    """A pass that ends early resolves rightly, so long as every layer runs in some other pass."""
    assert word(report(orders={"token_7_decode": [A, B]})) == Word.UNIFORM


def test_several_contexts_of_one_scenario_count_one_by_one() -> None:
    """Each forward context has a counter of its own: the same order in two contexts repeats nothing."""
    assert word(replaced(report(), scenario("decode_1", [A, B, C], [A, B, C]))) == Word.UNIFORM


def test_a_layer_that_runs_twice_in_a_pass_is_repeated() -> None:
    """One pass that runs one layer twice makes the model repeated, and is the witness."""
    judgement = verdict(report(orders={"prefill_65": [A, B, B]}))
    assert judgement.word == Word.REPEATED
    assert judgement.witness is not None
    assert (judgement.witness.scenario, judgement.witness.executed) == ("prefill_65", (A, B, B))


def test_passes_that_differ_with_one_out_of_order_are_conditional() -> None:
    """One scenario that leaves the registered order makes the model conditional; the witness shows both orders."""
    judgement = verdict(report(orders={"token_7_decode": [B, C]}))
    assert judgement.word == Word.CONDITIONAL
    assert judgement.witness is not None
    assert (judgement.witness.scenario, judgement.witness.executed) == ("token_7_decode", (B, C))
    assert (judgement.witness.other_scenario, judgement.witness.other_executed) == ("decode_1", (A, B, C))


def test_contexts_of_one_scenario_that_differ_are_conditional() -> None:
    """Passes may differ within one scenario: each context is judged, not the scenario."""
    registered = [A, B]
    same = report(registered, orders=everywhere([B, A]))
    assert word(same) == Word.REORDERED
    assert word(replaced(same, scenario("decode_1", [B, A], [A, B]))) == Word.CONDITIONAL


def test_one_order_that_is_no_prefix_is_reordered() -> None:
    """Every pass in the same wrong order is reordered; the reason names the first call a counter gets wrong."""
    judgement = verdict(report(orders=everywhere([B, A, C])))
    assert judgement.word == Word.REORDERED
    assert reason("wrong_call", call=1, ran=B, counted=A) in judgement.reasons


def test_an_expert_set_that_never_runs_is_reordered() -> None:
    """An expert set that no pass runs makes the others resolve wrongly: reordered, not inconclusive."""
    judgement = verdict(report(orders=everywhere([A, C])))
    assert judgement.word == Word.REORDERED
    assert judgement.witness is not None
    assert (judgement.witness.registered, judgement.witness.executed) == ((A, B, C), (A, C))


def test_a_layer_that_is_not_registered_is_reordered() -> None:
    """A call beyond the registered layers has nothing to be resolved to, which is as wrong as another layer."""
    assert word(report([A], orders=everywhere([A, B]))) == Word.REORDERED
    assert word(report([], orders=everywhere([A]))) == Word.REORDERED


def test_a_model_without_moe_layers_is_no_moe() -> None:
    """No layer registered, none run and none declared: no_moe, without any proof."""
    judgement = verdict(report([]))
    assert (judgement.word, judgement.witness, judgement.proofs) == (Word.NO_MOE, None, {})
    assert word(without(report([]), *REPEATED)) == Word.NO_MOE


def test_a_pass_that_ran_a_layer_is_not_no_moe() -> None:
    """A layer that runs without being registered is not a model without MoE layers."""
    assert word(report([], orders=everywhere([A]))) != Word.NO_MOE


@pytest.mark.parametrize("whole_model", [None, whole(registered=[])])
def test_experts_without_vllms_layer_are_no_moe(whole_model: dict[str, Any] | None) -> None:
    """The config declares experts, and the whole model was built and registered no layer: there is nothing to count."""
    judgement = verdict(report([], declares_experts=True, whole=whole_model))
    assert judgement.word == Word.NO_MOE
    assert reason("experts_elsewhere") in judgement.reasons


@pytest.mark.parametrize(
    "change",
    [
        {"whole": whole(registered=[], status="failed", detail="no memory", scenarios=[])},
        {"whole": whole(registered=[], status="not_applicable", scenarios=[])},
        {"assumptions": [{"kind": "attention_stubbed", "detail": "Mixer: AssertionError"}]},
        {"assumptions": [{"kind": "quantization_dropped", "detail": "quantization_config"}]},
        {"assumptions": [{"kind": "plain_config", "detail": "model_type own"}]},
    ],
)
def test_declared_experts_leave_a_doubt_where_a_layer_may_be_missing(change: dict[str, Any]) -> None:
    """Part of the model was not built as the launch builds it; the same model without declared experts is no_moe."""
    judgement = verdict(report([], declares_experts=True, **change))
    assert (judgement.word, judgement.reasons) == (Word.INCONCLUSIVE, (reason("experts_declared"),))
    assert word(report([], declares_experts=False, **change)) == Word.NO_MOE


def test_an_older_report_of_declared_experts_leaves_a_doubt() -> None:
    """It does not say what became of the whole model, which may register a layer that the smaller one lacks."""
    older = report([], declares_experts=True)
    del older["whole"]
    found = verdict(older)
    assert (found.word, found.reasons) == (Word.INCONCLUSIVE, (reason("whole_missing"),))


def test_the_cause_stands_before_its_consequences() -> None:
    """What a scenario raised comes first, and is not repeated as a scenario that did not run."""
    data = without(report([]), "prefill_short")
    failed = {**scenario("decode_1"), "status": "failed", "detail": "AssertionError at vllm/a.py:7", "passes": []}
    judgement = verdict(replaced(data, {**failed, "contexts": 0}))
    assert judgement.reasons[:2] == (
        reason("scenario_failed", scenario="decode_1", detail="AssertionError at vllm/a.py:7"),
        reason("scenario_not_run", scenario="prefill_short"),
    )


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


def test_a_wrong_order_needs_no_proof_and_no_proof_covers_it() -> None:
    """What was seen stands, whatever the plain launch's trace says."""
    for proofs in ([], [proof()], [proof(rank=NOT_COMPILED)]):
        assert word(report(orders={"decode_1": [B, A]}, proofs=proofs)) == Word.CONDITIONAL


def test_without_a_proof_of_the_plain_launch_nothing_is_decided() -> None:
    """No proof, one of another launch only, and a report of an older probe: inconclusive, with the way out."""
    old = {name: value for name, value in report().items() if name not in {"proofs", "whole"}}
    old |= {"exploration": {"status": "ran", "branches": []}, "variants": []}
    for data in (report(proofs=[]), report(proofs=[proof((A, B, C), "--max-num-seqs", "8")]), old):
        judgement = verdict(data)
        assert (judgement.word, judgement.reasons) == (Word.INCONCLUSIVE, (reason("no_proof"),))


def test_another_compilation_config_is_another_launch() -> None:
    """A launch without arguments is plain only if its compilation config asks for nothing either."""
    assert word(report(proofs=[proof(config={"mode": 0})])) == Word.INCONCLUSIVE
    assert word(report(proofs=[proof(config={"fast_moe_cold_start": True, "cache_dir": "/x"})])) == Word.UNIFORM


def test_a_model_that_is_not_compiled_is_judged() -> None:
    """Every process of the plain launch says why: not_compiled, neither safe nor unsafe."""
    judgement = verdict(report(proofs=[proof(rank=NOT_COMPILED)]))
    assert (judgement.word, judgement.word.safe, judgement.word.unsafe) == (Word.NOT_COMPILED, False, False)
    assert [(each.code, each.condition) for each in judgement.reasons] == [("not_decorated", None)]


def ranks(*changes: dict[str, Any]) -> dict[str, Any]:
    """The proof of a plain launch with a process for each of these changes."""
    return proof(ranks=[rank(**{"name": f"rank {index}", **change}) for index, change in enumerate(changes)])


NOT_PROVED: dict[str, tuple[dict[str, Any], str]] = {
    "a failed condition": (ranks({"failures": [failure()]}), "outer_guard"),
    "a code that no rule knows": (ranks({"failures": [failure("moon_phase", 3)]}), "moon_phase"),
    "one of several processes": (ranks({}, {"failures": [failure()]}), "outer_guard"),
    "no process": (ranks(), "no_rank"),
    "a process that could not be built": (ranks({"status": "failed", "calls": []}), "rank_not_traced"),
    "a process that is not compiled beside one that is": (ranks({}, NOT_COMPILED), "not_decorated"),
    "a layer that is not called": (ranks({"calls": [A, B]}), "calls"),
    "no call at all": (ranks({"calls": []}), "calls"),
    "no layer in a process": (ranks({}, {"registered": [], "calls": []}), "no_layers"),
    "a file by which vLLM may serve another class": (
        ranks({"assumptions": [{"kind": "side_file", "detail": "params.json"}]}),
        "side_file",
    ),
    "an assumption that no rule covers": (
        ranks({"assumptions": [{"kind": "moon_phase", "detail": ""}]}),
        "assumption",
    ),
}


@pytest.mark.parametrize("case", NOT_PROVED)
def test_a_plain_launch_that_is_not_proved_is_inconclusive(case: str) -> None:
    """Each gap keeps the verdict from being uniform, and the reason names the condition that it fails."""
    data, code = NOT_PROVED[case]
    judgement = verdict(report(proofs=[data]))
    assert (judgement.word, judgement.witness) == (Word.INCONCLUSIVE, None)
    (first, *_) = judgement.reasons
    assert first.code == code
    assert first.condition is not None
    assert str(first).startswith(CONDITIONS[first.condition])


def test_what_several_processes_share_is_told_once() -> None:
    """Equal failures of ranks are one reason; many different ones are counted."""
    many = [failure(line=number) for number in range(SHOWN + 2)]
    judgement = verdict(report(proofs=[ranks({"failures": many}, {"failures": many})]))
    assert len(judgement.reasons) == SHOWN + 2
    assert first_sentences(judgement.reasons)[-1] == "2 more reasons are in the JSON document"


@pytest.mark.parametrize(
    ("calls", "expected"), [([A, B, B], Word.REPEATED), ([B, A, C], Word.REORDERED), ([A, C], Word.REORDERED)]
)
@pytest.mark.parametrize("args", [(), ("--dtype", "float16")])
def test_a_trace_in_a_wrong_order_is_a_witness(calls: list[str], expected: Word, args: tuple[str, ...]) -> None:
    """The compiled code of any launch that calls the layers wrongly makes the model unsafe, and is the witness."""
    wrong = proof((A, B, C), *args, rank={"calls": calls, "failures": [failure("calls", 2, expected=3, seen=3)]})
    judgement = verdict(report(proofs=[wrong, *([proof()] if args else [])]))
    assert judgement.word == expected
    assert judgement.witness is not None
    assert (judgement.witness.scenario, judgement.witness.executed) == (COMPILED, tuple(calls))
    assert judgement.reasons[-1].code == "traced_wrong"
    assert judgement.reasons[-1].fields["launch"] == (" ".join(args) or "the plain launch")


@pytest.mark.parametrize("code", [("not_traced", 0), ("graphs", 1), ("nested_call", 2), ("outer_entries", 4)])
def test_a_trace_that_may_not_be_all_is_no_witness(code: tuple[str, int]) -> None:
    """Where the graph may not be what a pass runs, a wrong order in it proves nothing."""
    wrong = proof(rank={"calls": [B, A, C], "failures": [failure(*code)]})
    assert word(report(proofs=[wrong])) == Word.INCONCLUSIVE


def test_a_recording_through_the_counter_proves_nothing() -> None:
    """It shows the registered order for every model, so that no wrong pass could have been seen."""
    judgement = verdict(report(observation_method="counted"))
    assert (judgement.word, judgement.reasons) == (Word.INCONCLUSIVE, (reason("counted"),))
    assert word(report(observation_method="hook")) == Word.UNIFORM


def test_scenarios_that_failed_do_not_take_a_proof_back() -> None:
    """They look for wrong passes; a proved launch does not need them. One that is lost is damage."""
    assert word(replaced(report(), failed("token_7_decode"))) == Word.UNIFORM
    judgement = verdict(report(planned=[*SCENARIOS, "token_9_decode"]))
    assert (judgement.word, judgement.reasons[0].code) == (Word.INCONCLUSIVE, "scenario_lost")


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("status", ["failed", "not_applicable", "missing"])
def test_a_model_without_layers_must_have_run(name: str, status: str) -> None:
    """Each required scenario must be there and have run before a model is called one without MoE layers."""
    data = report([])
    lacking = without(data, name) if status == "missing" else replaced(data, failed(name) | {"status": status})
    assert word(lacking) == Word.INCONCLUSIVE


def assumed(kind: str) -> dict[str, Any]:
    """A report without MoE layers and with one more assumption."""
    return report([], assumptions=[*report()["assumptions"], {"kind": kind, "detail": "-"}])


@pytest.mark.parametrize("kind", [*COVERED, "moon_phase"])
def test_what_no_rule_covers_is_no_model_without_layers(kind: str) -> None:
    """A covered assumption leaves no_moe as it is; any other makes it inconclusive."""
    assert word(assumed(kind)) == (Word.NO_MOE if kind in COVERED else Word.INCONCLUSIVE)


@pytest.mark.parametrize("kind", IN_PROOF)
def test_a_covered_assumption_of_a_proof_leaves_it_as_it_is(kind: str) -> None:
    """The table of a proof covers what the launch worker may do otherwise than a launch."""
    assert word(report(proofs=[ranks({"assumptions": [{"kind": kind, "detail": ""}]})])) == Word.UNIFORM


# ---- the model with every layer


def test_a_wrong_pass_of_the_whole_model_counts() -> None:
    """Layers were cut, and with all of them a pass leaves the order."""
    judgement = verdict(report(whole=whole([B, A])))
    assert judgement.word == Word.CONDITIONAL
    assert judgement.reasons[-1] == reason("seen_in_whole")


def test_layers_of_the_whole_model_are_layers() -> None:
    """A cut model without MoE layers is none without them if the whole one, or a traced launch, registers some."""
    assert word(report([], whole=whole())) == Word.INCONCLUSIVE
    assert word(report([], whole=whole(), proofs=[proof()])) == Word.UNIFORM
    assert word(report([], proofs=[proof()])) == Word.UNIFORM
    assert word(report([], whole=whole(status="failed", registered=[], scenarios=[]))) == Word.NO_MOE


# ---- what holds for every report


@st.composite
def entries(draw: st.DrawFn, name: str, orders: st.SearchStrategy[list[str]]) -> dict[str, Any]:
    """A scenario of this name in any status."""
    status = draw(st.sampled_from(["ran", "ran", "ran", "failed", "not_applicable"]))
    if status != "ran":
        return failed(name) | {"status": status}
    return scenario(name, *[draw(orders)] * times(name))


CODES = st.sampled_from([*SENTENCES, "moon_phase"])
FAILURES = st.builds(failure, CODES, st.integers(0, 4), file=st.just("vllm/a.py"), line=st.integers(0, 9))


@st.composite
def proofs(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Proofs of some launches, each with one or two processes that may show anything."""
    launches: list[tuple[str, ...]] = draw(
        st.lists(st.sampled_from([(), ("--dtype", "half")]), unique=True, max_size=2)
    )
    orders = st.sampled_from([[A, B, C], [A, B], [], [B, A, C], [A, A]])
    several = []
    for args in launches:
        shown = [
            rank(
                name=f"rank {index}",
                status=draw(st.sampled_from(["traced", "traced", "traced", "not_compiled", "failed"])),
                failures=draw(st.lists(FAILURES, max_size=1)),
                registered=draw(st.sampled_from([[A, B, C], [A, B, C], []])),
                calls=draw(orders),
                assumptions=draw(st.sampled_from([[], [], [{"kind": "moon_phase", "detail": ""}]])),
            )
            for index in range(draw(st.integers(0, 2)))
        ]
        several.append(proof((A, B, C), *args, ranks=shown))
    return several


@st.composite
def reports(draw: st.DrawFn) -> dict[str, Any]:
    """Any valid report over up to three layers."""
    registered = draw(st.sampled_from([[A, B, C], [A, B], [A], []]))
    usual = st.just(registered)
    orders = st.one_of(usual, usual, st.lists(st.sampled_from([A, B, C]), max_size=4))
    names = draw(st.lists(st.sampled_from([*SCENARIOS, *SCENARIOS, "more"]), unique=True, min_size=1))
    return report(
        registered,
        planned=[*names, *draw(st.sampled_from([[], ["lost"]]))],
        scenarios=[draw(entries(name, orders)) for name in names],
        observation_method=draw(st.sampled_from(["call_and_run", "run", "hook", "counted"])),
        declares_experts=draw(st.booleans()),
        proofs=draw(proofs()),
    )


def is_proved(data: dict[str, Any]) -> bool:
    """Whether a proof says that its launch is right, by the definition."""
    return bool(data["ranks"]) and all(
        one["status"] == "traced"
        and not one["failures"]
        and one["registered"]
        and one["calls"] == one["registered"]
        and all(assumption["kind"] in IN_PROOF for assumption in one["assumptions"])
        for one in data["ranks"]
    )


def plain_of(data: dict[str, Any]) -> dict[str, Any] | None:
    """The proof of the plain launch in a report."""
    return next((one for one in data["proofs"] if one["key"] == proof()["key"]), None)


def is_unsafe_anywhere(data: dict[str, Any]) -> bool:
    """Whether a pass was seen that counting resolves wrongly."""
    registered = data["registered"]
    passes = [order for entry in data["scenarios"] for order in entry["passes"]]
    return any(order != registered[: len(order)] for order in passes)


@given(reports())
@example(report())
@example(report([]))
def test_every_valid_report_has_one_verdict(data: dict[str, Any]) -> None:
    """Judging is total; the verdict survives JSON; a witness is there exactly for unsafe words."""
    judgement = verdict(data)
    assert judgement.reasons
    assert Verdict.from_dict(judgement.to_dict()) == judgement
    assert (judgement.witness is not None) == judgement.word.unsafe


@given(reports())
@example(report())
@example(report(proofs=[]))
def test_uniform_needs_a_proof_of_the_plain_launch(data: dict[str, Any]) -> None:
    """Uniform exactly by the definition: proved, recorded for itself, and no wrong order seen anywhere."""
    plain = plain_of(data)
    proved = plain is not None and is_proved(plain)
    judgement = verdict(data)
    refuted = any(finding.word is ProofWord.REFUTED for finding in judgement.proofs.values())
    seen = is_unsafe_anywhere(data) or refuted
    blind = data["observation_method"] == "counted" or "lost" in data["planned"]
    assert (judgement.word is Word.UNIFORM) == (proved and not seen and not blind)
    assert judgement.word.unsafe == seen


@given(reports())
def test_the_witness_proves_its_verdict(data: dict[str, Any]) -> None:
    """What it shows is in the report, and is not a prefix of the registered order."""
    judgement = verdict(data)
    if judgement.witness is None:
        return
    shown = list(judgement.witness.executed)
    assert shown != list(judgement.witness.registered)[: len(shown)]
    if judgement.witness.scenario == COMPILED:
        assert shown in [one["calls"] for each in data["proofs"] for one in each["ranks"]]
    else:
        assert any(shown in entry["passes"] for entry in data["scenarios"])


@given(reports(), st.data())
@example(report(), None)
def test_less_proof_never_makes_a_verdict_safe(data: dict[str, Any], choose: st.DataObject | None) -> None:
    """A proof that is lost, or that gets a failure, leaves no model with layers uniform that was not."""
    before = word(data)
    for each in data["proofs"]:
        others = [one for one in data["proofs"] if one is not each]
        assert word(data | {"proofs": others}) != Word.UNIFORM or before == Word.UNIFORM or before.unsafe
        spoiled = [{**one, "failures": [*one["failures"], failure()]} for one in each["ranks"]]
        code = choose.draw(CODES) if choose else "moon_phase"
        told = [{**one, "failures": [failure(code, 1)]} for one in each["ranks"]]
        for worse in (spoiled, told, []):
            after = word(data | {"proofs": [*others, each | {"ranks": worse}]})
            assert after != Word.UNIFORM or each["key"] != proof()["key"]


def test_a_verdict_survives_json() -> None:
    """With its findings and their reasons; what is not one is refused, a part that is missing too."""
    judgement = verdict(report(proofs=[ranks({"failures": [failure(file="a", line=1)]})]))
    stored = json.loads(json.dumps(judgement.to_dict()))
    assert Verdict.from_dict(stored) == judgement
    assert judgement.proofs[proof()["key"]].reasons == (Reason("outer_guard", 4, {"file": "a", "line": 1}),)
    for change in (
        {"word": "fine"},
        {"reasons": ["so"]},
        {"reasons": [{"code": 1}]},
        {"reasons": [{"code": "a", "condition": True, "fields": {}}]},
        {"reasons": [{"code": "a", "condition": 1, "fields": {"x": None}}]},
        {"proofs": {"a": {"word": "fine"}}},
        {"codes": []},
    ):
        with pytest.raises(ValueError, match=r"[a-z]"):
            Verdict.from_dict(stored | change)
    for name in stored:
        with pytest.raises(ValueError, match=name):
            Verdict.from_dict({field: value for field, value in stored.items() if field != name})
