"""A flag that is on because the launch does not set it, against an unsafe verdict."""

from collections.abc import Iterator

from rules.decide import FLAG_KEY
from rules.releases import FlagStatus
from tuner.checks.examine import Examined
from tuner.checks.rules.flag import is_excepted, is_left_out, is_on_by_default, is_speculative
from tuner.checks.rules.rule import Problem, Rule, Severity, sentence
from tuner.errors import ExitCode


def _problems(examined: Examined) -> Iterator[Problem]:
    plan = examined.plan
    if plan is None or plan.flag.status is not FlagStatus.SETTABLE or plan.lookup.verdict is None:
        return
    if not examined.true_refused or not is_left_out(examined):
        return
    why = sentence(str(plan.decision.reasons[0]))
    if is_on_by_default(examined):
        yield Problem(f"{why} vLLM {examined.version} turns {FLAG_KEY} on where the launch does not set it.")
    elif examined.model is not None and is_excepted(examined) and not is_speculative(examined):
        message = f"{why} This vLLM turns {FLAG_KEY} off for {examined.model.architecture}, and for no other."
        yield Problem(message, severity=Severity.NOTE)


RULE = Rule(
    "flag-left-on",
    Severity.ERROR,
    f"{FLAG_KEY} is not set, this vLLM turns it on by itself, and the verdict is unsafe.",
    of_launch=_problems,
    exit_code=ExitCode.CONTRADICTION,
)
