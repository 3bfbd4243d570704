"""A time limit for one case."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SECONDS = 30.0
"""A case takes milliseconds; half a minute is a hang, however busy the machine."""


class Hang(BaseException):
    """A case took longer than its limit. No `Exception`: nothing that is tested may swallow it."""


@contextmanager
def limited(seconds: float = SECONDS) -> Iterator[None]:
    """Raise `Hang` in the main thread after so many seconds."""

    def ring(_: int, __: FrameType | None) -> None:
        raise Hang(f"a case took longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
