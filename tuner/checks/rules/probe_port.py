"""A probe that asks another port than that of vLLM."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import api_port
from tuner.manifests.container_text import HEALTH_CHECK
from tuner.manifests.launch import Pod, Probe

_ENDS = {
    "startupProbe": "the container is ended again and again",
    "livenessProbe": "the container is ended again and again",
    "readinessProbe": "the pod is never ready",
    HEALTH_CHECK: "the container is never healthy",
}
"""What comes of a probe that never succeeds."""


def _problems(examined: Examined) -> Iterator[Problem]:
    pod, port = examined.launch.pod, api_port(examined)
    if pod is None or not (pod.alone and pod.launches_once) or port is None:
        return
    for probe in pod.probes.values():
        number = _number(probe, pod)
        if number is not None and number != port.text:
            named = "" if number == probe.port else f" ({number})"
            asks = f"The {probe.name} asks port {probe.port}{named}, and vLLM listens at {port.text}"
            yield Problem(f"{asks}: {_ENDS[probe.name]}.", probe.port_line)


def _number(probe: Probe, pod: Pod) -> str | None:
    """The number of the port that a probe asks; None where it is not known."""
    if probe.port.isdecimal():
        return probe.port
    return next((port.number for port in pod.ports if port.name == probe.port and port.number.isdecimal()), None)


RULE = Rule(
    "probe-port",
    Severity.ERROR,
    "A probe asks another port than the one at which vLLM listens.",
    of_launch=_problems,
    names_basis=False,
)
