"""report -> verdict: what the observed orders prove about the model's code.

Knows nothing of flags or launches.
"""

from rules.assumptions import uncovered
from rules.report import Order, Report
from rules.verdict import Verdict, Witness, Word

REQUIRED = ("decode_1", "prefill_short", "prefill_65", "batch_limit", "mixed_batch")
"""Scenarios without which nothing is proved."""

Pass = tuple[str, Order]
"""Scenario name and executed order of one forward context."""


def judge(report: Report) -> Verdict:
    """Judge a report. Total: every valid report has exactly one verdict.

    An unsafe verdict needs one pass that proves it. A safe one needs every
    planned scenario to be there and none to have failed, every registered layer
    to have run in some pass, and every assumption to be covered by a rule.
    """
    passes = [(scenario.name, order) for scenario in report.scenarios for order in scenario.passes]
    return _unsafe(report.registered, passes) or _inconclusive(report, passes) or _safe(report, passes)


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


def _inconclusive(report: Report, passes: list[Pass]) -> Verdict | None:
    reasons = [*_unfinished(report), *_unseen(report, passes), *_unlike_the_launch(report)]
    return Verdict(Word.INCONCLUSIVE, tuple(reasons)) if reasons else None


def _unfinished(report: Report) -> list[str]:
    """Scenarios that a safe verdict needs and that did not run."""
    status = {scenario.name: scenario.status for scenario in report.scenarios}
    reasons = [f"scenario {name} did not run" for name in REQUIRED if status.get(name, "failed") != "ran"]
    lost = [name for name in report.planned if name not in status]
    reasons += [f"scenario {name} was planned and is missing from the report" for name in lost[:3]]
    failed = [scenario for scenario in report.scenarios if scenario.status == "failed"]
    return reasons + [f"scenario {scenario.name} failed: {scenario.detail}" for scenario in failed[:3]]


def _unseen(report: Report, passes: list[Pass]) -> list[str]:
    """Layers or passes in which less was seen than the model is made of."""
    if not report.registered:
        declared = "the config declares experts, but the model registered no MoE layer"
        return [declared] if report.declares_experts else []
    ran = {layer for _, order in passes for layer in order}
    missing = [layer for layer in report.registered if layer not in ran]
    empty = [name for name, order in passes if not order]
    reasons = [f"registered layer {missing[0]} ran in no pass ({len(missing)} such layers)"] if missing else []
    return reasons + ([f"no MoE call was recorded in scenario {empty[0]}"] if empty else [])


def _unlike_the_launch(report: Report) -> list[str]:
    unknown = uncovered([assumption.kind for assumption in report.assumptions])
    reasons = [f"no rule covers what the probe did otherwise than the launch: {kind}" for kind in unknown]
    if report.registered and report.recording in WEAK:
        reasons.append(WEAK[report.recording])
    return reasons


WEAK = {
    "hook": "MoE calls could be recorded by module hooks only, which fused and LoRA paths go round",
    "counted": "MoE calls were resolved by the counter during the probe, which hides the order the model meant",
}
"""Kind of recording that proves nothing -> why."""


def _safe(report: Report, passes: list[Pass]) -> Verdict:
    scenarios = sum(scenario.status == "ran" for scenario in report.scenarios)
    seen = "no branch was explored beyond them"
    if not report.registered:
        return Verdict(Word.NO_MOE, (f"the model registers no MoE layer and ran none in {scenarios} scenarios",))
    layers = len(report.registered)
    proved = f"{len(passes)} passes of {scenarios} scenarios ran a prefix of the {layers} registered MoE layers"
    return Verdict(Word.UNIFORM, (proved, f"evidence covers these scenarios; {seen}"))
