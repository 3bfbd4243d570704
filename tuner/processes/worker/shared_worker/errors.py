"""Turns exceptions into data."""

import traceback


def described(error: BaseException) -> dict[str, str]:
    """An exception as data.

    Returns:
        `message`: its type and the first three lines of its text, joined, with at most 400 characters of text. `where`:
        the place where it was raised, as `FILE:LINE`. Empty if it is unknown.
    """
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])[:400]
    kind = type(error).__name__
    return {"message": f"{kind}: {text}" if text else kind, "where": where}


def in_one_line(error: BaseException) -> str:
    """The exception in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
