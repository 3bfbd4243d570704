"""How long the creation of a pod takes, with the webhook and without. The kinds of pods come by turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tools.acceptance import other_webhook
from tools.acceptance.pods import PODS, another_launch, labelled
from tools.acceptance.progress import require, tell
from tools.acceptance.promises import Trial, other_pod, other_webhook_in_place

BATCH = 25
"""Pods of each kind between two removals, so that the API server has few of them at any time."""
WARM = 10
"""Pods of each kind that are not counted."""


@dataclass(frozen=True)
class Latency:
    """Seconds that creations of one kind took."""

    kind: str
    seconds: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median, in milliseconds."""
        return 1000 * share_of(self.seconds, 50)

    @property
    def p99_ms(self) -> float:
        """The 99th percentile, in milliseconds."""
        return 1000 * share_of(self.seconds, 99)


def share_of(values: Sequence[float], percent: float) -> float:
    """The least value that so many percent of the values do not exceed (nearest rank).

    Raises:
        ValueError: there is no value.
    """
    if not values:
        raise ValueError("of no values there is no share")
    rank = -(-len(values) * percent // 100)
    return sorted(values)[max(int(rank), 1) - 1]


def kinds() -> dict[str, Callable[[int], dict[str, Any]]]:
    """Kind of pod -> the function that makes the pod of a turn."""
    unsafe = PODS["an unsafe model"]
    return {
        "no webhook is asked": lambda _: unsafe,
        "a webhook that changes nothing": lambda _: other_pod(other_webhook.NOTHING),
        "the service, the same launch again": lambda _: labelled(unsafe),
        "the service, another launch each time": another_launch,
    }


def measure(trial: Trial, number: int) -> list[Latency]:
    """Create so many pods of each kind, by turns."""
    makers = kinds()
    seconds: dict[str, list[float]] = {kind: [] for kind in makers}
    with other_webhook_in_place(trial, "z-last"):
        for turn in range(-WARM, number):
            if turn % BATCH == 0:
                trial.cluster.remove_pods()
                tell(f"measuring creations of pods: {max(turn, 0)} of {number}")
            for kind, make in makers.items():
                duration = _seconds(trial, make(turn))
                if turn >= 0:
                    seconds[kind].append(duration)
    trial.cluster.remove_pods()
    return [Latency(kind, tuple(durations)) for kind, durations in seconds.items()]


def _seconds(trial: Trial, pod: Mapping[str, Any]) -> float:
    begin = time.perf_counter()
    answer = trial.cluster.create(pod)
    duration = time.perf_counter() - begin
    require(answer.status == HTTPStatus.CREATED, f"the pod is taken, not {answer}")
    return duration
