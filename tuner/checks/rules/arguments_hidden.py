"""A launch whose arguments are not all written in its file."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.refusal:
        if any(word.unknown for word in examined.launch.words):  # else `arguments-refused` says it
            yield Problem(f"The arguments cannot be read here: {examined.refusal}")
    elif examined.hidden:
        yield Problem(f"The value of {examined.hidden} is not written here, so it was not checked.")


RULE = Rule(
    "arguments-hidden", Severity.NOTE, "Some arguments are not written in this file.", of_launch=_problems, doubt=True
)
