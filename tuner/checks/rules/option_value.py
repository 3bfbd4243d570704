"""A value that an option of this vLLM does not take, or one that is missing."""

from collections.abc import Iterator

from tuner.arguments.option_faults import FaultKind
from tuner.checks.examine import Examined
from tuner.checks.rules.options import fault_problems
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    return fault_problems(examined, FaultKind.VALUE)


RULE = Rule(
    "option-value",
    Severity.ERROR,
    "An option has a value that this vLLM does not take: the server does not start.",
    of_launch=_problems,
)
