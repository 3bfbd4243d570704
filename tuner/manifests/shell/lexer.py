"""Shell text as commands of words, each word with its place in the text. Reads; runs and expands nothing.

As bash splits (POSIX 2.2, 2.3, 2.7 and 2.10): quotes, backslashes, line continuations, comments, operators,
redirections and here-documents. Substitutions stay as they are written, and a word knows that it has one.

Docker Compose and the kubelet turn `$$` into `$` before a shell reads the text, and so do systemd and make. In a shell
`$$NAME` would be its process number with a word behind it, which nobody writes. So `$$NAME` is the shell's `$NAME`
everywhere, and is kept as that.

A text with errors is read on behind them: documents hold fragments, prompts and placeholders such as `<MODEL>`, which
a grammar of bash cannot place.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

_OPERATOR = re.compile(r"&&|\|\||;;&|;;|;&|\|&|[;&|()\n]")
_CONNECTORS = frozenset({"&&", "||", "|", "|&"})
"""Operators behind which a command goes on in the next line."""
_REDIRECTION = re.compile(r"(?:\d*|&|\{(?P<opened>[A-Za-z_]\w*)\})(?P<operator>>>|>\||>&|<<<|<<-?|<&|<>|[<>])(?!\()")
_PLAIN = re.compile(r"[^\s'\"\\$`<>;&|()]+")
_PLAIN_QUOTED = re.compile(r"[^\"\\$`]+")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\[[^\]\s'\"$`]*\])?(\+?)=")
_PLACEHOLDER = re.compile(r"<(?:\.\.\.|[A-Za-z](?:[\w ./-]*[\w./-])?)>")
"""What a document writes where the reader has to put something in."""
_DOLLARS = re.compile(r"\$+")
_PARAMETER = re.compile(r"[A-Za-z_]\w*|\d|[@*]")
_SPECIAL = re.compile(r"[#?!-]")
"""Parameters that are one word; behind `$$` they are left to it, as in `run.$$-log`."""
_ANSI_QUOTE = re.compile(r"\$'((?:[^'\\]|\\.)*)'", re.DOTALL)
"""A quote with escapes of C, which are left as they are written."""
_NESTED = re.compile(r"\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"|[()]", re.DOTALL)
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_MOST_UNCLOSED = 16
"""Brackets without an end for which the rest of the text is searched. Further ones end with their line at once."""


class Piece(NamedTuple):
    """A part of a word's value.

    Attributes:
        text: its value, or the substitution as a shell would read it.
        substituted: it is a substitution.
        filled_before: what stands for it comes from outside, before a shell reads the text; the variables of the
            text say nothing of it.
        quoted: it stands in quotes or behind a backslash.
    """

    text: str
    substituted: bool = False
    filled_before: bool = False
    quoted: bool = False


@dataclass
class Token:
    """A word of a command.

    Attributes:
        start: offset of its first character, quotes included.
        stop: offset behind its last.
        parts: the pieces of its value.
        broken: a quote in it is not closed.
        name: the variable, where it is an assignment; its first piece is then all up to the `=`.
        adds: the assignment is `NAME+=`.
        indexed: the assignment is `NAME[…]=`.
        items: the words of an array, where `NAME=(…)` assigns one; else None.
    """

    start: int
    stop: int = 0
    parts: list[Piece] = field(default_factory=list)
    broken: bool = False
    name: str = ""
    adds: bool = False
    indexed: bool = False
    items: "list[Token] | None" = None

    def text(self) -> str:
        """Its value, every substitution as it is written."""
        return "".join(piece.text for piece in self.parts)

    @property
    def literal(self) -> str:
        """Its value if nothing in it is quoted or substituted; else empty. Keywords are such words."""
        plain = all(not piece.substituted and not piece.quoted for piece in self.parts)
        return self.text() if plain else ""


@dataclass
class Document:
    """A here-document.

    Attributes:
        start: offset of its first line.
        stop: offset behind its last, the one that ends it left out.
        verbatim: its delimiter is quoted, so that the shell substitutes nothing in it.
    """

    start: int
    stop: int
    verbatim: bool


@dataclass
class Command:
    """A simple command, or a part of a compound one, as the operators of the text separate them.

    Attributes:
        words: its words, assignments and keywords included; redirections are left out.
        operator: what ends it, such as `;`, `&&` or a line break; empty at the end of the text.
        documents: the here-documents of its line.
        opened: variables that its redirections set to the number of a file, as `{NAME}>FILE` does.
    """

    words: list[Token]
    operator: str
    documents: list[Document] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)


def commands(text: str, start: int = 0, stop: int | None = None, *, folded: bool = False) -> Iterator[list[Token]]:
    """The words of the commands of a text, in order; those of `split` without their operators."""
    for command in split(text, start, stop, folded=folded):
        if command.words:
            yield command.words


def split(
    text: str, start: int = 0, stop: int | None = None, *, folded: bool = False, composed: bool = False
) -> Iterator[Command]:
    """The commands of a text, in order; one without words is there for its operator.

    Args:
        text: a file.
        start: offset at which the shell text begins.
        stop: offset behind its end; None: the file's end.
        folded: single line breaks separate words only, as in a folded YAML scalar; empty lines end a command.
        composed: Docker Compose reads the text first, and fills in `$NAME` from where it is started.
    """
    lexer = _Lexer(text, start, len(text) if stop is None else stop, folded, composed)
    words: list[Token] = []
    before = ""
    while (item := lexer.item()) is not None:
        if isinstance(item, Token):
            words.append(item)
        elif item == "\n" and not words and before in _CONNECTORS:
            continue
        else:
            yield Command(words, item, lexer.documents() if item == "\n" else [], lexer.opened)
            words, before, lexer.opened = [], item, []
    if words:
        yield Command(words, "", opened=lexer.opened)


class _Lexer:
    """Where reading is, and how the next word is read."""

    def __init__(self, text: str, start: int, stop: int, folded: bool, composed: bool) -> None:
        self.text, self.position, self.stop, self.folded, self.composed = text, start, stop, folded, composed
        self.delimiters: list[Token] = []
        self.opened: list[str] = []
        self.unclosed = 0
        self.in_array = False

    @property
    def here(self) -> str:
        return self.text[self.position] if self.position < self.stop else ""

    def item(self) -> Token | str | None:
        """The next word, or the next operator; None at the end."""
        while self.position < self.stop:
            if self.at_space():
                self.position += 1
            elif self.at_continuation():
                self.position += 2
            elif self.here == "#":
                self.position = self._line_end()
            elif self.here == "<" and _PLACEHOLDER.match(self.text, self.position, self.stop):
                return self.word()
            elif redirection := _REDIRECTION.match(self.text, self.position, self.stop):
                self.position = redirection.end()
                self.opened += filter(None, [redirection["opened"]])
                self._skip_target(document=redirection["operator"] in {"<<", "<<-"})
            elif operator := _OPERATOR.match(self.text, self.position, self.stop):
                arithmetic = self._arithmetic()
                self.position = arithmetic.stop if arithmetic else operator.end()
                return arithmetic or operator[0]
            else:
                return self.word()
        return None

    def at_space(self) -> bool:
        if self.here in " \t\r":
            return True
        if not self.folded or self.here != "\n":
            return False
        line_end = self.text.find("\n", self.position + 1, self.stop)
        return bool(self.text[self.position + 1 : self.stop if line_end < 0 else line_end].strip())

    def at_continuation(self) -> bool:
        return self.text.startswith("\\\n", self.position) and self.position + 2 <= self.stop

    def documents(self) -> list[Document]:
        """The here-documents that begin with the line that was ended; reading goes on behind them."""
        read = [self._document(token) for token in self.delimiters]
        self.delimiters = []
        return read

    def _document(self, delimiter: Token) -> Document:
        """A body ends with a line of the delimiter alone. Lines may be indented: those of a YAML text are."""
        start, verbatim = self.position, any(piece.quoted for piece in delimiter.parts)
        while self.position < self.stop:
            line, end = self.position, self._line_end()
            self.position = min(end + 1, self.stop)
            if self.text[line:end].strip() == delimiter.text():
                return Document(start, line, verbatim)
        return Document(start, self.stop, verbatim)

    def _skip_target(self, *, document: bool) -> None:
        while self.here and self.here in " \t":
            self.position += 1
        if self.here == "&":  # of `2>&1` written apart
            self.position += 1
        elif self.here and (self.here not in "\r\n;&|()<>#" or self._at_process()):
            target = self.word()
            if document:
                self.delimiters.append(target)

    def _at_process(self) -> bool:
        """Whether `<(…)` or `>(…)` stands here, which is a word."""
        return self.text[self.position : self.position + 2] in {"<(", ">("}

    def _arithmetic(self) -> Token | None:
        """`((…))` as one word, if it stands here: it may assign variables, and runs nothing."""
        if not self.text.startswith("((", self.position):
            return None
        end = self._closed(self.position)
        written = self.text[self.position : end]
        if not written.endswith("))") or "vllm" in written:
            return None
        return Token(self.position, end, [Piece(written, substituted=True)])

    def word(self) -> Token:
        token = Token(self.position)
        if assignment := _ASSIGNMENT.match(self.text, self.position, self.stop):
            token.name, token.indexed, token.adds = assignment[1], bool(assignment[2]), bool(assignment[3])
            token.parts.append(Piece(assignment[0]))
            self.position = token.stop = assignment.end()
            if self.here == "(" and not self.in_array:
                self._array(token)
        while self.position < self.stop and self._piece(token):
            pass
        return token

    def _array(self, token: Token) -> None:
        """The words of `NAME=(…)`, in as many lines as it has."""
        start = self.position
        token.items = []
        self.in_array = True
        self.position += 1
        while (item := self.item()) is not None and item != ")":
            if isinstance(item, Token):
                token.items.append(item)
        self.in_array = False
        token.broken = item is None
        token.parts.append(Piece(self.text[start : self.position], substituted=True))
        token.stop = self.position

    def _piece(self, token: Token) -> bool:
        """Read the next part of a word; whether there was one."""
        if self.at_continuation():
            self.position += 2
            return True
        if plain := _PLAIN.match(self.text, self.position, self.stop):
            token.parts.append(Piece(plain[0]))
            self.position = plain.end()
        elif self.here == "'":
            self._single(token)
        elif self.text.startswith(('"', '$"'), self.position):  # the second asks for a translation
            self._double(token)
        elif self.here == "\\":
            token.parts.append(Piece(self.text[self.position + 1 : min(self.position + 2, self.stop)], quoted=True))
            self.position = min(self.position + 2, self.stop)
        elif ansi := _ANSI_QUOTE.match(self.text, self.position, self.stop):
            escaped = "\\" in ansi[1]
            token.parts.append(Piece(ansi[0] if escaped else ansi[1], substituted=escaped, quoted=True))
            self.position = ansi.end()
        elif self.here in "$`":
            self._substitution(token, quoted=False)
        elif placeholder := _PLACEHOLDER.match(self.text, self.position, self.stop):
            token.parts.append(Piece(placeholder[0], substituted=True))
            self.position = placeholder.end()
        elif self._at_process():
            start, self.position = self.position, self._closed(self.position + 1)
            token.parts.append(Piece(self.text[start : self.position], substituted=True))
        else:
            return self._other(token)
        token.stop = self.position
        return True

    def _other(self, token: Token) -> bool:
        """A space that is none to a shell, such as a no-break space, is a character of the word."""
        if self.here in " \t\r\n<>;&|()":
            return False
        token.parts.append(Piece(self.here))
        self.position += 1
        token.stop = self.position
        return True

    def _single(self, token: Token) -> None:
        end = self.text.find("'", self.position + 1, self.stop)
        token.broken = token.broken or end < 0
        end = self._line_end() if end < 0 else end
        token.parts.append(Piece(self.text[self.position + 1 : end], quoted=True))
        self.position = min(end + 1, self.stop)

    def _double(self, token: Token) -> None:
        token.parts.append(Piece("", quoted=True))
        self.position = self.text.index('"', self.position) + 1
        while self.here and self.here != '"':
            escaped = self.text[self.position + 1 : self.position + 2]
            if plain := _PLAIN_QUOTED.match(self.text, self.position, self.stop):
                token.parts.append(Piece(plain[0], quoted=True))
                self.position = plain.end()
            elif self.here in "$`":
                self._substitution(token, quoted=True)
            elif escaped and escaped in '"\\$`\n':
                token.parts.append(Piece("" if escaped == "\n" else escaped, quoted=True))
                self.position = min(self.position + 2, self.stop)
            else:
                token.parts.append(Piece("\\", quoted=True))
                self.position += 1
        token.broken = token.broken or not self.here
        self.position = min(self.position + 1, self.stop)

    def _substitution(self, token: Token, *, quoted: bool) -> None:
        """`$NAME`, `${…}`, `$(…)`, `$1`, each with one `$` or two, or a command in backquotes."""
        start = self.position
        if self.here == "`":
            end = self.text.find("`", start + 1, self.stop)
            self.position = self._line_end() if end < 0 else end + 1
            token.parts.append(Piece(self.text[start : self.position], substituted=True, quoted=quoted))
            return
        dollars = _DOLLARS.match(self.text, start, self.stop)
        name = dollars.end() if dollars else start + 1
        match = _PARAMETER.match(self.text, name, self.stop)
        if match is None and name == start + 1:
            match = _SPECIAL.match(self.text, name, self.stop)
        if match is not None:
            self.position = match.end()
        elif self.text[name : name + 1] in {"(", "{"} and name < self.stop:
            self.position = self._closed(name)
        else:
            self.position = name
        piece = self._parameter(self.text[start:name], self.text[name : self.position])
        token.parts.append(piece._replace(quoted=quoted))

    def _parameter(self, dollars: str, name: str) -> Piece:
        """The piece for dollar signs with this name behind them; without a name `$$` is the number of a process."""
        if not name:
            return Piece(dollars, substituted=dollars != "$")
        if dollars == "$$" or (dollars == "$" and not self.composed):
            return Piece(f"${name}", substituted=True)
        return Piece(dollars + name, substituted=True, filled_before=True)

    def _closed(self, opened: int) -> int:
        """Offset behind the bracket that closes the one at `opened`; behind the line if nothing closes it."""
        opening, depth = self.text[opened], 0
        if self.unclosed < _MOST_UNCLOSED:
            for match in (_NESTED if opening == "(" else _BRACES).finditer(self.text, opened, self.stop):
                depth += (match[0] in "({") - (match[0] in ")}")
                if depth == 0 and match[0] in ")}":
                    return match.end()
            self.unclosed += 1
        return self._line_end()

    def _line_end(self) -> int:
        end = self.text.find("\n", self.position, self.stop)
        return self.stop if end < 0 else end
