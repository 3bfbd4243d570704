"""The words that a shell makes of a token: its substitutions made where the variables are known.

bash's reference manual, 3.5: parameter expansion, word splitting, and that a word which is empty and not quoted is
none. What makes file names of a word, or several words in braces, is unknown.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tuner.manifests.lexer import Piece, Token
from tuner.manifests.shell_variables import MAX_ITEMS, MAX_VALUE, Item, Value, Variables

_NAME = re.compile(r"\$([A-Za-z_]\w*)")
_EXPANSION = re.compile(r"\$\{([A-Za-z_]\w*)(?:\[([@*])\])?(?:(:?[-+=?])(.*))?\}", re.DOTALL)
_SPECIAL = re.compile(r"[$`'\"\\]")
_PATTERN = re.compile(r"[*?\[]")
_BRACES = re.compile(r"\{([^{}]*)\}")


class Word(NamedTuple):
    """A word of a command.

    Attributes:
        text: its value; what is not known stays as it is written.
        start: offset of what is written for it.
        stop: offset behind that.
        list_start: offset of the array that it is written in; -1 where it is a word of the command itself, or is
            written nowhere as it is.
        unknown: its value is not known, or how many words it is.
        alone: it is one substitution that is not known, and nothing else.
        written: it stands where `start` says, and is the whole of what stands there.
        broken: a quote in it is not closed.
        several: it is several words, and it is not known which.
    """

    text: str
    start: int
    stop: int
    list_start: int = -1
    unknown: bool = False
    alone: bool = False
    written: bool = True
    broken: bool = False
    several: bool = False


def words_of(token: Token, variables: Variables) -> list[Word]:
    """The words of a token; a value that is not known stays in them as it is written."""
    if not any(piece.substituted for piece in token.parts):
        braces = _has_braces(token)
        return [Word(token.text(), token.start, token.stop, unknown=braces, broken=token.broken, several=braces)]
    pieces = token.parts
    if any(_is_all(piece) for piece in pieces):
        pieces = [piece for piece in pieces if piece.text]  # "${LIST[@]}" of an empty list is no word
    fields = _Fields(token)
    for piece in pieces:
        if piece.substituted:
            fields.add_value(piece, _value(piece, variables), splits=not variables.sets("IFS"))
        else:
            fields.add(piece.text)
    return fields.words()


def evaluated(token: Token, variables: Variables) -> Value | None:
    """What an assignment sets; None if that is not known.

    Args:
        token: an assignment.
        variables: those before it.
    """
    if token.indexed or token.broken:
        return None
    before = variables.get(token.name) if token.adds else Value("", ())
    if before is None:
        return None
    if token.items is not None:
        return _array(token, before, variables)
    if token.adds and before.items is not None:
        return None
    text = before.text
    for piece in token.parts[1:]:
        value = _value(piece, variables) if piece.substituted else Value(piece.text)
        if value is None or (value.items is not None and _is_all(piece)) or len(text) + len(value.text) > MAX_VALUE:
            return None
        text += value.text
    return Value(text, None, token.start)


def _array(token: Token, before: Value, variables: Variables) -> Value | None:
    items = list(before.items or ())
    if before.items is None:
        items = [Item(before.text, token.start, token.stop)]
    for word in (word for item in token.items or () for word in words_of(item, variables)):
        if word.unknown or word.broken or len(items) >= MAX_ITEMS:
            return None
        literal = word.written and word.list_start < 0
        items.append(Item(word.text, word.start, word.stop, token.start if literal else word.list_start))
    if sum(len(item.text) for item in items) > MAX_VALUE:
        return None
    return Value(items[0].text if items else "", tuple(items), token.start)


def _value(piece: Piece, variables: Variables) -> Value | None:
    """What a substitution stands for; None if that is not known."""
    if piece.filled_before:
        return None
    if match := _NAME.fullmatch(piece.text):
        return variables.get(match[1])
    match = _EXPANSION.fullmatch(piece.text)
    value = variables.get(match[1]) if match else None
    if match is None or value is None:
        return None
    index, operator, alternative = match[2], match[3], match[4]
    if index and value.items is None:
        return None
    if index == "*" and piece.quoted:
        return Value(" ".join(item.text for item in value.items or ()))
    return value if not operator else _with_alternative(value, operator, alternative)


def _with_alternative(value: Value, operator: str, alternative: str) -> Value | None:
    """`${NAME:-…}` and its like, of a variable that is set."""
    if value.items is not None:
        return None
    empty = operator.startswith(":") and not value.text
    takes_alternative = empty if operator[-1] in "-=" else not empty
    if operator[-1] == "?":
        return None if empty else value
    if not takes_alternative:
        return value if operator[-1] != "+" else Value("")
    return None if _SPECIAL.search(alternative) else Value(alternative)


def _is_all(piece: Piece) -> bool:
    return "[@]" in piece.text or ("[*]" in piece.text and not piece.quoted)


def _has_braces(token: Token) -> bool:
    """Whether a shell makes several words of a token, as of `{a,b}`."""
    plain = "".join("\0" if piece.quoted else piece.text for piece in token.parts)
    return any("," in match[1] or ".." in match[1] for match in _BRACES.finditer(plain))


class _Fields:
    """The words of one token, as its pieces come."""

    def __init__(self, token: Token) -> None:
        self.token = token
        self.done: list[Word] = []
        self.texts: list[str] | None = None
        self.item: Item | None = None
        self.origin = token.start
        self.unknown = False

    def add(self, text: str, *, unknown: bool = False) -> None:
        """A text that belongs to the word that is being made."""
        self.texts = [] if self.texts is None else self.texts
        self.texts.append(text)
        self.unknown = self.unknown or unknown
        self.item = None

    def add_value(self, piece: Piece, value: Value | None, *, splits: bool) -> None:
        """A substitution.

        Args:
            piece: as it is written.
            value: what it stands for; None if that is not known.
            splits: a shell splits values at spaces, and nowhere else.
        """
        if value is not None and not piece.quoted:
            texts = [item.text for item in value.items] if value.items is not None else [value.text]
            if not splits or any(_PATTERN.search(text) for text in texts):
                value = None
        if value is None:
            self.add(piece.text, unknown=True)
        elif value.items is not None and _is_all(piece):
            self.add_items(value.items, quoted=piece.quoted)
        elif piece.quoted:
            self.add(value.text)
        else:
            self.add_split(value.text, value.start)

    def add_items(self, items: Sequence[Item], *, quoted: bool) -> None:
        """The items of an array: the first and the last of them belong to what stands around."""
        for index, item in enumerate(items):
            if index:
                self.end()
            if not quoted:
                self.add_split(item.text, item.start)
                continue
            whole = self.texts is None
            self.add(item.text)
            self.item = item if whole else None

    def add_split(self, text: str, start: int) -> None:
        """A value that is not quoted: a word behind each space."""
        if text[:1].isspace():
            self.end()
        for index, word in enumerate(text.split()):
            if index:
                self.end()
            self.origin = start if self.texts is None and start >= 0 else self.token.start
            self.add(word)
        if text[-1:].isspace():
            self.end()

    def end(self) -> None:
        """End the word that is being made. It is noted where its value is written."""
        if self.texts is None:
            return
        text, item = "".join(self.texts), self.item
        if item is not None:
            word = Word(text, item.start, item.stop, item.list_start, written=item.list_start >= 0)
        else:
            word = Word(text, self.origin, self.origin, unknown=self.unknown, written=False, broken=self.token.broken)
        self.done.append(word)
        self.texts, self.item, self.origin, self.unknown = None, None, self.token.start, False

    def words(self) -> list[Word]:
        """The words. One that is all that the token makes stands where the token does."""
        self.end()
        if len(self.done) != 1 or self.done[0].list_start >= 0:
            return self.done
        alone = self.done[0].unknown and len([piece for piece in self.token.parts if piece.text]) == 1
        return [self.done[0]._replace(start=self.token.start, stop=self.token.stop, alone=alone, written=True)]
