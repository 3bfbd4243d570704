"""Launches in Markdown: shell text in fenced blocks."""

import re
from collections.abc import Iterator

from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.shell import shell_launches

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*(\w*)[^\n`]*\n(.*?)(?:[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL)
"""A block. Published ones end with the fence behind a command, too; one that nothing ends goes on to the end."""
_SHELL = frozenset({"", "bash", "sh", "shell", "console", "zsh", "text"})


def has_fences(text: str) -> bool:
    """Whether a text holds a fenced block."""
    return _FENCE.search(text) is not None


def markdown_launches(text: str, start: int = 0, stop: int | None = None) -> Iterator[ManifestLaunch]:
    """The launches in the fenced shell blocks between two offsets of a file."""
    end = len(text) if stop is None else stop
    for block in _FENCE.finditer(text, start, end):
        if block[2].lower() in _SHELL:
            yield from shell_launches(text, block.start(3), block.end(3), shape="Markdown")
