"""A flag that is on, by a `true` or by default, and that nothing proves to be safe."""

from collections.abc import Iterator

from rules.decide import FLAG_KEY
from rules.verdict import Word
from tuner.checks.examine import Examined, missing_root
from tuner.checks.rules.flag import is_on_by_default, is_set_to_true, is_speculative
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of, sentence


def _problems(examined: Examined) -> Iterator[Problem]:
    if is_on_by_default(examined):
        yield from _of_default(examined)
    elif is_set_to_true(examined) and not examined.true_refused:
        yield from _of_true(examined)


def _of_default(examined: Examined) -> Iterator[Problem]:
    """A launch without a verdict that decides, or without the cache root of its proof.

    `launch-unproved` and `flag-left-on` say of the others.
    """
    on = f"{FLAG_KEY} is not set, and vLLM {examined.version} turns it on by itself"
    verdict = examined.plan.lookup.verdict if examined.plan else None
    if verdict is None or verdict.word is Word.INCONCLUSIVE:
        yield Problem(f"{on}; nothing proves that it is safe. Set it to false, or probe the model.")
    elif missing := missing_root(examined):
        yield Problem(_without_root(on, examined, missing))


def _of_true(examined: Examined) -> Iterator[Problem]:
    line = line_of(examined, "compilation")
    if examined.plan is None:
        if not is_speculative(examined):  # else `true-beside-draft` says it
            yield Problem(
                f"{FLAG_KEY} is true, and nothing proves that it is safe. Which vLLM serves is not known.", line
            )
    elif examined.plan.decision.warnings:
        yield Problem(sentence(str(examined.plan.decision.warnings[0])), line)
    elif missing := missing_root(examined):
        yield Problem(_without_root(f"{FLAG_KEY} is true", examined, missing), line)


def _without_root(on: str, examined: Examined, missing: str) -> str:
    """That code of another launch may run although the launch is proved."""
    holds_for = examined.plan.decision.holds_for if examined.plan else None
    condition = f" (holds for: {holds_for})" if holds_for else ""
    return f"{on}{condition}, and code that another launch compiled may run: set {missing}."


RULE = Rule(
    "flag-unproved",
    Severity.WARNING,
    f"{FLAG_KEY} is on, by a true or by default, and nothing proves that it is safe.",
    of_launch=_problems,
    unproved=True,
)
