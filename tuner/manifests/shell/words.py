"""The words that a shell makes of a token: its substitutions made where the variables are known.

bash's reference manual, 3.5: parameter expansion, word splitting, and that a word which is empty and not quoted is
none. What makes file names of a word, or several words in braces, is unknown.
"""

import re
from collections.abc import Sequence
from itertools import chain, groupby
from typing import NamedTuple

from tuner.manifests.shell.lexer import Piece, Token
from tuner.manifests.shell.variables import MAX_ITEMS, MAX_VALUE, Item, Part, Value, Variables

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
        pieces = [piece for piece in pieces if piece.text]  # "${LIST[@]}" of an empty list is not a word
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
    before = variables.get(token.name) if token.adds else Value((), ())
    if before is None:
        return None
    if token.items is not None:
        return _array(token, before, variables)
    if token.adds and before.items is not None:
        return None
    parts = list(before.parts)
    for piece in token.parts[1:]:
        parts += _parts(piece, variables)
    size = sum(len(part.text) for part in parts)
    nothing_known = size > 0 and not any(part.text for part in parts if not part.unknown)
    return None if nothing_known or size > MAX_VALUE else Value(_merged(parts), None, token.start)


def _parts(piece: Piece, variables: Variables) -> tuple[Part, ...]:
    """What a piece adds to a text."""
    if not piece.substituted:
        return (Part(piece.text),)
    value = _value(piece, variables)
    if value is None or (value.items is not None and _is_all(piece)):
        return (Part(piece.text, unknown=True),)
    return value.parts


def _merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts of a text, those that are known and stand side by side as one."""
    merged: list[Part] = []
    for unknown, group in groupby(parts, key=lambda part: part.unknown):
        group_parts = list(group)
        merged += group_parts if unknown else [Part("".join(part.text for part in group_parts))]
    return tuple(merged)


def _array(token: Token, before: Value, variables: Variables) -> Value | None:
    items = list(before.items or ())
    if before.items is None:
        items = [Item(before.text, token.start, token.stop, unknown=before.unknown)]
    tokens = token.items or []
    if any(item.broken or item.text().startswith("[") for item in tokens):  # [INDEX]=VALUE
        return None
    for word in chain.from_iterable(words_of(item, variables) for item in tokens):
        own = token.start if word.written and word.list_start < 0 else word.list_start
        items.append(Item(word.text, word.start, word.stop, own, word.unknown, word.alone, word.several))
    if len(items) > MAX_ITEMS or sum(len(item.text) for item in items) > MAX_VALUE:
        return None
    first = (Part(items[0].text, items[0].unknown),) if items else ()
    return Value(first, tuple(items), token.start)


def _value(piece: Piece, variables: Variables) -> Value | None:
    """What a substitution stands for; None if that is not known."""
    if piece.filled_before:
        return None
    if name := _NAME.fullmatch(piece.text):
        return variables.get(name[1])
    match = _EXPANSION.fullmatch(piece.text)
    value = variables.get(match[1]) if match else None
    if match is None or value is None:
        return None
    if match[2]:
        return _all_items(value, joined=match[2] == "*" and piece.quoted) if not match[3] else None
    return _with_alternative(value, match[3], match[4]) if match[3] else value


def _all_items(value: Value, *, joined: bool) -> Value | None:
    """All items of an array, as one text if they are `joined`."""
    if value.items is None or (joined and value.unknown):
        return None
    return Value((Part(" ".join(item.text for item in value.items)),)) if joined else value


def _with_alternative(value: Value, operator: str, alternative: str) -> Value | None:
    """`${NAME:-…}` and its like, of a variable that is set."""
    if value.items is not None or value.unknown:
        return None
    empty = operator.startswith(":") and not value.text
    takes_alternative = empty if operator[-1] in "-=" else not empty
    if operator[-1] == "?":
        return None if empty else value
    if not takes_alternative:
        return value if operator[-1] != "+" else Value(())
    return None if _SPECIAL.search(alternative) else Value((Part(alternative),))


def _is_all(piece: Piece) -> bool:
    return "[@]" in piece.text or ("[*]" in piece.text and not piece.quoted)


def _names_files(value: Value) -> bool:
    """Whether a shell looks for files of a value that is not quoted."""
    texts = [item.text for item in value.items] if value.items is not None else [value.text]
    return any(_PATTERN.search(text) for text in texts)


def _has_several_words(value: Value) -> bool:
    """Whether a value that is known in part is worth to be put in: a command in a text, or a list."""
    return value.items is not None or any(" " in part.text for part in value.parts if not part.unknown)


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

    def add(self, text: str, *, unknown: bool = False, start: int = -1) -> None:
        """A text that belongs to the word that is being made; `start` is where its value is written, if elsewhere."""
        if self.texts is None:
            self.texts = []
            self.origin = start if start >= 0 else self.token.start
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
        certain = value is not None and (piece.quoted or (splits and not _names_files(value)))
        if value is None or not certain or (value.unknown and not _has_several_words(value)):
            self.add(piece.text, unknown=True)
        elif value.items is not None and _is_all(piece):
            self.add_items(value.items, quoted=piece.quoted)
        else:
            self.add_parts(value.parts, value.start, quoted=piece.quoted)

    def add_parts(self, parts: Sequence[Part], start: int, *, quoted: bool) -> None:
        """A text; what is not known in it stays as it is written there."""
        for part in parts:
            if quoted or part.unknown:
                self.add(part.text, unknown=part.unknown, start=start)
            else:
                self.add_split(part.text, start)

    def add_items(self, items: Sequence[Item], *, quoted: bool) -> None:
        """The items of an array: the first and the last of them belong to what stands around."""
        for index, item in enumerate(items):
            if index:
                self.end()
            if not quoted and not item.unknown:
                self.add_split(item.text, item.start)
                continue
            whole = self.texts is None
            self.add(item.text, unknown=item.unknown)
            self.item = item if whole else None

    def add_split(self, text: str, start: int) -> None:
        """A value that is not quoted: a word behind each space."""
        if text[:1].isspace():
            self.end()
        for index, word in enumerate(text.split()):
            if index:
                self.end()
            self.add(word, start=start)
        if text[-1:].isspace():
            self.end()

    def end(self) -> None:
        """End the word that is being made. It is noted where its value is written."""
        if self.texts is None:
            return
        text, item = "".join(self.texts), self.item
        if item is not None:
            place = Word(text, item.start, item.stop, item.list_start, written=item.list_start >= 0)
            word = place._replace(unknown=item.unknown, alone=item.alone, several=item.several)
        else:
            alone = self.unknown and len([part for part in self.texts if part]) == 1
            place = Word(text, self.origin, self.origin, written=False, broken=self.token.broken)
            word = place._replace(unknown=self.unknown, alone=alone)
        self.done.append(word)
        self.texts, self.item, self.origin, self.unknown = None, None, self.token.start, False

    def words(self) -> list[Word]:
        """The words. One that is all that the token makes stands where the token does."""
        self.end()
        if len(self.done) != 1 or self.done[0].list_start >= 0:
            return self.done
        return [self.done[0]._replace(start=self.token.start, stop=self.token.stop, written=True)]
