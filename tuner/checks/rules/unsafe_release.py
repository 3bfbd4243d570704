"""A release of vLLM in which nothing makes the launch safe."""

from collections.abc import Iterator

from rules.decide import Refusal
from rules.reason import sentences
from rules.releases import FlagStatus
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.errors import ExitCode


def _problems(examined: Examined) -> Iterator[Problem]:
    plan = examined.plan
    if plan is None or plan.flag.status is not FlagStatus.ALWAYS_ON:
        return
    if plan.decision.refusal is not Refusal.NONE:
        yield Problem("; ".join(sentences(plan.decision.reasons)) + ".")


RULE = Rule(
    "unsafe-release",
    Severity.ERROR,
    "The verdict is unsafe, and no configuration of this vLLM release helps.",
    of_launch=_problems,
    exit_code=ExitCode.REFUSED,
)
