"""Text for a terminal: labelled lines, columns, and what others wrote with its control characters escaped.

Where the output is a terminal, lines fold at its width. A file or a pipe gets each of them as one line.
"""

import os
import re
import sys
from collections.abc import Sequence
from itertools import zip_longest
from typing import TextIO

LABEL = 14
"""Width of the label column."""
WIDTH = 80
"""Columns of what is laid out in halves where the output is no terminal."""
GAP = "  "
"""Between two columns."""
MIN_COLUMN = 8
"""Characters that a column keeps where a table is folded."""
MAX_DIGITS = 5
"""Digits of a width that is believed."""
MAX_BRIEF = 60
"""Characters of a text of others that a sentence shows."""


_SHELL_WORD = re.compile(r"""(?:\$'(?:\\.|[^'])*'|'[^']*'|"[^"]*"|[^\s'"])+""")
"""A word as `shlex.quote` and `$'...'` write it."""
_COMMAND = re.compile(r"`[^`]*`")
_BLANK = "\0"
"""Stands for a blank at which no line ends."""
CONTINUED = " \\"
"""At the end of a line of a command that goes on: a shell reads both lines as one."""


def line(label: str, text: object) -> str:
    """One labelled line, folded beside its label; a text of others begins no line of its own."""
    return folded(visible(str(text)), " " * LABEL, f"{label:<{LABEL}}")


def folded(text: str, indent: str = GAP, first: str = "", stream: TextIO | None = None) -> str:
    """A line folded at the terminal's width; a longer word, such as a path, stays whole so that it can be copied.

    So does a command between backquotes.

    Args:
        text: what the line says.
        indent: in front of the further lines.
        first: in front of the first line.
        stream: where it will be written; None: standard output.
    """
    most = terminal_width(stream)
    return first + text if most is None else wrapped(text, most, indent, first)


def wrapped(text: str, most: int, indent: str, first: str) -> str:
    """As `folded`, at a width of `most` characters."""
    if len(first) + len(text) <= most:
        return first + text
    import textwrap  # noqa: PLC0415  most lines fit

    rows = textwrap.fill(
        _COMMAND.sub(lambda quoted: quoted[0].replace(" ", _BLANK), text),
        max(most, len(indent) + MIN_COLUMN),
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return rows.replace(_BLANK, " ")


def folded_command(command: str, label: str = "") -> str:
    """A command, folded between its words so that a shell takes what is pasted of it.

    Args:
        command: words joined by blanks, each quoted for a shell.
        label: in front of it; empty: none is.
    """
    first = f"{label:<{LABEL}}" if label else ""
    most = terminal_width()
    if most is None or len(first) + len(command) <= most:
        return first + command
    words = _SHELL_WORD.findall(command)
    rows, row = [], first + words[0]
    for word in words[1:]:
        if len(row) + len(word) + 1 + len(CONTINUED) > most:
            rows.append(row + CONTINUED)
            row = (" " * len(first) or GAP) + word
        else:
            row += f" {word}"
    return "\n".join([*rows, row])


def lines(label: str, texts: Sequence[object]) -> str:
    """Several texts under one label; `none` if there are no texts."""
    return "\n".join(line(label if index == 0 else "", text) for index, text in enumerate(texts or ["none"]))


def columns(rows: Sequence[tuple[str, ...]], width: int | None = None, optional: Sequence[str] = ()) -> str:
    """Left-aligned columns; the last one is not padded.

    Where they do not fit, optional columns are left out and long cells go on in further lines. Where that does not
    help, each row is a block of lines.

    Args:
        rows: the head, then the rows.
        width: characters of a line; None: those of the terminal, or any number where the output is not one.
        optional: heads of columns that may go, the least needed first.
    """
    shown = [tuple(map(visible, row)) for row in rows]
    most = terminal_width() if width is None else width
    if most is None or _line_width(_widths(shown)) <= most:
        return "\n".join(_joined(row, _widths(shown)) for row in shown)
    fewer = _without_optional(shown, optional, most)
    narrow = _narrowed(_widths(fewer), [len(head) for head in fewer[0]], most)
    if _line_width(narrow) > most:
        return _blocks(shown[0], shown[1:], most)
    return "\n".join(line for row in fewer for line in _folded(row, narrow))


def side_by_side(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Two columns of paragraphs, folded to their halves of a line: of the terminal's, or of `WIDTH` characters.

    Args:
        left: the paragraphs of the left column, the head first.
        right: those of the right column.
    """
    half = ((terminal_width() or WIDTH) - len(GAP)) // 2
    pairs = zip_longest(_paragraphs(left, half), _paragraphs(right, half), fillvalue="")
    return [_joined(pair, (half, half)) for pair in pairs]


def _paragraphs(texts: Sequence[str], width: int) -> list[str]:
    """The lines of paragraphs, folded to a width; an empty paragraph is an empty line."""
    import textwrap  # noqa: PLC0415  few commands need it

    rows: list[str] = []
    for text in texts:
        rows += textwrap.wrap(visible(text), width) or [""]
    return rows


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _without_optional(rows: list[tuple[str, ...]], optional: Sequence[str], most: int) -> list[tuple[str, ...]]:
    """The rows without as many optional columns as it takes until the table fits, or all of them."""
    for head in optional:
        if _line_width(_widths(rows)) <= most:
            break
        index = rows[0].index(head)
        rows = [(*row[:index], *row[index + 1 :]) for row in rows]
    return rows


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Characters of a line of the terminal that a stream is, or standard output; None where it is not one."""
    stream = sys.stdout if stream is None else stream
    if stream is None or not stream.isatty():
        return None
    stated = os.environ.get("COLUMNS", "")
    if stated.isdecimal() and len(stated) <= MAX_DIGITS and int(stated) > 0:
        return int(stated)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _joined(cells: Sequence[str], widths: Sequence[int]) -> str:
    return GAP.join(map(str.ljust, cells, widths)).rstrip()


def _narrowed(widths: Sequence[int], heads: Sequence[int], most: int) -> list[int]:
    """Widths that fit if any do: the widest column gives way first, and none below its head or `MIN_COLUMN`."""
    narrow = list(widths)
    least = [min(width, max(head, MIN_COLUMN)) for width, head in zip(widths, heads, strict=True)]
    while _line_width(narrow) > most:
        spare = [width - floor for width, floor in zip(narrow, least, strict=True)]
        widest = max(range(len(narrow)), key=lambda index: (spare[index] > 0, narrow[index]))
        if spare[widest] <= 0:
            break
        narrow[widest] -= 1
    return narrow


def _folded(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of one row."""
    import textwrap  # noqa: PLC0415  most tables fit, and a look-up prints none

    cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    return [_joined(line, widths) for line in zip_longest(*cells, fillvalue="")]


def _blocks(heads: Sequence[str], rows: Sequence[Sequence[str]], most: int) -> str:
    """Each row as lines of a head and its cell."""
    label = max(map(len, heads))
    widths = [label, max(most - label - len(GAP), MIN_COLUMN)]
    blocks = []
    for row in rows:
        lines = [line for pair in zip(heads, row, strict=True) for line in _folded(pair, widths)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def counted(number: int, singular: str, plural: str = "") -> str:
    """A number with its noun; the plural of a regular noun need not be said."""
    return f"{number} {singular}" if number == 1 else f"{number} {plural or singular + 's'}"


def brief(text: str, most: int = MAX_BRIEF) -> str:
    """A text of others in a sentence: `most` characters of it, and on one line."""
    start = text if len(text) <= most else f"{text[:most]}…"
    return start if start.isprintable() and start.strip() else repr(start)


def visible(text: str) -> str:
    """The text with every character that is not printable escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
