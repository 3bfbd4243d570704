"""A model that cannot be identified without a network."""

from collections.abc import Iterator

from tuner.checks.examine import NO_MODEL, NOT_WRITTEN, Examined
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.model is None and not examined.refusal:
        advice = "" if examined.model_problem.endswith((NOT_WRITTEN, NO_MODEL)) else " Give --configs DIR."
        yield Problem(f"The model is not known, so its verdict cannot be looked up: {examined.model_problem}.{advice}")


RULE = Rule("model-unknown", Severity.NOTE, "The model cannot be identified here.", of_launch=_problems, doubt=True)
