"""Many pods at the same time, as in a rollout: how many are stored without the arguments that the service writes."""

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from tools.acceptance.cluster import Cluster
from tools.acceptance.pods import OFF, PODS, another_launch, labelled
from tools.acceptance.progress import require, tell
from tools.acceptance.promises import Trial

AT_ONCE = 32
"""Connections, each of which creates one pod after another."""
PODS_OF_ROLLOUT = 200
FIRST = 10_000
"""Number of the first launch; smaller numbers were used by the measurement of latencies."""


@dataclass(frozen=True)
class Rollout:
    """Pods that were created at the same time: of what kind, how many, and how many of them the service missed."""

    kind: str
    pods: int
    missed: int


def measure_rollouts(trial: Trial) -> list[Rollout]:
    """Create many pods of one template, and many of as many templates."""
    same = labelled(PODS["an unsafe model"])
    rollouts = {
        "of one template": [same] * PODS_OF_ROLLOUT,
        "of as many templates": [another_launch(FIRST + number) for number in range(PODS_OF_ROLLOUT)],
    }
    return [_create_rollout(trial, kind, pods) for kind, pods in rollouts.items()]


def _create_rollout(trial: Trial, kind: str, pods: list[dict[str, Any]]) -> Rollout:
    """Create pods over many connections, and count those that the service missed."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    for pod in pods:
        waiting.put(pod)
    stored_pods: list[Mapping[str, Any]] = []
    threads = [
        threading.Thread(target=_create_all, args=(trial.cluster.another(), waiting, stored_pods))
        for _ in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(len(stored_pods) == len(pods), f"{kind}: every pod is stored, not {len(stored_pods)} of {len(pods)}")
    missed = sum(OFF not in pod["spec"]["containers"][0]["args"] for pod in stored_pods)
    tell(f"{len(pods)} pods {kind}, {AT_ONCE} at a time: {missed} without an answer of the service")
    trial.cluster.remove_pods()
    return Rollout(kind, len(pods), missed)


def _create_all(
    cluster: Cluster, waiting: "queue.SimpleQueue[dict[str, Any]]", stored_pods: list[Mapping[str, Any]]
) -> None:
    """Create waiting pods over one connection, until none is left."""
    while True:
        try:
            pod = waiting.get_nowait()
        except queue.Empty:
            return
        answer = cluster.create(pod)
        if answer.status == HTTPStatus.CREATED:
            stored_pods.append(answer.document)
