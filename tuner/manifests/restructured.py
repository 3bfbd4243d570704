"""Blocks of code in reStructuredText: those of its directives, and literal blocks."""

import re
from collections.abc import Iterator

from tuner.manifests.markdown import Block

_LINE = re.compile(r"([ \t]*)([^\n]*)(?:\n|\Z)")
_DIRECTIVE = re.compile(r"\.\. (?:code-block|code|sourcecode|prompt)::[ \t]*([\w.+-]*)")
_OPTION = re.compile(r":[\w-]+:")


def restructured_blocks(text: str) -> Iterator[Block]:
    """The blocks of code in a text (Docutils' reference of the markup: literal blocks, directive "code").

    A block is what is indented deeper than the line that announces it: a directive, or a paragraph that ends with `::`.
    """
    announced: tuple[str, int] | None = None
    opening: Block | None = None
    stop = 0
    for number, line in enumerate(_LINE.finditer(text), 1):
        if not line[2].strip():
            continue
        indent = len(line[1].expandtabs())
        if announced is not None and opening is None and indent > announced[1]:
            if _OPTION.match(line[2]):
                continue
            opening = Block(announced[0], line.start(), line.end(), indent, number)
        elif announced is None or indent <= announced[1]:
            if opening is not None:
                yield opening._replace(stop=stop)
            opening, announced = None, _announced(line[2], indent)
        stop = line.end()
    if opening is not None:
        yield opening._replace(stop=stop)


def _announced(line: str, indent: int) -> tuple[str, int] | None:
    """The language of the block that a line announces, and the columns that the block has to exceed."""
    directive = _DIRECTIVE.match(line)
    if directive is not None:
        return directive[1].lower(), indent
    literal = line.rstrip().endswith("::") and not line.startswith(".. ")
    return ("", indent) if literal else None
