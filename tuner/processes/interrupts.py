"""Delays signals such as Ctrl-C while a process starts, until its process ID is known."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that end a probe; see `stop_on_signals` in `tuner/cli/output.py`."""


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay the signals that end a probe until the block is over. Only the main thread gets signals."""
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    handled = STOPPING if current_thread() is main_thread() else ()
    handlers = {number: signal.signal(number, note) for number in handled if callable(signal.getsignal(number))}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])
