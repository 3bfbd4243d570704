"""Failures as data: a condition that does not hold, or that could not be observed."""

import re
from typing import Any

from shared_worker.errors import cause_of, innermost

NOT_TRACED, COMPILED, IN_ORDER, NOTHING_SILENT, NOTHING_OUTSIDE = 0, 1, 2, 3, 4
"""The numbers of the conditions. 0 means that the launch could not be built or traced."""
WORDS = 300
"""The largest number of characters of an error message in a failure."""

Failure = dict[str, Any]


def failure(condition: int, code: str, **fields: Any) -> Failure:
    """Make a failure.

    Args:
        condition: the number of the condition that does not hold.
        code: what is wrong, as an identifier that the host knows.
        fields: strings and numbers for the host's sentence about it.
    """
    return {"code": code, "condition": condition, "fields": fields}


def raised(condition: int, code: str, error: BaseException) -> Failure:
    """Make a failure from an exception. It holds the message, and the file and line where the error began."""
    file, line = cause(error)
    return failure(condition, code, error=in_words(error), file=file, line=line)


def in_words(error: BaseException) -> str:
    """The exception in one line of at most `WORDS` characters after its type."""
    text = str(error)
    words = " ".join((of_dynamo(text) or text).split())[:WORDS]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def of_dynamo(text: str) -> str:
    """The part of one of Dynamo's long messages that says what is wrong. Empty for any other message.

    It is the first line, and the developer debug context, which names the unsupported code. If the context is empty, it
    is the first line and the explanation.
    """
    context, explanation = CONTEXT.search(text), EXPLANATION.search(text)
    if context is None:
        return ""
    first, _, _ = text.partition("\n")
    reason = context[1]
    if not reason and explanation is not None:
        reason = explanation[1]
    return f"{first}: {reason}" if reason else first


CONTEXT = re.compile(r"Developer debug context:[ ]?(.*)")
EXPLANATION = re.compile(r"Explanation: (.*)")
FRAME = re.compile(r'File "([^"]+)", line (\d+)')
"""A frame of a traceback: the file and the line."""
USER_CODE = "from user code:"
"""In Dynamo's messages, the traceback of the traced code follows these words."""


def cause(error: BaseException) -> tuple[str, int]:
    """The file and line where an error began.

    If Dynamo names the code that it traced, this is its innermost frame. Else it is where the first exception of the
    chain was raised. The result is an empty string and 0 if the place is unknown.
    """
    _, marker, traced = str(error).partition(USER_CODE)
    frames = FRAME.findall(traced) if marker else []
    if frames:
        return frames[-1][0], int(frames[-1][1])
    frame = innermost(cause_of(error))
    return (frame.filename, frame.lineno or 0) if frame else ("", 0)
