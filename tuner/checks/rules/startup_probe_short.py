"""A startupProbe that gives up before a measured cold start ends."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity


def _problems(examined: Examined) -> Iterator[Problem]:
    cold_start, pod = examined.cold_start, examined.launch.pod
    probe = pod.probes.get("startupProbe") if pod else None
    if cold_start is None or probe is None or probe.waits is None or probe.waits >= cold_start:
        return
    message = f"The startupProbe waits {probe.waits:.0f} s, and a cold start was measured to take {cold_start:.0f} s."
    yield Problem(f"{message} Raise failureThreshold.", probe.line)


RULE = Rule(
    "startup-probe-short",
    Severity.WARNING,
    "The startupProbe gives up before a cold start ends.",
    of_launch=_problems,
    names_basis=False,
)
