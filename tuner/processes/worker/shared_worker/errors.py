"""Exceptions as data."""

import traceback


def described(error: BaseException) -> dict[str, str]:
    """The exception in one line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines[:3])[:400]
    kind = type(error).__name__
    return {"message": f"{kind}: {text}" if text else kind, "where": where}


def in_one_line(error: BaseException) -> str:
    """The exception in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
