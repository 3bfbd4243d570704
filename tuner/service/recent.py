"""Answers that were given a moment ago, for clients that ask the same: a fleet starts many pods of one launch."""

import time
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from msgspec import Struct, field

MOST = 1024
"""Answers that are remembered; the one that was asked for longest ago is forgotten first."""
LIFE_S = 5.0
"""Seconds for which an answer is given again: so long may a change in the folder of the models go unseen."""


class RecentAnswer(Struct, frozen=True):
    """An answer to a request for a decision.

    Attributes:
        body: its bytes.
        outcome: as of `tuner.service.decisions.Decided`.
        missed: likewise.
    """

    body: bytes
    outcome: str
    missed: tuple[str, ...]


class _Slot(Struct):
    """The place of one answer. Whoever makes it holds the lock, so that all who ask at once share one answer.

    Attributes:
        lock: held while the answer is made.
        answer: None: it was not made yet.
        at: when it was asked for, in seconds.
        change: the change of the store at which it was made.
    """

    lock: Lock = field(default_factory=Lock)
    answer: RecentAnswer | None = None
    at: float = 0.0
    change: int = 0


class RecentAnswers:
    """Answers by the digest of their request. Each is given again until the store changes, or it is too old.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._slots: OrderedDict[bytes, _Slot] = OrderedDict()

    def answer(self, request: bytes, change: int, make: Callable[[], RecentAnswer]) -> RecentAnswer:
        """The answer to a request.

        Args:
            request: its digest.
            change: the number of the latest change of the store, read before.
            make: makes the answer anew; what it raises is raised here, and is not remembered.
        """
        slot = self._slot(request)
        with slot.lock:
            now = self._clock()
            if slot.answer is None or slot.change != change or now - slot.at >= LIFE_S:
                slot.answer = make()
                slot.at, slot.change = now, change
            return slot.answer

    def _slot(self, request: bytes) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(request, _Slot())
            self._slots.move_to_end(request)
            if len(self._slots) > MOST:
                self._slots.popitem(last=False)
            return slot
