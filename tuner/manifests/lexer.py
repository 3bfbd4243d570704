"""Shell text as commands of words, each word with its place in the text. Reads; runs and expands nothing.

As bash splits (POSIX 2.2 and 2.3): quotes, backslashes, line continuations, comments, operators and redirections.
Substitutions stay as they are written, and a word knows that it has one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_OPERATORS = ";&|()\n"
_NAME = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_REDIRECTION = re.compile(r"(?:\d*|&)(?:>>|>\||>&|<<<|<<-?|<&|<>|[<>])")


@dataclass
class Token:
    """A word of a command.

    Attributes:
        start: offset of its first character, quotes included.
        stop: offset behind its last.
        parts: pieces of its value; a piece that is a substitution stands beside True.
        quoted: any of it is quoted.
        broken: a quote in it is not closed.
    """

    start: int
    stop: int = 0
    parts: list[tuple[str, bool]] = field(default_factory=list)
    quoted: bool = False
    broken: bool = False

    def text(self, variables: dict[str, str] | None = None) -> str:
        """Its value; substitutions of these variables are made, all others stay as they are written."""
        known = variables or {}
        return "".join(_known(piece, known) if substituted else piece for piece, substituted in self.parts)

    def unknown(self, variables: dict[str, str] | None = None) -> bool:
        """Whether it holds a substitution of anything but these variables."""
        known = variables or {}
        return self.broken or any(made and _known(piece, known) == piece for piece, made in self.parts)

    @property
    def whole(self) -> bool:
        """It is one substitution and nothing else, so it may stand for several words or none."""
        return [made for _, made in self.parts] == [True]


def _known(piece: str, known: dict[str, str]) -> str:
    match = _NAME.fullmatch(piece)
    return known.get(match[1] or match[2], piece) if match else piece


def commands(text: str, start: int = 0, stop: int | None = None, *, folded: bool = False) -> Iterator[list[Token]]:
    """The simple commands of a text, in order; empty ones are left out.

    Args:
        text: a file.
        start: offset at which the shell text begins.
        stop: offset behind its end; None: the file's end.
        folded: single line breaks separate words only, as in a folded YAML scalar; empty lines end a command.
    """
    lexer = _Lexer(text, start, len(text) if stop is None else stop, folded)
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

    def __init__(self, text: str, start: int, stop: int, folded: bool) -> None:
        self.text, self.position, self.stop, self.folded = text, start, stop, folded

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
        if self.here == "(" and token.parts and token.parts[-1] == ("=", False):  # an array: NAME=(…)
            end = self._closed(self.position)
            token.parts.append((self.text[self.position : end], True))
            self.position = end
        token.stop = self.position
        return token

    def _piece(self, token: Token) -> None:
        if self.here == "'":
            self._single(token)
        elif self.here == '"':
            self._double(token)
        elif self.here == "\\":
            token.parts.append((self.text[self.position + 1 : min(self.position + 2, self.stop)], False))
            self.position = min(self.position + 2, self.stop)
        elif self.here in "$`":
            self._substitution(token)
        else:
            token.parts.append((self.here, False))
            self.position += 1

    def _single(self, token: Token) -> None:
        end = self.text.find("'", self.position + 1, self.stop)
        token.quoted, token.broken = True, token.broken or end < 0
        end = self._line_end() if end < 0 else end
        token.parts.append((self.text[self.position + 1 : end], False))
        self.position = min(end + 1, self.stop)

    def _double(self, token: Token) -> None:
        token.quoted = True
        self.position += 1
        while self.here and self.here != '"':
            escaped = self.text[self.position + 1 : self.position + 2]
            if self.here == "\\" and escaped and escaped in '"\\$`\n':
                token.parts.append(("" if escaped == "\n" else escaped, False))
                self.position = min(self.position + 2, self.stop)
            elif self.here in "$`":
                self._substitution(token)
            else:
                token.parts.append((self.here, False))
                self.position += 1
        token.broken = token.broken or not self.here
        self.position = min(self.position + 1, self.stop)

    def _substitution(self, token: Token) -> None:
        """`$NAME`, `${…}`, `$(…)`, `$1`, or a command in backquotes, as it is written."""
        start = self.position
        if match := re.compile(r"\$(?:\w+|[@*#?$!-])").match(self.text, start, self.stop):
            self.position = match.end()
        elif self.here == "`":
            end = self.text.find("`", start + 1, self.stop)
            self.position = self._line_end() if end < 0 else end + 1
        elif self.text[start + 1 : start + 2] in ("(", "{") and start + 1 < self.stop:
            self.position = self._closed(start + 1)
        else:
            token.parts.append(("$", False))
            self.position += 1
            return
        token.parts.append((self.text[start : self.position], True))

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
