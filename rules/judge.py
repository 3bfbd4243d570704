"""report -> verdict: what the observed orders prove about the model's code.

Knows nothing of flags or launches.
"""

from dataclasses import replace

from rules.assumptions import LAYERS_SHRUNK, SIDE_FILE, uncovered
from rules.compiled import judge_compiled
from rules.output import outputs_against
from rules.replay import held_against, replay_orders
from rules.report import Branch, Order, Report, Scenario, Variant
from rules.verdict import Verdict, Witness, Word

REQUIRED = ("decode_1", "prefill_short", "prefill_65", "batch_limit", "mixed_batch")
"""Scenarios without which nothing is proved."""
REPEATED = ("repeated_decode", "repeated_prefill")
"""Scenarios of equal passes, without which no order is proved: chance and hidden state show as passes that differ."""
EQUAL_PASSES = 16
"""Passes of each; a layer in four that is skipped at random then goes unseen in fewer than one of 10^9 probes."""
IN_VARIANTS = ("decode_1", "prefill_short", "mixed_batch", "repeated_decode")
"""Scenarios without which a variant proves nothing: its code is the model's, which all scenarios explored."""
DEPTH = "full_depth"
IN_DEPTH = ("decode_1", "prefill_short")
"""The variant with every layer of a model that was cut, and what it must have run."""
EVERY_LAUNCH = {DEPTH: "with every layer of the model", "quantized": "with the quantisation that the config names"}
"""Variant that shows what every launch is like -> in words; a wrong pass there is one of the model itself."""
OTHER_CODE = {
    "speculative_draft": "the draft's code was not explored",
    "transformers": "the code of that implementation was not explored",
}
"""Variant that runs other code than the model's own -> why its passes alone never make it safe."""
SHOWN = 5
"""Reasons of one kind that are spelled out; the report holds all."""

Pass = tuple[str, Order]
"""Scenario name and executed order of one forward context."""


def judge(report: Report) -> Verdict:
    """Judge a report. Total: every valid report has exactly one verdict.

    An unsafe verdict needs one pass that proves it. A safe one needs every
    planned scenario to be there and none to have failed, every registered layer
    to have run in some pass, every assumption to be covered by a rule, and every
    branch that can change MoE calls to have been seen all ways or to be constant.
    Where no layer is registered no branch can reach one, so none need be explored.
    """
    passes = _passes(report.scenarios)
    wrong = _unsafe(report.registered, passes) or _unsafe_everywhere(report)
    base = wrong or _inconclusive(report, passes) or _safe(report)
    compile_word, compile_reasons = judge_compiled(report, _differing(report))
    base = outputs_against(held_against(base, report.replays), report.outputs)
    judged = {variant.name: judge_variant(variant, base.word) for variant in report.variants}
    return replace(
        base,
        variants={name: str(word) for name, (word, _) in judged.items() if word},
        variant_reasons={name: reason for name, (_, reason) in judged.items() if reason},
        compile=compile_word,
        compile_reasons=compile_reasons,
    )


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


def _unsafe_everywhere(report: Report) -> Verdict | None:
    """A wrong pass of a variant that shows what every launch is like, or of an engine of one."""
    for variant in report.variants:
        if variant.status == "ran" and variant.name in EVERY_LAUNCH:
            wrong = _unsafe(variant.registered, _passes(variant.scenarios))
            if wrong:
                return replace(wrong, reasons=(*wrong.reasons, f"seen {EVERY_LAUNCH[variant.name]}"))
    engines = (_unsafe(run.registered, replay_orders(run)) for run in report.replays)
    return next(filter(None, engines), None)


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
    reasons = [
        *_not_explored(report),
        *_unfinished(report),
        *_unseen(report, passes),
        *_cut(report),
        *_unexplored(report),
        *_unlike_the_launch(report),
    ]
    return Verdict(Word.INCONCLUSIVE, tuple(reasons)) if reasons else None


def _unfinished(report: Report) -> list[str]:
    """Scenarios that a safe verdict needs and that did not run."""
    status = {scenario.name: scenario.status for scenario in report.scenarios}
    reasons = _not_run(report.scenarios, REQUIRED)
    if report.registered:
        reasons += [*_not_run(report.scenarios, REPEATED), *_too_few(report.scenarios)]
    lost = [name for name in report.planned if name not in status]
    reasons += [f"scenario {name} was planned and is missing from the report" for name in lost[:SHOWN]]
    failed = [scenario for scenario in report.scenarios if scenario.status == "failed"]
    return reasons + [f"scenario {scenario.name} failed: {scenario.detail}" for scenario in failed[:SHOWN]]


def _not_run(scenarios: tuple[Scenario, ...], names: tuple[str, ...]) -> list[str]:
    ran = {scenario.name for scenario in scenarios if scenario.status == "ran"}
    return [f"scenario {name} did not run" for name in names if name not in ran]


def _too_few(scenarios: tuple[Scenario, ...]) -> list[str]:
    """Scenarios of equal passes that did not run often enough to show chance."""
    few = [one for one in scenarios if one.name in REPEATED and 0 < one.count < EQUAL_PASSES]
    return [f"scenario {one.name} ran {one.count} of {EQUAL_PASSES} equal passes" for one in few]


def _differing(report: Report) -> str:
    """The first scenario whose equal passes differ by themselves; empty if none does."""
    return next((one.name for one in report.scenarios if one.name in REPEATED and len(set(one.passes)) > 1), "")


def _unseen(report: Report, passes: list[Pass]) -> list[str]:
    """Layers or passes in which less was seen than the model is made of."""
    if report.registered:
        return _gaps(report.registered, passes)
    declared = "the config declares experts, but the model registered no MoE layer"
    return [declared] if report.declares_experts else []


def _gaps(registered: Order, passes: list[Pass]) -> list[str]:
    """Registered layers that no pass ran, and passes that ran none."""
    ran = {layer for _, order in passes for layer in order}
    missing = [layer for layer in registered if layer not in ran]
    empty = [name for name, order in passes if not order]
    reasons = [f"registered layer {missing[0]} ran in no pass ({len(missing)} such layers)"] if missing else []
    return reasons + ([f"no MoE call was recorded in scenario {empty[0]}"] if empty and registered else [])


def _cut(report: Report) -> list[str]:
    """Why a model of which layers were cut may not stand for the whole one."""
    whole = next((variant for variant in report.variants if variant.name == DEPTH), None)
    cut = any(assumption.kind == LAYERS_SHRUNK for assumption in report.assumptions)
    if whole is not None and whole.status == "ran" and whole.registered and not report.registered:
        return [f"{EVERY_LAUNCH[DEPTH]} it registers {len(whole.registered)} MoE layers"]
    if not cut or not report.registered:
        return []
    if whole is None or whole.status != "ran":
        said = whole.detail if whole else ""
        return ["layers were cut, and the model with all of them was not run" + (f": {said}" if said else "")]
    gaps = _variant_gaps(whole, _passes(whole.scenarios))
    gaps += [f"branches there are not constant: {whole.detail}"] if whole.detail else []
    return [f"layers were cut, and {EVERY_LAUNCH[DEPTH]} {gap}" for gap in gaps[:1]]


def _not_explored(report: Report) -> list[str]:
    """Why nothing is known of the branches of a model with MoE layers."""
    exploration = report.exploration
    if not report.registered:
        return []
    if exploration is None:
        return ["the branches of the model's code were not explored, as by a probe of an older release; probe it again"]
    if exploration.status == "failed":
        return [f"the branches of the model's code could not be explored: {exploration.detail or 'no reason is given'}"]
    return [] if exploration.functions else ["no function that leads to a MoE layer was traced, so no branch was seen"]


def _unexplored(report: Report) -> list[str]:
    """Branches of which an outcome that could reach a MoE call was neither seen nor shown impossible."""
    if report.exploration is None or not report.registered:
        return []
    left = [branch for branch in report.exploration.branches if is_open(branch)]
    more = len(left) - SHOWN
    return [*map(_sentence, left[:SHOWN]), *([f"{more} more branches are unexplored"] if more > 0 else [])]


def is_open(branch: Branch) -> bool:
    """Whether this branch keeps a model from being proved safe; a branch seen all ways shows an outcome."""
    return branch.status == "unexplored" or (branch.status == "seen" and not branch.outcomes)


def _sentence(branch: Branch) -> str:
    more = f" and {len(branch.tried) - SHOWN} more" if len(branch.tried) > SHOWN else ""
    tried = f"tried {', '.join(branch.tried[:SHOWN])}{more}" if branch.tried else "no input could be derived from it"
    condition = " ".join(branch.condition.split())
    because = branch.because or "no outcome of it was recorded"
    return f"{branch.file}:{branch.line} ({branch.function}): `{condition}` {because}; {tried}"


def _unlike_the_launch(report: Report) -> list[str]:
    kinds = [assumption.kind for assumption in report.assumptions]
    unknown = uncovered([kind for kind in kinds if kind != SIDE_FILE])
    reasons = [f"no rule covers what the probe did otherwise than the launch: {kind}" for kind in unknown]
    beside = [assumption.detail for assumption in report.assumptions if assumption.kind == SIDE_FILE]
    reasons += [f"vLLM also reads {file} beside config.json, and may build another model by it" for file in beside]
    if report.registered and report.recording in WEAK:
        reasons.append(WEAK[report.recording])
    return reasons


WEAK = {
    "hook": "MoE calls could be recorded by module hooks only, which fused and LoRA paths go round",
    "counted": "MoE calls were resolved by the counter during the probe, which hides the order the model meant",
}
"""Kind of recording that proves nothing -> why."""


def _safe(report: Report) -> Verdict:
    scenarios = sum(scenario.status == "ran" for scenario in report.scenarios)
    if not report.registered:
        said = f"the model registers no MoE layer and ran none in {scenarios} scenarios"
        return Verdict(Word.NO_MOE, (said,), coverage="branches")
    layers = len(report.registered)
    passes = sum(scenario.count for scenario in report.scenarios)
    proved = f"{passes} passes of {scenarios} scenarios ran a prefix of the {layers} registered MoE layers"
    branches = report.exploration.branches if report.exploration else ()
    constant = sum(branch.status == "constant" for branch in branches)
    explored = (
        f"branches that can change MoE calls: {len(branches) - constant} seen all ways, {constant} constant for this "
        "instance, none unexplored"
    )
    return Verdict(Word.UNIFORM, (proved, explored), coverage="branches")


def judge_variant(variant: Variant, base: Word) -> tuple[Word | None, str]:
    """The word for one other serving setting by its own layers and passes, and why it is no safe one.

    Without a word, the setting was not tried. Safe only if the model itself is proved to be, and its code is the
    model's own: a variant's branches are not explored again.
    """
    if variant.status != "ran":
        said = "does not apply" if variant.status == "not_applicable" else "could not be run here"
        return None, f"{said}: {variant.detail}" if variant.detail else said
    passes = _passes(variant.scenarios)
    wrong = _unsafe(variant.registered, passes)
    if wrong:
        return wrong.word, wrong.reasons[0]
    gaps = [*_variant_gaps(variant, passes), *_beneath(variant, base)]
    if gaps:
        return Word.INCONCLUSIVE, gaps[0]
    return (Word.UNIFORM if variant.registered else Word.NO_MOE), ""


def _variant_gaps(variant: Variant, passes: list[Pass]) -> list[str]:
    """What a variant without a wrong pass lacks to be proof of its own layers' order."""
    needed = IN_DEPTH if variant.name == DEPTH else IN_VARIANTS
    failed = [f"scenario {one.name} failed: {one.detail}" for one in variant.scenarios if one.status == "failed"]
    few = _too_few(variant.scenarios) if variant.registered else []
    return [*_not_run(variant.scenarios, needed), *few, *failed, *_gaps(variant.registered, passes)]


def _beneath(variant: Variant, base: Word) -> list[str]:
    """Why the code of a variant is not explored."""
    reasons = [OTHER_CODE[variant.name]] if variant.name in OTHER_CODE else []
    unproved = not base.safe or (variant.registered and base is Word.NO_MOE)
    return [*reasons, *([f"the model itself is {base}"] if unproved else [])]
