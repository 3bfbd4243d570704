"""Blocks of code in Markdown, fenced or indented: shell text, and whole manifests of other kinds."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from tuner.manifests.excerpt import Excerpt, placed
from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.shell.launches import shell_launches

_LINE = re.compile(r"[^\n]*(?:\n|\Z)")
_OPENING = re.compile(r"([ \t]*)(```+|~~~+)[ \t]*(?:\{(?:code(?:-block|-cell)?\}[ \t]*|\.)?)?([\w.+-]*)")
"""A fence and the language behind it, also as Pandoc (`{.yaml}`) and MyST (`{code-block} yaml`) write it."""
_INDENT = 4
"""Columns that make a paragraph a block of code (CommonMark 0.31.2, 4.4)."""
SHELL_LANGUAGES = frozenset(
    {"", "bash", "sh", "shell", "console", "zsh", "ksh", "text", "txt", "plaintext", "terminal"}
    | {"bash-session", "sh-session", "shell-session", "shellsession", "shellscript"}
)
YAML_LANGUAGES = frozenset({"yaml", "yml", "yaml+jinja", "compose", "docker-compose", "kubernetes", "k8s"})
_MANIFEST = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n|---[ \t]*\n)*(?:apiVersion|kind|services|version):[ \n]")
"""How a manifest begins, behind comments."""


class Block(NamedTuple):
    """A block of code in a document.

    Attributes:
        language: what its opening fence or its directive names, in small letters; empty if it names none.
        start: offset of its first line.
        stop: offset behind its last line.
        indent: columns in front of it that are not part of the code.
        line: number of its first line, from 1.
    """

    language: str
    start: int
    stop: int
    indent: int
    line: int


def fences(text: str) -> Iterator[Block]:
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


def _fence(opening: re.Match[str], start: int, stop: int, opened_at: int) -> Block:
    return Block(opening[3].lower(), start, max(start, stop), len(opening[1]), opened_at + 1)


def excerpt_of(text: str, block: Block) -> Excerpt:
    """What a block says."""
    return Excerpt(text, block.start, block.stop, block.indent, block.line)


def language_of(block: Block, code: str) -> str:
    """The language of a block: the one that it names, or YAML where it names none and begins as a manifest does."""
    return "yaml" if not block.language and _MANIFEST.match(code) else block.language


def has_fences(text: str) -> bool:
    """Whether a text holds a fenced block."""
    return next(fences(text), None) is not None


def indented_blocks(text: str) -> Iterator[Block]:
    """The indented blocks that name vLLM and stand outside of fences; each begins behind an empty line."""
    start, number = 0, 1
    for fence in fences(text):
        opening = text.rfind("\n", 0, max(0, fence.start - 1)) + 1
        yield from _indented(text, start, opening, number)
        end = text.find("\n", fence.stop)
        behind = len(text) if end < 0 else end + 1
        start, number = behind, number + text.count("\n", start, behind)
    yield from _indented(text, start, len(text), number)


def _indented(text: str, start: int, stop: int, number: int) -> Iterator[Block]:
    """The indented blocks between two offsets; the first line has a number, from 1."""
    opening: Block | None = None
    last = start
    is_behind_empty = True
    for at, line in enumerate(_LINE.finditer(text, start, stop), number):
        is_empty = not line[0].strip()
        is_deep = line[0].expandtabs(_INDENT).startswith(" " * _INDENT)
        if opening is not None and not is_deep and not is_empty:
            yield from _naming_vllm(text, opening, last)
            opening = None
        elif opening is None and is_deep and is_behind_empty and not is_empty:
            opening = Block("", line.start(), line.end(), _INDENT, at)
        last = last if is_empty else line.end()
        is_behind_empty = is_empty
    if opening is not None:
        yield from _naming_vllm(text, opening, last)


def _naming_vllm(text: str, block: Block, stop: int) -> Iterator[Block]:
    if "vllm" in text[block.start : stop]:
        yield block._replace(stop=stop)


def markdown_launches(text: str) -> Iterator[ManifestLaunch]:
    """The launches in the fenced shell blocks of a text."""
    return chain.from_iterable(shell_launches_in(text, fence, shape="Markdown") for fence in fences(text))


def shell_launches_in(text: str, block: Block, *, shape: str) -> Iterator[ManifestLaunch]:
    """The launches in a block of shell text; none if it is of another language."""
    excerpt = excerpt_of(text, block)
    if language_of(block, excerpt.text) in SHELL_LANGUAGES:
        yield from placed(shell_launches(excerpt.text, shape=shape), excerpt)
