"""Turns exceptions into data."""

import traceback

from shared_worker.installed import below_path


def error_fields(error: BaseException) -> dict[str, str]:
    """An exception as data. If it was raised because of another one, that one is described.

    Returns:
        `message`: its type and the first three lines of its text, joined, with at most 400 characters of text. `where`:
        the place where it was raised, as `FILE:LINE`. Empty if it is unknown.
    """
    error = cause_of(error)
    lines = [line.strip() for line in text_of(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])[:400]
    kind = type(error).__name__
    return {"message": f"{kind}: {text}" if text else kind, "where": place_of(error)}


def in_one_line(error: BaseException) -> str:
    """The exception in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {text_of(error)}".split())[:300]


def with_place(error: BaseException) -> str:
    """The exception, or the one that caused it, in one line, with the file and line where it was raised."""
    error = cause_of(error)
    frame = innermost(error)
    place = f" at {below_path(frame.filename)}:{frame.lineno}" if frame else ""
    return in_one_line(error) + place


def cause_of(error: BaseException) -> BaseException:
    """The first exception of a chain in which each was raised from the one before."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch or Python could not allocate memory, on the device or on the host."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return not names.isdisjoint({"OutOfMemoryError", "MemoryError"}) or "can't allocate memory" in str(error)


def text_of(error: BaseException) -> str:
    """The message of an exception. If an assertion has none, the source line that asserts."""
    text = str(error)
    frame = innermost(error)
    if text or frame is None or not isinstance(error, AssertionError):
        return text
    return frame.line or ""


def place_of(error: BaseException) -> str:
    """Where an exception was raised, as `FILE:LINE`. Empty if that is unknown."""
    frame = innermost(error)
    return f"{frame.filename}:{frame.lineno}" if frame else ""


def innermost(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame of an exception's traceback, or None."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1] if frames else None
