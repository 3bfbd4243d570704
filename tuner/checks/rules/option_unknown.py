"""An option that this vLLM does not have: misspelt, removed, or not there yet."""

from collections.abc import Iterator

from tuner.arguments.option_faults import FaultKind
from tuner.checks.examine import Examined
from tuner.checks.rules.options import fault_problems
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    return fault_problems(examined, FaultKind.UNKNOWN)


RULE = Rule(
    "option-unknown",
    Severity.ERROR,
    "This vLLM does not know an option: the server does not start.",
    of_launch=_problems,
)
