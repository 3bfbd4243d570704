"""A startupProbe that gives up before a measured cold start ends."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    cold_start, allowed = examined.cold_start, examined.launch.startup_seconds
    if cold_start is not None and allowed is not None and allowed < cold_start:
        message = f"The startupProbe waits {allowed:.0f} s, and a cold start was measured to take {cold_start:.0f} s."
        yield Problem(message, examined.launch.startup_line)


RULE = Rule(
    "startup-probe-short",
    Severity.WARNING,
    "The startupProbe gives up before a cold start ends.",
    of_launch=_problems,
    names_basis=False,
)
