"""A startupProbe, or a health check of Docker, that gives up before a measured cold start ends."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.manifests.container_text import HEALTH_CHECK

_PROBES = {
    "startupProbe": ("The startupProbe waits {} s", "Raise failureThreshold."),
    HEALTH_CHECK: ("The health check calls the container unhealthy after {} s", "Raise its start period."),
}
"""What each probe does, and what to do against it."""


def _problems(examined: Examined) -> Iterator[Problem]:
    cold_start, pod = examined.cold_start, examined.launch.pod
    if cold_start is None or pod is None:
        return
    for name, (what, remedy) in _PROBES.items():
        probe = pod.probes.get(name)
        if probe is None or probe.waits is None or probe.waits >= cold_start:
            continue
        waits = what.format(round(probe.waits))
        message = f"{waits}, and a cold start was measured to take {cold_start:.0f} s. {remedy}"
        yield Problem(message, probe.line)


RULE = Rule(
    "startup-probe-short",
    Severity.WARNING,
    "The startupProbe or health check gives up before a cold start ends.",
    of_launch=_problems,
    names_basis=False,
)
