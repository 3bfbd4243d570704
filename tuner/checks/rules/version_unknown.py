"""A launch of which nothing says which vLLM serves."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.version is None and not examined.contradiction and not examined.refusal:
        aside = f"; {examined.aside}" if examined.aside else ""
        yield Problem(f"Nothing says which vLLM serves{aside}: give --environment or --vllm-version.")


RULE = Rule("version-unknown", Severity.NOTE, "Nothing says which vLLM will serve.", of_launch=_problems, doubt=True)
