"""A livenessProbe that ends the container before a measured cold start ends, where no startupProbe holds it back."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import whole_pod


def _problems(examined: Examined) -> Iterator[Problem]:
    cold_start, pod = examined.cold_start, whole_pod(examined)
    if cold_start is None or pod is None or "startupProbe" in pod.probes:
        return
    probe = pod.probes.get("livenessProbe")
    if probe is None or probe.waits is None or probe.waits >= cold_start:
        return
    ends = f"Without a startupProbe the livenessProbe ends the container after {probe.waits:.0f} s"
    message = f"{ends}, and a cold start was measured to take {cold_start:.0f} s. Add a startupProbe."
    yield Problem(message, probe.line)


RULE = Rule(
    "liveness-probe-short",
    Severity.WARNING,
    "The livenessProbe ends the container before a cold start ends.",
    of_launch=_problems,
    names_basis=False,
)
