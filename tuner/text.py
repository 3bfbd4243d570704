"""Text for a terminal: labelled lines, columns, and what others wrote with its control characters escaped."""

from collections.abc import Sequence

LABEL = 14
"""Width of the label column."""
MAX_BRIEF = 60
"""Characters of a text of others that a sentence shows."""


def line(label: str, text: object) -> str:
    """One labelled line; a text of others begins no line of its own."""
    return f"{label:<{LABEL}}{visible(str(text))}"


def lines(label: str, texts: Sequence[object]) -> str:
    """Several texts under one label; `none` if there are no texts."""
    return "\n".join(line(label if index == 0 else "", text) for index, text in enumerate(texts or ["none"]))


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    """Left-aligned columns; the last one is not padded."""
    shown = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)


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
