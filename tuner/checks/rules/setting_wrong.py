"""A launch whose arms were tried, and which answers wrongly or does not start as it stands."""

from collections.abc import Iterator

from rules.ladder_finding import ArmWord
from rules.reason import sentences
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of, sentence
from tuner.errors import ExitCode
from tuner.launch.plan import Plan
from tuner.launch.text import remedy_words

_LEVELS = {ArmWord.WRONG: Severity.ERROR, ArmWord.NOT_STARTED: Severity.WARNING}
"""What the launch is as it stands -> how bad that is: a launch that does not start answers nobody wrongly."""


def _problems(examined: Examined) -> Iterator[Problem]:
    plan = examined.plan
    if plan is None:
        return
    if plan.ladder.why_not is not None:
        yield Problem(sentence("; ".join(sentences(plan.engine_reasons))), severity=Severity.NOTE)
    elif plan.ladder.finding is not None and plan.ladder.finding.word in _LEVELS:
        message = f"{sentence('; '.join(sentences(plan.engine_reasons)))}{_cure(plan)}"
        yield Problem(message, line_of(examined, "compilation"), _LEVELS[plan.ladder.finding.word])


def _cure(plan: Plan) -> str:
    """What to write; empty where nothing helps, or only what the user decides."""
    return f" Write {', '.join(remedy_words(plan.decision))}." if plan.writes_remedy else ""


RULE = Rule(
    "setting-wrong",
    Severity.ERROR,
    "The arms of this launch were tried, and as it stands it answers wrongly or does not start.",
    of_launch=_problems,
    exit_code=ExitCode.CONTRADICTION,
)
