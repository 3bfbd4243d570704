"""Bounds the time that a command waits for a hub: for its name, the connection, the headers and all bytes.

The libraries bound only the wait for the next byte, and nothing can interrupt the look-up of a name. So another thread
asks the question, and is abandoned when the time is over.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from msgspec import Struct

QUESTION_S = 20.0
"""Seconds for one question, unless a budget gives less."""
SERVE_S = 2.0
"""Seconds for all questions before a server's start; together with the start of Python these are at most 3."""
NOTICE_S = 2.0
"""Seconds after which the user hears of a longer wait."""

_Answer = TypeVar("_Answer")


class _Budget(Struct):
    """The remaining seconds for several questions together."""

    remaining: float


_budget: ContextVar[_Budget | None] = ContextVar("_budget", default=None)
_notice: ContextVar[Callable[[str], None] | None] = ContextVar("_notice", default=None)


class NoAnswerInTimeError(Exception):
    """A question took too long: `seconds` is the time that was waited; the message is the end of a sentence."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no whole answer within {seconds:.1f} s" if seconds > 0 else "no time is left to ask it")
        self.seconds = seconds


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Bound the wait for all questions inside the block together."""
    token = _budget.set(_Budget(seconds))
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def telling(notice: Callable[[str], None]) -> Iterator[None]:
    """Report long waits inside the block: `notice` gets a sentence."""
    token = _notice.set(notice)
    try:
        yield
    finally:
        _notice.reset(token)


def answer_of(question: Callable[[], _Answer], whom: str) -> _Answer:
    """The answer to a question to the network; raises what the question raises.

    Args:
        question: the function that another thread calls.
        whom: the name of the host, for the notice.

    Raises:
        NoAnswerInTimeError: the question took too long; its thread goes on, and its answer is lost.
    """
    from threading import Event, Thread  # noqa: PLC0415  a look-up that asks nobody does without

    answers: list[_Answer] = []
    errors: list[BaseException] = []
    finished = Event()

    def ask() -> None:
        try:
            answers.append(question())
        except BaseException as error:  # noqa: BLE001  raised again where the answer is waited for
            errors.append(error)
        finally:
            finished.set()

    budget = _budget.get()
    limit = QUESTION_S if budget is None else min(QUESTION_S, budget.remaining)
    begin = time.monotonic()
    if limit > 0:
        Thread(target=ask, daemon=True).start()
        _wait(finished.wait, limit, whom)
    if budget is not None:
        budget.remaining -= time.monotonic() - begin
    if not finished.is_set():
        raise NoAnswerInTimeError(max(limit, 0.0))
    if errors:
        raise errors[0]
    return answers[0]


def _wait(wait: Callable[[float], bool], limit: float, whom: str) -> None:
    """Wait, and report a wait that can last more than twice `NOTICE_S`."""
    notice = _notice.get()
    if notice is None or limit < 2 * NOTICE_S:
        wait(limit)
    elif not wait(NOTICE_S):
        notice(f"waiting for an answer of {whom} (at most {limit:.0f} s)")
        wait(limit - NOTICE_S)
