"""Eager against compiled: a finding of its own, beside the verdict on the eager model."""

from rules.report import CompiledScenario, Report


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
