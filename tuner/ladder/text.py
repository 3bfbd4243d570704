"""A ladder as text for people. Pure."""

from collections.abc import Sequence

from rules.ladder import Limit, limits
from rules.ladder_finding import LadderFinding
from rules.reason import sentences
from rules.report import ArmRun, Ladder, Texts
from tuner.launch.plan import Plan
from tuner.launch.text import command_line
from tuner.text import columns, folded, folded_command, line, lines, side_by_side, visible

LONGEST_NAME, ENDING = 28, 9
"""Characters of an arm's name in the table, and those of its end if it is longer."""
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
            *_rows("launch", sentences(plan.decision.engine_reasons or finding.reasons)),
            *_rows("not right", faults),
            *_rows("less sharp", _blunt(finding)),
            *_rows("changed", assumptions(ladder)),
            folded_command(command_line(["vllm", "serve", *plan.launch.args], plan.launch.env), "write"),
            "",
            arms_table(ladder, finding),
            *_texts(ladder, finding),
        ]
    )


def _texts(ladder: Ladder, finding: LadderFinding) -> list[str]:
    """What each arm at fault says beside the arm that it is compared with."""
    rows: list[str] = []
    for arm in ladder.arms:
        if arm.texts is not None and _is_at_fault(arm.name, finding):
            rows += ["", *texts_rows(arm.name, arm.against, arm.texts)]
    return rows


def texts_rows(name: str, against: str, texts: Texts) -> list[str]:
    """Two texts side by side, below what they are."""
    what = "the likeliest answers" + (", as numbers of tokens (no tokenizer here)" if texts.are_numbers else "")
    head = folded(visible(f"{texts.prompt}: {what}"))
    return [head, *side_by_side([f"[{against}]", texts.below], [f"[{name}]", texts.own])]


def _rows(label: str, texts: Sequence[str]) -> list[str]:
    """Texts under one label; nothing if there are no texts."""
    return [lines(label, texts)] if texts else []


def _blunt(finding: LadderFinding) -> list[str]:
    """Why compiling was judged less sharply than usual, each once."""
    reasons = [why for name, why in finding.arm_reasons.items() if finding.arms[name] == "right"]
    return list(dict.fromkeys(str(why) for why in reasons if why.code == "not_in_float32"))


def _is_at_fault(name: str, finding: LadderFinding) -> bool:
    """Whether an arm itself is not right, and not only because the one below it is not."""
    return finding.arms[name] != "right" and finding.arm_reasons[name].code not in {"as_wrong_as", "as_unknown_as"}


def assumptions(ladder: Ladder) -> list[str]:
    """What was otherwise in the arms than in the launch, each once."""
    return list(dict.fromkeys(text for arm in ladder.arms for text in arm.changed))


def arms_table(ladder: Ladder, finding: LadderFinding) -> str:
    """One line for each arm, in the order in which they were tried."""
    limit_of = limits(ladder)
    return columns([HEAD, *(_row(arm, finding, limit_of.get(arm.name)) for arm in ladder.arms)])


def _row(arm: ArmRun, finding: LadderFinding, limit: Limit | None) -> tuple[str, ...]:
    word = finding.arms[arm.name].replace("_", " ") if arm.name in finding.arms else ""
    return (
        _short(arm.name),
        word,
        _number(limit.counting(arm.distance) if limit and arm.distance else None, 4),
        _number(limit.nats if limit else None, 2),
        _number(arm.seconds.get("ready"), 1),
        _number(_thousandfold(arm.seconds.get("step")), 2),
        _number(arm.cache / 2**20 if arm.cache else None, 0),
    )


def _short(name: str) -> str:
    """The name of an arm, without its middle if it is long: names differ at both ends."""
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - ENDING - 1]}…{name[-ENDING:]}"


def _thousandfold(value: float | None) -> float | None:
    return None if value is None else value * 1000


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
