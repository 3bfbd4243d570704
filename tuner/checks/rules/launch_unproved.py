"""A launch that leaves the flag to vLLM and has no proof of its own."""

from collections.abc import Iterator

from rules.decide import FLAG_KEY
from rules.verdict import Word
from tuner.checks.examine import Examined
from tuner.checks.rules.flag import is_ineffective, is_left_out, is_on_by_default
from tuner.checks.rules.rule import Problem, Rule, Severity, sentence

_NOTHING_TO_PROVE = {Word.NO_MOE, Word.INCONCLUSIVE}
"""`no-verdict` says of an inconclusive one."""


def _problems(examined: Examined) -> Iterator[Problem]:
    plan = examined.plan
    if plan is None or examined.model is None or is_ineffective(examined) or not is_left_out(examined):
        return
    verdict = plan.lookup.verdict
    if verdict is None or verdict.word.unsafe or verdict.word in _NOTHING_TO_PROVE:
        return
    if plan.decision.setting is False:
        severity = Severity.WARNING if is_on_by_default(examined) else Severity.NOTE
        yield Problem(f"{FLAG_KEY} is not set to false. {sentence(str(plan.decision.reasons[0]))}", severity=severity)


RULE = Rule(
    "launch-unproved",
    Severity.WARNING,
    f"This launch is not proved, and does not set {FLAG_KEY} to false.",
    of_launch=_problems,
    unproved=True,
)
