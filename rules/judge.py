"""report -> verdict: what the observed orders prove about the model's code.

Knows nothing of flags or launches.
"""

from dataclasses import replace

from rules.assumptions import uncovered
from rules.report import Branch, Compiled, Order, Report, Scenario, Variant
from rules.verdict import Verdict, Witness, Word

REQUIRED = ("decode_1", "prefill_short", "prefill_65", "batch_limit", "mixed_batch")
"""Scenarios without which nothing is proved."""

Pass = tuple[str, Order]
"""Scenario name and executed order of one forward context."""


def judge(report: Report) -> Verdict:
    """Judge a report. Total: every valid report has exactly one verdict.

    An unsafe verdict needs one pass that proves it. A safe one needs every
    planned scenario to be there and none to have failed, every registered layer
    to have run in some pass, every assumption to be covered by a rule, and every
    branch that can change MoE calls to have been seen all ways or to be constant.
    """
    passes = _passes(report.scenarios)
    base = _unsafe(report.registered, passes) or _inconclusive(report, passes) or _safe(report, passes)
    compile_word, compile_reasons = judge_compiled(report.compile)
    variants = {variant.name: str(judge_variant(variant, base)) for variant in report.variants if _ran(variant)}
    return replace(base, variants=variants, compile=compile_word, compile_reasons=compile_reasons)


def _passes(scenarios: tuple[Scenario, ...]) -> list[Pass]:
    return [(scenario.name, order) for scenario in scenarios for order in scenario.passes]


def _ran(variant: Variant) -> bool:
    return variant.status == "ran"


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
    reasons = [*_unfinished(report), *_unseen(report, passes), *_unexplored(report), *_unlike_the_launch(report)]
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


def _unexplored(report: Report) -> list[str]:
    """Branches of which an outcome that could reach a MoE call was neither seen nor shown impossible."""
    if not report.registered:
        return []
    if report.exploration is None:
        return ["the branches of the model's code were not explored"]
    if report.exploration.status == "failed":
        return [f"the branches of the model's code could not be explored: {report.exploration.detail}"]
    return [_sentence(branch) for branch in report.exploration.branches if branch.status == "unexplored"]


def _sentence(branch: Branch) -> str:
    tried = f"; tried {', '.join(branch.tried[:4])}" if branch.tried else ""
    return f"{branch.file}:{branch.line} ({branch.function}): `{branch.condition}` {branch.because}{tried}"


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
    if not report.registered:
        said = f"the model registers no MoE layer and ran none in {scenarios} scenarios"
        return Verdict(Word.NO_MOE, (said,), coverage="branches")
    layers = len(report.registered)
    proved = f"{len(passes)} passes of {scenarios} scenarios ran a prefix of the {layers} registered MoE layers"
    branches = report.exploration.branches if report.exploration else ()
    constant = sum(branch.status == "constant" for branch in branches)
    explored = (
        f"of {len(branches)} branches that can change MoE calls {len(branches) - constant} were seen all ways "
        f"and {constant} depend on constants of this instance"
    )
    return Verdict(Word.UNIFORM, (proved, explored), coverage="branches")


def judge_variant(variant: Variant, base: Verdict) -> Word:
    """The word for one other serving setting, judged by its own layers and passes.

    Safe only if the model itself is: the variant's branches were not explored again.
    """
    passes = _passes(variant.scenarios)
    wrong = _unsafe(variant.registered, passes)
    if wrong:
        return wrong.word
    ran = {layer for _, order in passes for layer in order}
    unfinished = any(scenario.status == "failed" for scenario in variant.scenarios)
    if not passes or unfinished or ran != set(variant.registered) or not base.word.safe:
        return Word.INCONCLUSIVE
    return Word.UNIFORM if variant.registered else Word.NO_MOE


def judge_compiled(compiled: Compiled | None) -> tuple[str, tuple[str, ...]]:
    """Whether compiling changed which MoE layers ran: `stable`, `frozen` or `unknown`, and why."""
    if compiled is None:
        return "unknown", ("the compiled model was not run",)
    if compiled.status != "ran" or not compiled.scenarios:
        return "unknown", (f"the compiled model was not compared: {compiled.detail or compiled.status}",)
    moved = next((one for one in compiled.scenarios if one.eager != one.compiled), None)
    if moved is None:
        return "stable", ()
    eager, now = (sum(map(len, orders)) for orders in (moved.eager, moved.compiled))
    said = f"compiled, scenario {moved.name} ran other MoE layers than eager ({now} calls against {eager})"
    return "frozen", (said, "a branch was fixed when the model was traced")
