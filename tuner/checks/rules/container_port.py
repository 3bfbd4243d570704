"""A container whose only stated port is not that of vLLM."""

from collections.abc import Iterator

from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import api_port, whole_pod


def _problems(examined: Examined) -> Iterator[Problem]:
    """Several ports, and ports beside another container, may be meant for something else."""
    pod, port = whole_pod(examined), api_port(examined)
    if pod is None or not (pod.alone and pod.launches_once) or port is None or len(pod.ports) != 1:
        return
    (only,) = pod.ports
    if only.number.isdecimal() and only.number != port.text:
        message = (
            f"The container states port {only.number}, and vLLM listens at {port.text}. Set both to the same port."
        )
        yield Problem(message, only.line)


RULE = Rule(
    "container-port",
    Severity.WARNING,
    "The port that the container states is not the one at which vLLM listens.",
    of_launch=_problems,
    names_basis=False,
)
