"""Fenced blocks in Markdown: shell text, and whole manifests of other kinds."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from tuner.manifests.excerpt import Excerpt, placed
from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.shell import shell_launches

_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_OPENING = re.compile(r"([ \t]*)(```+|~~~+)[ \t]*([\w.+-]*)")
_SHELL = frozenset({"", "bash", "sh", "shell", "console", "zsh", "text"})


class Fence(NamedTuple):
    """A fenced block.

    Attributes:
        language: what stands behind its opening fence, in small letters.
        start: offset of its first line.
        stop: offset behind its last line.
        indent: columns in front of its opening fence.
        line: number of its first line, from 1.
    """

    language: str
    start: int
    stop: int
    indent: int
    line: int


def fences(text: str) -> Iterator[Fence]:
    """The fenced blocks of a text.

    Published blocks end with a fence behind a command, too. A block that nothing ends goes on to the end.
    """
    opening: re.Match[str] | None = None
    first, opened_at = 0, 0
    for number, line in enumerate(_LINE.finditer(text), start=1):
        if opening is None:
            opening, first, opened_at = _opening(line[0]), line.end(), number
        elif line[0].rstrip().endswith(opening[2]):
            written = line[0].rstrip().removesuffix(opening[2])
            last = line.start() + len(written) if written.strip() else line.start()
            yield _fence(opening, first, last, opened_at)
            opening = None
    if opening is not None:
        yield _fence(opening, first, len(text), opened_at)


def _opening(line: str) -> re.Match[str] | None:
    """The opening fence that a line is; code within a line is not one."""
    match = _OPENING.match(line)
    return match if match and "`" not in line[match.end() :] else None


def _fence(opening: re.Match[str], start: int, stop: int, opened_at: int) -> Fence:
    return Fence(opening[3].lower(), start, max(start, stop), len(opening[1]), opened_at + 1)


def excerpt_of(text: str, fence: Fence) -> Excerpt:
    """What a block says."""
    return Excerpt(text, fence.start, fence.stop, fence.indent, fence.line)


def has_fences(text: str) -> bool:
    """Whether a text holds a fenced block."""
    return next(fences(text), None) is not None


def markdown_launches(text: str) -> Iterator[ManifestLaunch]:
    """The launches in the fenced shell blocks of a text."""
    for fence in fences(text):
        if fence.language in _SHELL:
            excerpt = excerpt_of(text, fence)
            yield from placed(shell_launches(excerpt.text, shape="Markdown"), excerpt)
