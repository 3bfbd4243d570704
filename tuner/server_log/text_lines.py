"""The lines of a log file: its encoding, its ends of line, and a limit for a line that does not end."""

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from rules.errors import ErrorKind, TunerError
from tuner.server_log.line import MAX_LINE

MAX_UNENDED = 64 << 20
"""Characters of one line; a text with more of them is not a log."""
_CHUNK = 1 << 18
_SAMPLE = 64
"""Bytes that tell the encoding."""


def text_lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines of a log without their ends, each cut at `MAX_LINE` characters.

    UTF-8, and UTF-16 as PowerShell's `>` writes it; what is not text in it is replaced. Lines end with a line feed.

    Args:
        stream: the log.
        name: what it is called in an error.

    Raises:
        TunerError: a line does not end within `MAX_UNENDED` characters (kind `log`).
        OSError: the log cannot be read.
    """
    number, begun, unended = 1, "", 0
    for text in _decoded(stream):
        *whole, unfinished = text.split("\n")
        for piece in whole:
            yield _joined(begun, piece)
            number, begun, unended = number + 1, "", 0
        begun = _joined(begun, unfinished)
        unended += len(unfinished)
        if unended > MAX_UNENDED:
            message = f"Line {number} of {name} has more than {MAX_UNENDED >> 20} million characters: it is not a log."
            raise TunerError(message, hint="Give the log of one server as text.", kind=ErrorKind.LOG)
    if begun:
        yield begun


def _joined(begun: str, piece: str) -> str:
    """A line from its parts, cut."""
    return begun + piece[: MAX_LINE - len(begun)]


def _decoded(stream: BinaryIO) -> Iterator[str]:
    """The text of a stream, piece by piece."""
    data = stream.read(_SAMPLE)
    decoder = codecs.getincrementaldecoder(_encoding(data))("replace")
    text = decoder.decode(data).removeprefix("\ufeff")
    while data:
        yield text
        data = stream.read(_CHUNK)
        text = decoder.decode(data)
    yield text + decoder.decode(b"", final=True)


def _encoding(sample: bytes) -> str:
    """UTF-16 where every other byte of most characters is zero, else UTF-8."""
    half = len(sample) // 2
    if half and sample[1::2].count(0) > half // 2:
        return "utf-16-le"
    if half and sample[::2].count(0) > half // 2:
        return "utf-16-be"
    return "utf-8"
