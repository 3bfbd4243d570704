"""An image whose tag says another vLLM than the user does."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.contradiction:
        message = f"{examined.contradiction} `tuner apply` leaves this launch alone."
        yield Problem(message, examined.launch.image_line)


RULE = Rule(
    "environment-contradicts-image",
    Severity.NOTE,
    "The image's tag says another vLLM than the environment or version that was given.",
    of_launch=_problems,
    doubt=True,
    names_basis=False,
)
