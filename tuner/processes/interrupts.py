"""Signals that wait for a moment: Ctrl-C and its like must not fall between a process and the note of its number."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a probe; see `stop_on_signals` in `tuner/cli/output.py`."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off what ends a probe until the block is over. Other threads than the main one hear no signals."""
    heard: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        heard.append(number)

    handled = STOPPING if current_thread() is main_thread() else ()
    kept = {number: signal.signal(number, note) for number in handled if callable(signal.getsignal(number))}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])
