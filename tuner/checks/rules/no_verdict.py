"""A launch whose model has no verdict that decides."""

from collections.abc import Iterator

from rules.reason import sentences
from rules.verdict import Word
from tuner.checks.examine import Examined
from tuner.checks.rules.flag import is_ineffective
from tuner.checks.rules.rule import Problem, Rule, Severity, sentence


def _problems(examined: Examined) -> Iterator[Problem]:
    if examined.model is None or examined.plan is None or is_ineffective(examined):
        return
    verdict = examined.plan.lookup.verdict
    if verdict is None:
        miss = sentence("; ".join(sentences(examined.plan.lookup.miss)))
        yield Problem(f"{miss} Run `tuner probe` in the serving environment, or import a verdict.")
    elif verdict.word is Word.INCONCLUSIVE:
        yield Problem(f"The verdict is {verdict.word}: {'; '.join(sentences(verdict.reasons[:1]))}.")


RULE = Rule(
    "no-verdict", Severity.NOTE, "No verdict is stored, or it is inconclusive.", of_launch=_problems, doubt=True
)
