"""report -> verdict: what the observed orders and the proof of the plain launch say about the model's code.

Knows nothing of flags, and of launches only which one is plain.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rules.assumptions import SIDE_FILE, uncovered
from rules.output import outputs_against
from rules.proof import judge_proof, wrong_rank
from rules.proof_finding import PLAIN, ProofFinding, ProofWord, Reason, sentence, with_condition
from rules.replay import held_against, replay_orders
from rules.report import CompiledScenario, Order, Report, Scenario
from rules.verdict import Verdict, Witness, Word

REQUIRED = ("decode_1", "prefill_short", "prefill_65", "batch_limit", "mixed_batch")
"""Scenarios without which a model is not called one without MoE layers."""
REPEATED = ("repeated_decode", "repeated_prefill")
"""Scenarios of equal passes: chance and hidden state show as passes that differ."""
COMPILED = "compiled"
"""Name of the scenario in a witness that is the traced graph of a launch."""
SHOWN = 5
"""Reasons of one kind that are spelled out; the report holds all."""

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
    base = outputs_against(held_against(base, report.replays), report.outputs)
    return replace(base, proofs=proofs, compile=compile_word, compile_reasons=compile_reasons)


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
            return replace(wrong, reasons=(*wrong.reasons, "seen with every layer of the model"))
    engines = (_unsafe(run.registered, replay_orders(run)) for run in report.replays)
    return next(filter(None, engines), None) or _unsafe_compiled(report)


def _unsafe_compiled(report: Report) -> Verdict | None:
    """The first launch whose compiled code calls the layers in a wrong order."""
    for proof in report.proofs:
        rank = wrong_rank(proof)
        wrong = _unsafe(rank.registered, [(COMPILED, rank.calls)]) if rank else None
        if rank and wrong:
            launch = " ".join(proof.arguments) or "the plain launch"
            return replace(wrong, reasons=(*wrong.reasons, f"traced in {rank.name} of this launch: {launch}"))
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
        return Verdict(Word.INCONCLUSIVE, (sentence(blind),), codes=(blind,))
    if beside := _side_files(report):
        return Verdict(Word.INCONCLUSIVE, tuple(map(sentence, beside)), codes=tuple(beside))
    if plain is None:
        missing = Reason("no_proof", 0)
        return Verdict(Word.INCONCLUSIVE, (sentence(missing),), codes=(missing,))
    if plain.word is ProofWord.NOT_COMPILED:
        return Verdict(Word.NOT_COMPILED, tuple(_spelled(plain.reasons, sentence)), codes=plain.reasons)
    if not plain.proved:
        return Verdict(Word.INCONCLUSIVE, tuple(_spelled(plain.reasons, with_condition)), codes=plain.reasons)
    return Verdict(Word.UNIFORM, (_traced(plain), _seen(report)))


def _blind(report: Report) -> Reason | None:
    """Why a wrong pass may have gone unseen, beyond what any trace tells."""
    if report.observation_method == "counted":
        return Reason("recording_counted", 0)
    lost = _lost(report)
    return Reason("scenario_lost", 0, {"scenario": lost[0]}) if lost else None


def _lost(report: Report) -> list[str]:
    """Scenarios that were planned and are missing from the report, which is damage."""
    names = {scenario.name for scenario in report.scenarios}
    return [name for name in report.planned if name not in names]


def _spelled(reasons: Sequence[Reason], in_words: Callable[[Reason], str]) -> list[str]:
    """The first reasons in words, and how many more there are."""
    more = len(reasons) - SHOWN
    return [*map(in_words, reasons[:SHOWN]), *([f"{more} more reasons stand in the report"] if more > 0 else [])]


def _traced(plain: ProofFinding) -> str:
    layers = "the one MoE layer" if plain.layers == 1 else f"each of the {plain.layers} MoE layers"
    return f"the code that vLLM compiles for the plain launch calls {layers} once, in the registered order"


def _seen(report: Report) -> str:
    """What the order probe adds: it looks for a wrong pass and saw none."""
    ran = [scenario for scenario in report.scenarios if scenario.status == "ran"]
    passes = sum(scenario.count for scenario in ran)
    return f"none of {passes} passes of {len(ran)} scenarios left that order"


def _without_layers(report: Report) -> Verdict:
    """The verdict on a model that registers no MoE layer and ran none."""
    reasons = [*_unfinished(report), *_declared(report), *_unlike_the_launch(report)]
    if not report.reports_whole:  # the whole model may have registered layers
        reasons.append("the report does not say what the whole model registered")
    if reasons:
        return Verdict(Word.INCONCLUSIVE, tuple(reasons))
    scenarios = sum(scenario.status == "ran" for scenario in report.scenarios)
    return Verdict(Word.NO_MOE, (f"the model registers no MoE layer and ran none in {scenarios} scenarios",))


def _proved(word: Word, registered: Order, wrong: Pass, differs: Pass | None) -> Verdict:
    name, order = wrong
    at = next((i for i, (ran, counted) in enumerate(zip(order, registered, strict=False)) if ran != counted), None)
    reasons = [SENTENCE[word].format(name=name)]
    if at is not None:
        reasons.append(f"call {at + 1} of that pass ran {order[at]}; a counter would resolve it to {registered[at]}")
    if differs:
        reasons.append(f"scenario {differs[0]} ran another order")
    other_name, other = differs or ("", ())
    return Verdict(word, tuple(reasons), Witness(name, registered, order, other_name, other))


SENTENCE = {
    Word.REPEATED: "scenario {name} ran a MoE layer more than once in one pass",
    Word.CONDITIONAL: "which MoE layers run depends on the input: scenario {name} left the registered order",
    Word.REORDERED: "every pass ran the same order, and it is not the registered one (seen in scenario {name})",
}


def _unfinished(report: Report) -> list[str]:
    """Scenarios without which a model is not called one without MoE layers, and that did not run."""
    status = {scenario.name: scenario.status for scenario in report.scenarios}
    reasons = [f"scenario {name} did not run" for name in REQUIRED if status.get(name) != "ran"]
    reasons += [f"scenario {name} was planned and is missing from the report" for name in _lost(report)[:SHOWN]]
    failed = [scenario for scenario in report.scenarios if scenario.status == "failed"]
    return reasons + [f"scenario {scenario.name} failed: {scenario.detail}" for scenario in failed[:SHOWN]]


def _declared(report: Report) -> list[str]:
    if not report.declares_experts:
        return []
    return ["the config declares experts, but the model registered no MoE layer"]


def _unlike_the_launch(report: Report) -> list[str]:
    kinds = [assumption.kind for assumption in report.assumptions]
    unknown = uncovered(kind for kind in kinds if kind != SIDE_FILE)
    beside = [sentence(reason) for reason in _side_files(report)]
    return beside + [f"no rule covers what the probe did otherwise than the launch: {kind}" for kind in unknown]


def _side_files(report: Report) -> list[Reason]:
    """Files of the model folder by which vLLM may build another model than the one that was probed."""
    files = [assumption.detail for assumption in report.assumptions if assumption.kind == SIDE_FILE]
    return [Reason("side_file", 0, {"file": file}) for file in files]


def _differing(report: Report) -> str:
    """The first scenario whose equal passes differ by themselves; empty if none does."""
    equal = (scenario for scenario in report.scenarios if scenario.name in REPEATED)
    return next((scenario.name for scenario in equal if len(set(scenario.passes)) > 1), "")


def judge_compiled(report: Report, by_chance: str) -> tuple[str, tuple[str, ...]]:
    """Whether compiling changed which MoE layers ran: `stable`, `frozen` or `unknown`, and why.

    Args:
        report: the probe's report.
        by_chance: a scenario whose equal eager passes differ by themselves; empty if there is none.
    """
    compiled = report.compile
    if compiled is None:
        return "unknown", ("the compiled model was not run",)
    if compiled.status != "ran" or not compiled.scenarios:
        return "unknown", (f"the compiled model was not compared: {compiled.detail or compiled.status}",)
    moved = next((one for one in compiled.scenarios if one.eager != one.compiled), None)
    if moved:
        chance = f"equal passes of {by_chance} differ by themselves, so this may be chance"
        return "frozen", (_moved(moved), *([chance] if by_chance else []))
    if report.registered and not any(order for one in compiled.scenarios for order in one.eager):
        return "unknown", ("no MoE call was recorded in the passes that were compared",)
    return "stable", ()


def _moved(moved: CompiledScenario) -> str:
    eager, now = (sum(map(len, orders)) for orders in (moved.eager, moved.compiled))
    return (
        f"compiled, scenario {moved.name} ran other MoE layers than eager ({now} calls against {eager}): "
        "a branch was fixed when the model was traced"
    )
