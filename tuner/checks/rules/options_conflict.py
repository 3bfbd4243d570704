"""Options of one launch that contradict each other."""

from tuner.checks.rules.options import conflict_problems
from tuner.checks.rules.rule import Rule, Severity

RULE = Rule(
    "options-conflict",
    Severity.WARNING,
    "Options of one launch contradict each other.",
    of_launch=conflict_problems,
)
