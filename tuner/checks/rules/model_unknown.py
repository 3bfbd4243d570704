"""A model that cannot be identified without a network."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, sentence


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.model is None and not examined.refusal:
        yield Problem(f"{sentence(examined.model_problem)} Its verdict cannot be looked up.")


RULE = Rule("model-unknown", Severity.NOTE, "The model cannot be identified here.", of_launch=_problems, doubt=True)
