"""What does not hold, or could not be seen, as data."""

import re
import traceback

NOT_TRACED, COMPILED, IN_ORDER, NOTHING_SILENT, NOTHING_OUTSIDE = 0, 1, 2, 3, 4
"""The conditions; 0: the launch could not be built or traced."""
WORDS = 300
"""Characters of an error that are kept."""


def failure(condition: int, code: str, **fields) -> dict:
    """One failure.

    Args:
        condition: the condition that does not hold.
        code: what is wrong.
        fields: texts and numbers, what a sentence about it needs.
    """
    return {"code": code, "condition": condition, "fields": fields}


def raised(condition: int, code: str, error: BaseException) -> dict:
    """The failure that an exception is, with the place in the code where it began."""
    file, line = cause(error)
    return failure(condition, code, error=in_words(error), file=file, line=line)


def in_words(error: BaseException) -> str:
    """The exception in one line; of Dynamo's, which fill a screen, the part that says what was met."""
    text = str(error)
    met = MET.search(text)
    words = " ".join((met[1] if met else text).split())[:WORDS]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


MET = re.compile(r"Developer debug context: (.*)")
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
USER_CODE = "from user code:"


def cause(error: BaseException) -> tuple:
    """File and line where an error began: in the code that Dynamo traced, else of the exception first in the chain."""
    _, marker, traced = str(error).partition(USER_CODE)
    frames = FRAME.findall(traced) if marker else []
    if frames:
        return frames[-1][0], int(frames[-1][1])
    while error.__cause__ is not None:
        error = error.__cause__
    stack = traceback.extract_tb(error.__traceback__)
    return (stack[-1].filename, stack[-1].lineno or 0) if stack else ("", 0)
