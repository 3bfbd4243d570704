"""Texts of Docker Compose: its variables, and command lines that it splits into words itself.

Compose fills in `$NAME` and `${NAME…}` from where it is started and turns `$$` into `$` (docs.docker.com, "Set, use,
and manage variables in a Compose file with interpolation"). It splits a command line with go-shellwords, which knows
quotes and backslashes and ends at the first `;`, `&`, `|`, `<` or `>` (mattn/go-shellwords, shellwords.go).
"""

import re
from dataclasses import dataclass

_VARIABLE = re.compile(r"\$(?:\$|\{|[A-Za-z_]\w*)")
_SPACE = " \t\r\n"
_ENDS = ";&|<>"


@dataclass(frozen=True)
class ComposeWord:
    """A word of a command line.

    Attributes:
        text: what it says, before variables are filled in.
        start: offset of its first character, quotes included.
        stop: offset behind its last.
    """

    text: str
    start: int
    stop: int


def filled(text: str) -> tuple[str, bool]:
    """A text with `$$` as `$`, and whether it holds variables from outside; with those it stays as it is written."""
    names = {match[0] for match in _VARIABLE.finditer(text)} - {"$$"}
    return (text, True) if names else (text.replace("$$", "$"), False)


def split(text: str, start: int = 0, stop: int | None = None) -> list[ComposeWord] | None:
    """The words of a command line; None for one that Compose refuses: a quote that is not closed, a bracket.

    Args:
        text: a text.
        start: offset at which the command line begins.
        stop: offset behind its end; None: the text's end.
    """
    splitter = _Splitter(text, start, len(text) if stop is None else stop)
    return splitter.words()


class _Splitter:
    """Where splitting is. Each step reads at least one character."""

    def __init__(self, text: str, position: int, stop: int) -> None:
        self._text, self._position, self._stop = text, position, stop
        self._refused = False

    @property
    def _here(self) -> str:
        return self._text[self._position] if self._position < self._stop else ""

    def words(self) -> list[ComposeWord] | None:
        words: list[ComposeWord] = []
        while self._here and self._here not in _ENDS and not self._refused:
            if self._here in _SPACE:
                self._position += 1
            else:
                words.append(self._word())
        return None if self._refused else words

    def _word(self) -> ComposeWord:
        start = self._position
        pieces: list[str] = []
        while self._here and self._here not in _SPACE + _ENDS and not self._refused:
            pieces.append(self._piece())
        return ComposeWord("".join(pieces), start, self._position)

    def _piece(self) -> str:
        here = self._here
        if here == "'":
            return self._single()
        if here == '"':
            return self._double()
        if here == "\\":
            return self._escaped()
        variable = _VARIABLE.match(self._text, self._position, self._stop)
        if variable is not None and variable[0] != "$$":
            return self._variable(variable)
        self._refused = here in "(`"
        self._position += 1
        return here

    def _variable(self, match: re.Match[str]) -> str:
        """`$NAME` or `${…}`, with the braces in it."""
        end = match.end()
        depth = int(match[0] == "${")
        while depth and end < self._stop:
            depth += (self._text[end] == "{") - (self._text[end] == "}")
            end += 1
        self._position = end
        return self._text[match.start() : end]

    def _single(self) -> str:
        end = self._text.find("'", self._position + 1, self._stop)
        self._refused = end < 0
        quoted = self._text[self._position + 1 : end]
        self._position = end + 1
        return quoted

    def _double(self) -> str:
        pieces: list[str] = []
        self._position += 1
        while self._here and self._here != '"':
            if self._here == "\\":
                pieces.append(self._escaped())
            else:
                pieces.append(self._here)
                self._position += 1
        self._refused = not self._here
        self._position += 1
        return "".join(pieces)

    def _escaped(self) -> str:
        """A backslash with the character behind it."""
        escaped = self._text[self._position + 1 : min(self._position + 2, self._stop)]
        self._refused = not escaped
        self._position += 2
        return {"n": "\n", "t": "\t"}.get(escaped, escaped)
