"""Shell text as commands of words, each word with its place in the text. Reads; runs and expands nothing.

As bash splits (POSIX 2.2 and 2.3): quotes, backslashes, line continuations, comments, operators and redirections.
Substitutions stay as they are written, and a word knows that it has one.

Docker Compose and the kubelet turn `$$` into `$` before a shell reads the text, and so do systemd and make. In a shell
`$$NAME` would be its process number with a word behind it, which nobody writes. So `$$NAME` is the shell's `$NAME`
everywhere, and is kept as that.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_OPERATORS = ";&|()\n"
_NAME = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_REDIRECTION = re.compile(r"(?:\d*|&)(?:>>|>\||>&|<<<|<<-?|<&|<>|[<>])")
_DOLLARS = re.compile(r"\$+")
_PARAMETER = re.compile(r"\w+|[@*]")
_SPECIAL = re.compile(r"[#?!-]")
"""Parameters that are one word; behind `$$` they are left to it, as in `run.$$-log`."""


class Piece(NamedTuple):
    """A part of a word's value.

    Attributes:
        text: its value, or the substitution as a shell would read it.
        substituted: it is a substitution.
        filled_before: what stands for it comes from outside, before a shell reads the text; the variables of the
            text say nothing of it.
    """

    text: str
    substituted: bool = False
    filled_before: bool = False

    def value(self, variables: dict[str, str]) -> str:
        """Its value with these variables; a substitution that they do not make stays as it is."""
        match = _NAME.fullmatch(self.text) if self.substituted and not self.filled_before else None
        return variables.get(match[1] or match[2], self.text) if match else self.text

    def unknown(self, variables: dict[str, str]) -> bool:
        """Whether it is a substitution that these variables do not make."""
        return self.substituted and self.value(variables) == self.text


@dataclass
class Token:
    """A word of a command.

    Attributes:
        start: offset of its first character, quotes included.
        stop: offset behind its last.
        parts: the pieces of its value.
        quoted: any of it is quoted.
        broken: a quote in it is not closed.
    """

    start: int
    stop: int = 0
    parts: list[Piece] = field(default_factory=list)
    quoted: bool = False
    broken: bool = False

    def text(self, variables: dict[str, str] | None = None) -> str:
        """Its value; substitutions of these variables are made, all others stay as they are written."""
        return "".join(piece.value(variables or {}) for piece in self.parts)

    def unknown(self, variables: dict[str, str] | None = None) -> bool:
        """Whether it holds a substitution of anything but these variables."""
        return self.broken or any(piece.unknown(variables or {}) for piece in self.parts)

    @property
    def whole(self) -> bool:
        """Whether it is one substitution and nothing else, so that it may become any number of words."""
        return [piece.substituted for piece in self.parts] == [True]


def commands(
    text: str, start: int = 0, stop: int | None = None, *, folded: bool = False, composed: bool = False
) -> Iterator[list[Token]]:
    """The simple commands of a text, in order; empty ones are left out.

    Args:
        text: a file.
        start: offset at which the shell text begins.
        stop: offset behind its end; None: the file's end.
        folded: single line breaks separate words only, as in a folded YAML scalar; empty lines end a command.
        composed: Docker Compose reads the text first, and fills in `$NAME` from where it is started.
    """
    lexer = _Lexer(text, start, len(text) if stop is None else stop, folded, composed)
    command: list[Token] = []
    while lexer.position < lexer.stop:
        if lexer.at_space():
            lexer.position += 1
        elif lexer.at_continuation():
            lexer.position += 2
        elif lexer.here == "#":
            lexer.skip_line()
        elif redirection := _REDIRECTION.match(text, lexer.position, lexer.stop):
            lexer.position = redirection.end()
            lexer.skip_target()
        elif lexer.here in _OPERATORS:
            lexer.position += 1
            if command:
                yield command
            command = []
        else:
            command.append(lexer.word())
    if command:
        yield command


class _Lexer:
    """Where reading is, and how the next word is read."""

    def __init__(self, text: str, start: int, stop: int, folded: bool, composed: bool) -> None:
        self.text, self.position, self.stop, self.folded, self.composed = text, start, stop, folded, composed

    @property
    def here(self) -> str:
        return self.text[self.position] if self.position < self.stop else ""

    def at_space(self) -> bool:
        if self.here in " \t\r":
            return True
        if not self.folded or self.here != "\n":
            return False
        line_end = self.text.find("\n", self.position + 1, self.stop)
        return bool(self.text[self.position + 1 : self.stop if line_end < 0 else line_end].strip())

    def at_continuation(self) -> bool:
        return self.text.startswith("\\\n", self.position) and self.position + 2 <= self.stop

    def skip_line(self) -> None:
        end = self.text.find("\n", self.position, self.stop)
        self.position = self.stop if end < 0 else end

    def skip_target(self) -> None:
        while self.here and self.here in " \t":
            self.position += 1
        if self.here and self.here not in " \t\r" + _OPERATORS + "<>#":
            self.word()
        elif self.here == "&":  # of `2>&1` written apart
            self.position += 1

    def word(self) -> Token:
        token = Token(self.position)
        while self.here and self.here not in " \t\r<>" + _OPERATORS and not self.at_continuation():
            self._piece(token)
        while self.at_continuation() and self.text[self.position + 2 : self.position + 3] not in ("", " ", "\t", "\n"):
            self.position += 2  # a continuation in the middle of a word
            while self.here and self.here not in " \t\r<>" + _OPERATORS and not self.at_continuation():
                self._piece(token)
        if self.here == "(" and token.parts and token.parts[-1] == Piece("="):  # an array: NAME=(…)
            end = self._closed(self.position)
            token.parts.append(Piece(self.text[self.position : end], substituted=True))
            self.position = end
        token.stop = self.position
        return token

    def _piece(self, token: Token) -> None:
        if self.here == "'":
            self._single(token)
        elif self.here == '"':
            self._double(token)
        elif self.here == "\\":
            token.parts.append(Piece(self.text[self.position + 1 : min(self.position + 2, self.stop)]))
            self.position = min(self.position + 2, self.stop)
        elif self.here in "$`":
            self._substitution(token)
        else:
            token.parts.append(Piece(self.here))
            self.position += 1

    def _single(self, token: Token) -> None:
        end = self.text.find("'", self.position + 1, self.stop)
        token.quoted, token.broken = True, token.broken or end < 0
        end = self._line_end() if end < 0 else end
        token.parts.append(Piece(self.text[self.position + 1 : end]))
        self.position = min(end + 1, self.stop)

    def _double(self, token: Token) -> None:
        token.quoted = True
        self.position += 1
        while self.here and self.here != '"':
            escaped = self.text[self.position + 1 : self.position + 2]
            if self.here == "\\" and escaped and escaped in '"\\$`\n':
                token.parts.append(Piece("" if escaped == "\n" else escaped))
                self.position = min(self.position + 2, self.stop)
            elif self.here in "$`":
                self._substitution(token)
            else:
                token.parts.append(Piece(self.here))
                self.position += 1
        token.broken = token.broken or not self.here
        self.position = min(self.position + 1, self.stop)

    def _substitution(self, token: Token) -> None:
        """`$NAME`, `${…}`, `$(…)`, `$1`, each with one `$` or two, or a command in backquotes."""
        start = self.position
        if self.here == "`":
            end = self.text.find("`", start + 1, self.stop)
            self.position = self._line_end() if end < 0 else end + 1
            token.parts.append(Piece(self.text[start : self.position], substituted=True))
            return
        dollars = _DOLLARS.match(self.text, start, self.stop)
        name = dollars.end() if dollars else start + 1
        match = _PARAMETER.match(self.text, name, self.stop)
        if match is None and name == start + 1:
            match = _SPECIAL.match(self.text, name, self.stop)
        if match is not None:
            self.position = match.end()
        elif self.text[name : name + 1] in ("(", "{") and name < self.stop:
            self.position = self._closed(name)
        else:
            self.position = name
        token.parts.append(self._parameter(self.text[start:name], self.text[name : self.position]))

    def _parameter(self, dollars: str, name: str) -> Piece:
        """The piece for dollar signs with this name behind them; without a name `$$` is the number of a process."""
        if not name:
            return Piece(dollars, substituted=dollars != "$")
        if dollars == "$$" or (dollars == "$" and not self.composed):
            return Piece(f"${name}", substituted=True)
        return Piece(dollars + name, substituted=True, filled_before=True)

    def _closed(self, opened: int) -> int:
        """Offset behind the bracket that closes the one at `opened`."""
        pairs = {"(": ")", "{": "}"}
        opening, closing, depth = self.text[opened], pairs[self.text[opened]], 0
        for index in range(opened, self.stop):
            depth += (self.text[index] == opening) - (self.text[index] == closing)
            if depth == 0:
                return index + 1
        return self._line_end()

    def _line_end(self) -> int:
        end = self.text.find("\n", self.position, self.stop)
        return self.stop if end < 0 else end
