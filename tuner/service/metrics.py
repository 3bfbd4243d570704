"""What the service counts, in the text form of Prometheus."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cache.verdicts.store import VerdictStore

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
"""Upper ends of the classes of answer times."""


class Metrics:
    """The counts of one service since its start."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._decisions = Counter("tuner_decisions", "Decisions by outcome.", ["outcome"], registry=self._registry)
        self._misses = Counter(
            "tuner_misses", "Factors in which the nearest verdict differed.", ["factor"], registry=self._registry
        )
        self._answers = Counter("tuner_answers", "Answers by status.", ["endpoint", "status"], registry=self._registry)
        self._seconds = Histogram(
            "tuner_answer_seconds", "Time to answer.", ["endpoint"], buckets=SECONDS, registry=self._registry
        )
        self._admissions = Counter(
            "tuner_admissions", "Reviews of admission by outcome.", ["outcome"], registry=self._registry
        )
        self._imported = Counter("tuner_imported", "Imported verdicts by result.", ["result"], registry=self._registry)
        self._verdicts = Gauge("tuner_verdicts", "Stored verdicts.", registry=self._registry)
        self._oldest = Gauge(
            "tuner_oldest_verdict_timestamp_seconds", "When the oldest was probed.", registry=self._registry
        )
        self._newest = Gauge(
            "tuner_newest_verdict_timestamp_seconds", "When the newest was probed.", registry=self._registry
        )
        self._probes = Gauge("tuner_probes", "Probes in the queue by state.", ["state"], registry=self._registry)
        self._oldest_probe = Gauge(
            "tuner_oldest_probe_timestamp_seconds",
            "Since when the oldest probe waits or runs; 0: none does.",
            registry=self._registry,
        )
        self._counted_at = -1

    def count_decision(self, outcome: str, missed: Iterable[str]) -> None:
        """Count a decision, and the factors in which the nearest verdict differed."""
        self._decisions.labels(outcome).inc()
        for factor in missed:
            self._misses.labels(factor).inc()

    def count_answer(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer of any kind."""
        self._answers.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def count_admission(self, outcome: str) -> None:
        """Count a review: `passed` for what is not labelled, `patched`, `right` or `skipped`."""
        self._admissions.labels(outcome).inc()

    def count_imported(self, result: str, number: int) -> None:
        """Count verdicts of a bundle that met the same result."""
        self._imported.labels(result).inc(number)

    def show_probes(self, states: Mapping[str, int], oldest: float) -> None:
        """Show the queue: how many probes of each state, and since when the oldest is open (0: none is)."""
        for state, number in states.items():
            self._probes.labels(state).set(number)
        self._oldest_probe.set(oldest)

    def show_certificate(self, expires: Callable[[], datetime]) -> None:
        """Show when the certificate in use expires."""
        name, help_text = "tuner_certificate_expires_timestamp_seconds", "When the certificate expires."
        Gauge(name, help_text, registry=self._registry).set_function(lambda: expires().timestamp())

    def show_followed(self, followed: Callable[[], float]) -> None:
        """Show when a replica last had all changes, in seconds since 1970; 0: never."""
        name, help_text = "tuner_followed_timestamp_seconds", "When the replica last had all changes."
        Gauge(name, help_text, registry=self._registry).set_function(followed)

    def text(self, store: VerdictStore) -> bytes:
        """All of it.

        Raises:
            StoreError: the store cannot be used.
        """
        newest = store.newest_change()
        if newest != self._counted_at:
            self._count_verdicts(store)
            self._counted_at = newest
        return generate_latest(self._registry)

    def _count_verdicts(self, store: VerdictStore) -> None:
        times = [datetime.fromisoformat(entry.probed_at).timestamp() for entry in store.entries()]
        self._verdicts.set(len(times))
        self._oldest.set(min(times, default=0))
        self._newest.set(max(times, default=0))
