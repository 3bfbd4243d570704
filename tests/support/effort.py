"""How much work something is, without a clock: tests that assert seconds fail on a busy machine."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def without_hanging(seconds: float = 120) -> Iterator[None]:
    """Stop what does not end. The limit is no measure of speed: what passes needs a small part of it.

    Args:
        seconds: processor time of this process.

    Raises:
        TimeoutError: the block was still running. The traceback shows where.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"this did not end within {seconds:g} seconds of processor time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def calls_of(function: Callable[[], object]) -> int:
    """How many functions a call of this function calls, those written in C among them. It is the same in each run."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count
