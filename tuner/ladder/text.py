"""A ladder as text for people. Pure."""

from rules.ladder_finding import LadderFinding
from rules.reason import Reason
from rules.report import ArmRun, Ladder
from tuner.launch.plan import Plan
from tuner.launch.text import command_line
from tuner.text import columns, line, lines

HEAD = ("arm", "answers", "nats", "limit", "start s", "step ms", "MiB")


def ladder_text(plan: Plan, ladder: Ladder, finding: LadderFinding) -> str:
    """What `tuner tune` prints: what the launch is, every arm, and the launch to write."""
    model, environment = plan.subject.model, plan.subject.environment
    device = ladder.gpu or ladder.platform
    faults = [f"{name}: {finding.arm_reasons[name]}" for name in finding.arms if _is_at_fault(name, finding)]
    return "\n".join(
        [
            line("model", f"{model.name} ({model.architecture})"),
            line("serving", f"vLLM {environment.vllm}, torch {environment.torch}, {device}"),
            lines("launch", plan.decision.engine_reasons or finding.reasons),
            *([lines("not right", faults)] if faults else []),
            *([lines("changed", differences)] if (differences := assumptions(ladder)) else []),
            line("write", command_line(["vllm", "serve", *plan.launch.args], plan.launch.env)),
            "",
            arms_table(ladder, finding),
        ]
    )


def _is_at_fault(name: str, finding: LadderFinding) -> bool:
    """Whether an arm itself is not right, and not only because the one below it is not."""
    return finding.arms[name] != "right" and finding.arm_reasons[name].code not in {"as_wrong_as", "as_unknown_as"}


def assumptions(ladder: Ladder) -> list[str]:
    """What was otherwise in the arms than in the launch, each once."""
    return list(dict.fromkeys(text for arm in ladder.arms for text in arm.changed))


def arms_table(ladder: Ladder, finding: LadderFinding) -> str:
    """One line for each arm, in the order in which they were tried."""
    return columns([HEAD, *(_row(arm, finding) for arm in ladder.arms)])


def _row(arm: ArmRun, finding: LadderFinding) -> tuple[str, ...]:
    why = finding.arm_reasons.get(arm.name)
    word = finding.arms[arm.name].replace("_", " ") if arm.name in finding.arms else ""
    return (
        arm.name,
        word,
        _number(_counting(arm, why), 4),
        _number(_threshold(why), 2),
        _number(arm.seconds.get("ready"), 1),
        _number(_thousandfold(arm.seconds.get("step")), 2),
        _number(arm.cache / 2**20 if arm.cache else None, 0),
    )


def _counting(arm: ArmRun, why: Reason | None) -> float | None:
    """The distance that is held against the threshold."""
    if arm.distance is None:
        return None
    by_mean = why is not None and why.fields.get("counts") == "mean"
    return arm.distance.mean if by_mean else arm.distance.worst


def _threshold(why: Reason | None) -> float | None:
    while why is not None:
        threshold = why.fields.get("threshold")
        if isinstance(threshold, float | int):
            return float(threshold)
        why = why.because
    return None


def _thousandfold(value: float | None) -> float | None:
    return None if value is None else value * 1000


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
