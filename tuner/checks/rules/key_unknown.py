"""A key of the compilation config that this vLLM does not know."""

from collections.abc import Iterator

from rules.compilation_keys import unknown_keys
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.arguments is None or examined.version is None:
        return
    keys = [key for key in examined.arguments.compilation_config if key not in examined.arguments.dropped]
    for key, history in unknown_keys(keys, examined.version).items():
        aside = f" ({history})" if history else ""
        message = f"vLLM {examined.version} does not know {key}{aside}, and does not start with it."
        yield Problem(message, line_of(examined, "compilation"))


RULE = Rule(
    "key-unknown",
    Severity.ERROR,
    "This vLLM does not know a key of the compilation config: the server does not start.",
    of_launch=_problems,
)
