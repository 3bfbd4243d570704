"""A comment that suppresses nothing. The check itself makes the finding, behind all others."""

from tuner.checks.rules.rule import Rule, Severity

RULE = Rule(
    "suppression-unused",
    Severity.NOTE,
    "A comment suppresses a rule that has no finding there.",
)
