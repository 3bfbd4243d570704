"""report -> verdict: what the observed orders and the proof of the plain launch say about the model's code.

Knows nothing of flags, and of launches only which one is plain.
"""

from msgspec.structs import replace

from rules.assumptions import SIDE_FILE, uncovered
from rules.ladder import judge_ladder, ladders_against
from rules.proof import judge_proof, wrong_rank
from rules.proof_finding import PLAIN, ProofFinding, ProofWord
from rules.reason import Reason, reason
from rules.replay import held_against, replay_orders
from rules.report import CompiledScenario, Order, Report, Scenario
from rules.verdict import Verdict, Witness, Word

REQUIRED = ("decode_1", "prefill_short", "prefill_65", "batch_limit", "mixed_batch")
"""Scenarios without which a model is not called one without MoE layers."""
REPEATED = ("repeated_decode", "repeated_prefill")
"""Scenarios of equal passes: chance and hidden state show as passes that differ."""
COMPILED = "compiled"
"""Name of the scenario in a witness that is the traced graph of a launch."""
MAY_HIDE_EXPERTS = frozenset({"attention_stubbed", "plain_config", "quantization_dropped"})
"""Differences from the launch by which a model whose config declares experts may have lost a MoE layer. A module was
not built, the config lacks the fields that code computes, or the quantisation would have chosen another class."""
MOST = 5
"""Reasons of one kind that a verdict holds; the report holds all."""

Pass = tuple[str, Order]
"""Scenario name and executed order of one forward context."""


def judge(report: Report) -> Verdict:
    """Judge a report. Total: every valid report has exactly one verdict.

    An unsafe verdict needs one pass that proves it, or the traced graph of a launch. `no_moe` needs every planned
    scenario to be there and none to have failed, no layer registered anywhere, and every assumption to be covered by a
    rule. A model with MoE layers gets what the proof of its plain launch says.
    """
    proofs = {proof.key: judge_proof(proof) for proof in report.proofs}
    passes = _passes(report.scenarios)
    wrong = _unsafe(report.registered, passes) or _unsafe_elsewhere(report)
    if wrong:
        base = wrong
    elif _registers(report):
        base = _by_proof(report, proofs.get(PLAIN))
    else:
        base = _without_layers(report)
    compile_word, compile_reasons = judge_compiled(report, _differing(report))
    ladders = {ladder.key: judge_ladder(ladder) for ladder in report.ladders}
    base = ladders_against(held_against(base, report.replays), ladders.values())
    return replace(base, proofs=proofs, compile=compile_word, compile_reasons=compile_reasons, ladders=ladders)


def _passes(scenarios: tuple[Scenario, ...]) -> list[Pass]:
    return [(scenario.name, order) for scenario in scenarios for order in scenario.passes]


def is_prefix(order: Order, registered: Order) -> bool:
    """Whether counting resolves every call of this pass rightly."""
    return order == registered[: len(order)]


def _unsafe(registered: Order, passes: list[Pass]) -> Verdict | None:
    repeated = next(((name, order) for name, order in passes if len(set(order)) < len(order)), None)
    if repeated:
        return _proved(Word.REPEATED, registered, repeated, None)
    wrong = next(((name, order) for name, order in passes if not is_prefix(order, registered)), None)
    if not wrong:
        return None
    differs = next(((name, order) for name, order in passes if order != wrong[1]), None)
    return _proved(Word.CONDITIONAL if differs else Word.REORDERED, registered, wrong, differs)


def _unsafe_elsewhere(report: Report) -> Verdict | None:
    """A wrong order of the model with every layer, of an engine, or of the compiled code of a launch."""
    whole = report.whole
    if whole is not None and whole.status == "ran":
        wrong = _unsafe(whole.registered, _passes(whole.scenarios))
        if wrong:
            return replace(wrong, reasons=(*wrong.reasons, reason("seen_in_whole")))
    engines = (_unsafe(run.registered, replay_orders(run)) for run in report.replays)
    return next(filter(None, engines), None) or _unsafe_compiled(report)


def _unsafe_compiled(report: Report) -> Verdict | None:
    """The first launch whose compiled code calls the layers in a wrong order."""
    for proof in report.proofs:
        rank = wrong_rank(proof)
        wrong = _unsafe(rank.registered, [(COMPILED, rank.calls)]) if rank else None
        if rank and wrong:
            launch = " ".join(proof.arguments) or "the plain launch"
            return replace(wrong, reasons=(*wrong.reasons, reason("traced_wrong", rank=rank.name, launch=launch)))
    return None


def _registers(report: Report) -> bool:
    """Whether any MoE layer is registered anywhere: by the probed model, by the whole one, or in a traced launch."""
    whole = report.whole.registered if report.whole else ()
    traced = any(rank.registered for proof in report.proofs for rank in proof.ranks)
    return bool(report.registered or whole) or traced


def _by_proof(report: Report, plain: ProofFinding | None) -> Verdict:
    """The verdict on a model with MoE layers of which no wrong order was seen."""
    blind = _blind(report)
    if blind is not None:
        return Verdict(Word.INCONCLUSIVE, (blind,))
    if beside := _side_files(report):
        return Verdict(Word.INCONCLUSIVE, tuple(beside))
    if plain is None:
        return Verdict(Word.INCONCLUSIVE, (reason("no_proof"),))
    if plain.word is ProofWord.NOT_COMPILED:
        return Verdict(Word.NOT_COMPILED, tuple(failure.without_condition() for failure in plain.reasons))
    if not plain.proved:
        return Verdict(Word.INCONCLUSIVE, plain.reasons)
    return Verdict(Word.UNIFORM, (reason("plain_proved", layers=plain.layers), _order_kept(report)))


def _blind(report: Report) -> Reason | None:
    """Why a wrong pass may have gone unseen, beyond what any trace tells."""
    if report.observation_method == "counted":
        return reason("counted")
    lost = _lost(report)
    return reason("scenario_lost", scenario=lost[0]) if lost else None


def _lost(report: Report) -> list[str]:
    """Scenarios that were planned and are missing from the report, which is damage."""
    names = {scenario.name for scenario in report.scenarios}
    return [name for name in report.planned if name not in names]


def _order_kept(report: Report) -> Reason:
    """What the order probe adds: it looks for a wrong pass and saw none."""
    ran = [scenario for scenario in report.scenarios if scenario.status == "ran"]
    passes = sum(scenario.count for scenario in ran)
    return reason("order_kept", passes=passes, scenarios=len(ran))


def _without_layers(report: Report) -> Verdict:
    """The verdict on a model that registers no MoE layer and ran none."""
    reasons = [*_unfinished(report), *_declared(report), *_unlike_the_launch(report)]
    if not report.reports_whole:  # the whole model may have registered layers
        reasons.append(reason("whole_missing"))
    if reasons:
        return Verdict(Word.INCONCLUSIVE, tuple(reasons))
    scenarios = sum(scenario.status == "ran" for scenario in report.scenarios)
    elsewhere = (reason("experts_elsewhere"),) if report.declares_experts else ()
    return Verdict(Word.NO_MOE, (reason("none_registered", scenarios=scenarios), *elsewhere))


def _proved(word: Word, registered: Order, wrong: Pass, differs: Pass | None) -> Verdict:
    name, order = wrong
    at = next((i for i, (ran, counted) in enumerate(zip(order, registered, strict=False)) if ran != counted), None)
    reasons = [reason(str(word), scenario=name)]
    if at is not None:
        reasons.append(reason("wrong_call", call=at + 1, ran=order[at], counted=registered[at]))
    if differs:
        reasons.append(reason("other_order", scenario=differs[0]))
    other_name, other = differs or ("", ())
    return Verdict(word, tuple(reasons), Witness(name, registered, order, other_name, other))


def _unfinished(report: Report) -> list[Reason]:
    """Scenarios without which a model is not called one without MoE layers, and that did not run.

    What a scenario raised comes before what is missing because of it.
    """
    failed = [scenario for scenario in report.scenarios if scenario.status == "failed"]
    reasons = [reason("scenario_failed", scenario=each.name, detail=each.detail) for each in failed[:MOST]]
    explained = {each.name for each in failed[:MOST]}
    status = {scenario.name: scenario.status for scenario in report.scenarios}
    not_run = [name for name in REQUIRED if status.get(name) != "ran" and name not in explained]
    reasons += [reason("scenario_not_run", scenario=name) for name in not_run]
    reasons += [reason("scenario_lost", scenario=name) for name in _lost(report)[:MOST]]
    return reasons


def _declared(report: Report) -> list[Reason]:
    """A doubt where the config declares experts, and the launch may build a MoE layer that the probe did not build.

    Without one, the model computes its experts by other means than vLLM's MoE layer, and there is nothing to count.
    """
    if not report.declares_experts:
        return []
    was_built = report.whole is None or report.whole.status == "ran"
    kinds = {assumption.kind for assumption in report.assumptions}
    if was_built and not kinds & MAY_HIDE_EXPERTS:
        return []
    return [reason("experts_declared")]


def _unlike_the_launch(report: Report) -> list[Reason]:
    kinds = [assumption.kind for assumption in report.assumptions]
    unknown = uncovered(kind for kind in kinds if kind != SIDE_FILE)
    return _side_files(report) + [reason("probe_assumption", kind=kind) for kind in unknown]


def _side_files(report: Report) -> list[Reason]:
    """Files of the model folder by which vLLM may build another model than the one that was probed."""
    files = [assumption.detail for assumption in report.assumptions if assumption.kind == SIDE_FILE]
    return [reason(SIDE_FILE, file=file) for file in files]


def _differing(report: Report) -> str:
    """The first scenario whose equal passes differ by themselves; empty if none does."""
    equal = (scenario for scenario in report.scenarios if scenario.name in REPEATED)
    return next((scenario.name for scenario in equal if len(set(scenario.passes)) > 1), "")


def judge_compiled(report: Report, by_chance: str) -> tuple[str, tuple[Reason, ...]]:
    """Whether compiling changed which MoE layers ran: `stable`, `frozen` or `unknown`, and why.

    Args:
        report: the probe's report.
        by_chance: a scenario whose equal eager passes differ by themselves; empty if there is none.
    """
    compiled = report.compile
    if compiled is None:
        return "unknown", (reason("compiled_not_run"),)
    if compiled.status != "ran" or not compiled.scenarios:
        return "unknown", (reason("compiled_not_compared", detail=compiled.detail or compiled.status),)
    moved = next((scenario for scenario in compiled.scenarios if scenario.eager != scenario.compiled), None)
    if moved:
        chance = (reason("compiled_by_chance", scenario=by_chance),) if by_chance else ()
        return "frozen", (_moved(moved), *chance)
    if report.registered and not any(order for scenario in compiled.scenarios for order in scenario.eager):
        return "unknown", (reason("compiled_no_call"),)
    return "stable", ()


def _moved(moved: CompiledScenario) -> Reason:
    eager, compiled = (sum(map(len, orders)) for orders in (moved.eager, moved.compiled))
    return reason("compiled_moved", scenario=moved.name, compiled=compiled, eager=eager)
