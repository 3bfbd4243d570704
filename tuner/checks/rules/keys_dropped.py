"""Keys that vLLM drops because it keeps one compilation config of several."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.arguments is not None and examined.arguments.dropped:
        dropped = ", ".join(examined.arguments.dropped)
        message = f"Of several compilation configs vLLM keeps only one and drops {dropped}. Write them as one."
        yield Problem(message, line_of(examined, "compilation"))


RULE = Rule(
    "keys-dropped",
    Severity.WARNING,
    "Of several compilation configs vLLM keeps one and drops the keys of the others.",
    of_launch=_problems,
)
