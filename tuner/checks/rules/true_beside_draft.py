"""A `true` beside speculative decoding."""

from collections.abc import Iterator

from rules.decide import FLAG_KEY
from tuner.checks.examine import Examined
from tuner.checks.rules.flag import is_set_to_true, is_speculative
from tuner.checks.rules.rule import Problem, Rule, Severity, line_of
from tuner.errors import ExitCode

_MEANING = f"{FLAG_KEY} is true beside speculative decoding: that switches off vLLM's own guard."


def _problems(examined: Examined) -> Iterator[Problem]:
    if not is_speculative(examined) or not is_set_to_true(examined):
        return
    line = line_of(examined, "compilation")
    if examined.plan is None:
        yield Problem(f"{_MEANING} Which vLLM serves is not known.", line, Severity.WARNING)
    elif examined.true_refused:
        yield Problem(_MEANING, line)


RULE = Rule("true-beside-draft", Severity.ERROR, _MEANING, of_launch=_problems, exit_code=ExitCode.CONTRADICTION)
