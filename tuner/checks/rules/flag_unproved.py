"""A `true` that nothing proves."""

from collections.abc import Iterator

from rules.decide import FLAG_KEY
from tuner.checks.examine import Examined, missing_root
from tuner.checks.rules.flag import is_set_to_true, is_speculative
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of, sentence

_MEANING = f"{FLAG_KEY} is true, and nothing proves that it is safe."


def _problems(examined: Examined) -> Iterator[Problem]:
    if not is_set_to_true(examined) or examined.true_refused:
        return
    line = line_of(examined, "compilation")
    if examined.plan is None:
        if not is_speculative(examined):  # else `true-beside-draft` says it
            yield Problem(f"{_MEANING} Which vLLM serves is not known.", line)
    elif examined.plan.decision.warnings:
        yield Problem(sentence(str(examined.plan.decision.warnings[0])), line)
    elif missing := missing_root(examined):
        holds_for = f"holds for: {examined.plan.decision.holds_for}" if examined.plan.decision.holds_for else ""
        message = f"{FLAG_KEY} is true ({holds_for}), and code that another launch compiled may run: set {missing}."
        yield Problem(message, line)


RULE = Rule("flag-unproved", Severity.WARNING, _MEANING, of_launch=_problems)
