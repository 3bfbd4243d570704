"""How long a command waits for a hub, whatever the hub does: resolving its name, connecting, headers, bytes.

The libraries behind bound the wait for the next byte, not for the whole answer, and looking a name up cannot be
interrupted. So the question is asked in a thread of its own, and is left there when the time is over.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

QUESTION_S = 20.0
"""Seconds that one question may take where nothing else is said."""
SERVE_S = 2.0
"""Seconds that all questions before a server's start may take: with the start of Python it comes within 3."""
NOTICE_S = 2.0
"""Seconds after which a longer wait is told of."""

_Answer = TypeVar("_Answer")


@dataclass
class _Budget:
    """Seconds that are left for several questions together."""

    left: float


_budget: ContextVar[_Budget | None] = ContextVar("_budget", default=None)
_notice: ContextVar[Callable[[str], None] | None] = ContextVar("_notice", default=None)


class NoAnswerInTimeError(Exception):
    """A question took too long; `seconds` is how long was waited for it, and the message the end of a sentence."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no whole answer within {seconds:.1f} s" if seconds > 0 else "no time is left to ask it")
        self.seconds = seconds


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Bound the wait for all questions inside, together."""
    token = _budget.set(_Budget(seconds))
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def telling(notice: Callable[[str], None]) -> Iterator[None]:
    """Tell of long waits inside: `notice` gets a sentence."""
    token = _notice.set(notice)
    try:
        yield
    finally:
        _notice.reset(token)


def answer_of(question: Callable[[], _Answer], whom: str) -> _Answer:
    """What a question to the network returns or raises.

    Args:
        question: what to call, in another thread.
        whom: who is asked, for the notice.

    Raises:
        NoAnswerInTimeError: it took too long; it goes on by itself, and what it returns is lost.
    """
    from threading import Event, Thread  # noqa: PLC0415  a look-up that asks nobody does without

    answers: list[_Answer] = []
    errors: list[BaseException] = []
    done = Event()

    def ask() -> None:
        try:
            answers.append(question())
        except BaseException as error:  # noqa: BLE001  raised again where the answer is waited for
            errors.append(error)
        finally:
            done.set()

    budget = _budget.get()
    limit = QUESTION_S if budget is None else min(QUESTION_S, budget.left)
    begin = time.monotonic()
    if limit > 0:
        Thread(target=ask, daemon=True).start()
        _wait(done.wait, limit, whom)
    if budget is not None:
        budget.left -= time.monotonic() - begin
    if not done.is_set():
        raise NoAnswerInTimeError(max(limit, 0.0))
    if errors:
        raise errors[0]
    return answers[0]


def _wait(wait: Callable[[float], bool], limit: float, whom: str) -> None:
    """Wait, and tell of it if more than as long again is still to come."""
    notice = _notice.get()
    if notice is None or limit < 2 * NOTICE_S:
        wait(limit)
    elif not wait(NOTICE_S):
        notice(f"waiting for an answer of {whom} (at most {limit:.0f} s)")
        wait(limit - NOTICE_S)
