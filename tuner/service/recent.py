"""Answers that were given a moment ago, for clients that ask the same: a fleet starts many pods of one launch."""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from queue import Queue
from threading import Lock, Thread

from msgspec import Struct, field

MOST = 1024
"""Answers that are remembered; the one that was asked for longest ago is forgotten first."""
LIFE_S = 5.0
"""Seconds after which an answer is made anew in the background; who asks meanwhile gets the one before. Else all
answers of a busy service would age together, and every request would wait for them once in this time."""
MOST_LIFE_S = 2 * LIFE_S
"""Seconds for which an answer is given again at all: so long may a change in the folder of the models go unseen."""

PAUSE, MAX_PAUSE_S = 4, 0.2
"""The pause behind an answer that was made in the background, as a multiple of the time that it took, and in seconds at
most: requests that need no new answer share the processor with it."""


class NotAtHandError(Exception):
    """An answer would take time, and was asked for without any."""


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
        is_renewed: it is being made anew in the background.
    """

    lock: Lock = field(default_factory=Lock)
    answer: RecentAnswer | None = None
    at: float = 0.0
    change: int = 0
    is_renewed: bool = False


class RecentAnswers:
    """Answers by the digest of their request. Each is given again until the store changes, or it is too old.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._slots: OrderedDict[bytes, _Slot] = OrderedDict()
        self._due: Queue[tuple[_Slot, int, Callable[[], RecentAnswer]]] = Queue()
        Thread(target=self._renew_all, name="recent", daemon=True).start()

    def answer(
        self, request: bytes, change: int, make: Callable[[], RecentAnswer], *, may_wait: bool = True
    ) -> RecentAnswer:
        """The answer to a request.

        Args:
            request: its digest.
            change: the number of the latest change of the store, read before.
            make: makes the answer anew; what it raises is raised here, and is not remembered.
            may_wait: else an answer that is not at hand is not made.

        Raises:
            NotAtHandError: it is not at hand, and may not be made.
        """
        slot = self._slot(request)
        if not slot.lock.acquire(blocking=may_wait):
            raise NotAtHandError
        try:
            now = self._clock()
            age = now - slot.at
            if slot.answer is None or slot.change != change or age >= MOST_LIFE_S:
                if not may_wait:
                    raise NotAtHandError
                slot.answer = make()
                slot.at, slot.change = now, change
            elif age >= LIFE_S and not slot.is_renewed:
                slot.is_renewed = True
                self._due.put((slot, change, make))
            return slot.answer
        finally:
            slot.lock.release()

    def _renew_all(self) -> None:
        """Make answers anew, one after the other, as long as this process runs."""
        while True:
            slot, change, make = self._due.get()
            began = time.monotonic()
            self._renew(slot, change, make)
            self._due.task_done()
            time.sleep(min(PAUSE * (time.monotonic() - began), MAX_PAUSE_S))

    def _renew(self, slot: _Slot, change: int, make: Callable[[], RecentAnswer]) -> None:
        """Make an answer anew. Where that fails there is no answer, and the next who asks hears why."""
        now, answer = self._clock(), None
        with suppress(Exception):
            answer = make()
        with slot.lock:
            slot.answer, slot.at, slot.change, slot.is_renewed = answer, now, change, False

    def _slot(self, request: bytes) -> _Slot:
        with self._lock:
            slot = self._slots.setdefault(request, _Slot())
            self._slots.move_to_end(request)
            if len(self._slots) > MOST:
                self._slots.popitem(last=False)
            return slot
