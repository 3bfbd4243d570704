"""What was raised, as data."""

import traceback


def described(error: BaseException) -> dict:
    """The exception in one line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:3])[:400]
    return {"message": f"{type(error).__name__}: {said}" if said else type(error).__name__, "where": where}
