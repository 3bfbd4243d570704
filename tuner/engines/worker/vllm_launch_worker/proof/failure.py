"""What does not hold, or could not be observed, as data."""

import re
import traceback
from typing import Any

NOT_TRACED, COMPILED, IN_ORDER, NOTHING_SILENT, NOTHING_OUTSIDE = 0, 1, 2, 3, 4
"""The conditions; 0: the launch could not be built or traced."""
WORDS = 300
"""Characters of an error that a failure holds at most."""

Failure = dict[str, Any]


def failure(condition: int, code: str, **fields: Any) -> Failure:
    """One failure.

    Args:
        condition: the condition that does not hold.
        code: what is wrong.
        fields: texts and numbers for a sentence about it.
    """
    return {"code": code, "condition": condition, "fields": fields}


def raised(condition: int, code: str, error: BaseException) -> Failure:
    """An exception as a failure, with the place in the code where it began."""
    file, line = cause(error)
    return failure(condition, code, error=in_words(error), file=file, line=line)


def in_words(error: BaseException) -> str:
    """The exception in one line. Dynamo's fill a screen; of them it is the part that says what Dynamo met."""
    text = str(error)
    met = MET.search(text)
    words = " ".join((met[1] if met else text).split())[:WORDS]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


MET = re.compile(r"Developer debug context: (.*)")
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
USER_CODE = "from user code:"


def cause(error: BaseException) -> tuple[str, int]:
    """File and line where an error began: in the code that Dynamo traced, else at the first exception of the chain."""
    _, marker, traced = str(error).partition(USER_CODE)
    frames = FRAME.findall(traced) if marker else []
    if frames:
        return frames[-1][0], int(frames[-1][1])
    while error.__cause__ is not None:
        error = error.__cause__
    stack = traceback.extract_tb(error.__traceback__)
    return (stack[-1].filename, stack[-1].lineno or 0) if stack else ("", 0)
