"""A `true` that contradicts the stored verdict."""

from collections.abc import Iterator

from rules.decide import FLAG_KEY
from rules.reason import sentences
from tuner.checks.examine import Examined
from tuner.checks.rules.flag import is_set_to_true, is_speculative
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of, sentence
from tuner.errors import ExitCode


def _problems(examined: Examined) -> Iterator[Problem]:
    plan = examined.plan
    if plan is None or not examined.true_refused or not is_set_to_true(examined):
        return
    line = line_of(examined, "compilation")
    verdict = plan.lookup.verdict
    if verdict is not None and verdict.word.unsafe:
        reason = "; ".join(sentences(verdict.reasons[:1]))
        yield Problem(f"{FLAG_KEY} is true, and the verdict is {verdict.word}: {reason}.", line)
    elif not is_speculative(examined):  # else `true-beside-draft` says it
        yield Problem(sentence(str(plan.decision.warnings[0])), line)


RULE = Rule(
    "flag-contradicts-verdict",
    Severity.ERROR,
    f"{FLAG_KEY} is true, and the stored verdict is unsafe.",
    of_launch=_problems,
    exit_code=ExitCode.CONTRADICTION,
)
