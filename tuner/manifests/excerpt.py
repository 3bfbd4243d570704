"""A text that stands indented inside another file, such as a fenced block: what it says, and where it is written."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

from tuner.manifests.launch import ManifestLaunch

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_LINE_END = re.compile(r"\r?\n\Z")
_BLANKS = re.compile(r"[ \t]*")


class Excerpt:
    """Lines of a file without their common indentation.

    A position in it is turned into the position in the file by a binary search over its lines.

    Attributes:
        text: the lines, each with a line feed at its end, whatever ends it in the file.
    """

    def __init__(self, file: str, start: int, stop: int, indent: int, first_line: int) -> None:
        """Take the lines between two offsets.

        Args:
            file: the file.
            start: offset of the first line's first character, indentation included.
            stop: offset behind the last line.
            indent: columns to leave out; a line that has fewer blanks loses those that it has.
            first_line: number of the first line in the file, from 1.
        """
        lines: list[str] = []
        self._written: list[int] = []
        for match in _LINE.finditer(file, start, stop):
            blanks = min(_leading_blanks(match[0]), indent)
            lines.append(_LINE_END.sub("\n", match[0][blanks:]))
            self._written.append(match.start() + blanks)
        self._starts = list(accumulate((len(line) for line in lines), initial=0))[:-1]
        self._first_line = first_line
        self.text = "".join(lines)

    def offset(self, position: int) -> int:
        """The offset in the file of the character at a position of the text."""
        index = self._index(position)
        return self._written[index] + position - self._starts[index] if self._written else 0

    def end(self, position: int) -> int:
        """The offset in the file behind the character in front of a position of the text."""
        return self.offset(position - 1) + 1 if position else self.offset(0)

    def line(self, position: int) -> int:
        """The line in the file, from 1, of a position of the text."""
        return self._first_line + self._index(position)

    def line_of(self, number: int) -> int:
        """The line in the file of a line of the text, both from 1."""
        return self._first_line + number - 1

    def _index(self, position: int) -> int:
        return max(bisect_right(self._starts, position) - 1, 0)


def placed(launches: Iterator[ManifestLaunch], excerpt: Excerpt) -> Iterator[ManifestLaunch]:
    """Launches that were read in an excerpt's text, with their places in the file."""
    for launch in launches:
        words = []
        for word in launch.words:
            owner = word.owner
            if owner is not None:
                owner = replace(owner, start=excerpt.offset(owner.start))
            start, stop = excerpt.offset(word.start), excerpt.end(word.stop)
            words.append(replace(word, line=excerpt.line_of(word.line), start=start, stop=stop, owner=owner))
        yield replace(
            launch,
            words=tuple(words),
            line=excerpt.line_of(launch.line),
            image_line=excerpt.line_of(launch.image_line) if launch.image_line else 0,
            pod=launch.pod.placed(excerpt.line_of) if launch.pod else None,
        )


def _leading_blanks(line: str) -> int:
    match = _BLANKS.match(line)
    return match.end() if match else 0
