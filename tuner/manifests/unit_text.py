"""Texts of systemd units: their entries, the words of an entry, and the variables in a word.

Of systemd's manual: systemd.syntax(7) for lines, quotes and escapes, systemd.service(5), "Command lines", for
variables, systemd.unit(5), "Specifiers", for `%i` and its like.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_CONTINUED = r"\\\n(?:[ \t]*[#;][^\n]*\n)*"
"""The end of a line that goes on in the next one; lines of comment between them are left out."""
_LINE = re.compile(
    rf"^[ \t]*(?:\[(?P<section>[^\]\n]+)\]"
    rf"|(?P<name>[A-Za-z][\w.-]*)[ \t]*=[ \t]*(?P<value>(?:[^\\\n]|\\[^\n]|{_CONTINUED})*))",
    re.MULTILINE,
)
_BLANK = re.compile(rf"[ \t]+|{_CONTINUED}")
_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|([0-3][0-7]{2})|([^\n]))")
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_ITSELF = "\\\"';"
_SPECIFIER = re.compile(r"%(.?)", re.DOTALL)
_VARIABLE = re.compile(r"\$\$|\$\{(\w+)\}")
_WHOLE = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Entry:
    """One `NAME=VALUE` of a unit.

    Attributes:
        section: the section it stands in, without brackets.
        name: its name.
        start: offset of its value.
        stop: offset behind its value, continued lines included.
    """

    section: str
    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class UnitWord:
    """A word of a value: what it says before specifiers and variables are filled in, and where it stands."""

    text: str
    start: int
    stop: int


def entries(text: str) -> Iterator[Entry]:
    """The entries of a unit, in order."""
    section = ""
    for match in _LINE.finditer(text):
        if match["section"] is not None:
            section = match["section"]
        else:
            yield Entry(section, match["name"], match.start("value"), match.end("value"))


def counted_entries(text: str) -> dict[tuple[str, str], list[Entry]]:
    """The entries that count, by section and name: an empty value takes back the ones before it."""
    counted: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries(text):
        values = counted.setdefault((entry.section, entry.name), [])
        if text[entry.start : entry.stop].strip():
            values.append(entry)
        else:
            values.clear()
    return counted


def without_taken_back(text: str) -> str:
    """The unit without the values that a later entry takes back; its lines stay where they are."""
    counted = {entry.start for values in counted_entries(text).values() for entry in values}
    pieces, position = [], 0
    for entry in entries(text):
        if entry.start not in counted:
            value = text[entry.start : entry.stop]
            pieces += [text[position : entry.start], "\n" * value.count("\n")]
            position = entry.stop
    return "".join([*pieces, text[position:]])


def words_of(text: str, entry: Entry) -> list[UnitWord]:
    """The words of an entry's value. A quote that is not closed goes on to the value's end."""
    words: list[UnitWord] = []
    position = entry.start
    while position < entry.stop:
        blank = _BLANK.match(text, position, entry.stop)
        if blank is not None:
            position = blank.end()
            continue
        word = _word(text, position, entry.stop)
        words.append(word)
        position = word.stop
    return words


def _word(text: str, start: int, stop: int) -> UnitWord:
    pieces: list[str] = []
    position, quote = start, ""
    while position < stop:
        here = text[position]
        blank = _BLANK.match(text, position, stop)
        if blank is not None and not quote:
            break
        escape = _ESCAPE.match(text, position, stop)
        if blank is not None:
            pieces.append(" " if here == "\\" else blank[0])
            position = blank.end()
        elif escape is not None:
            pieces.append(_escaped(escape))
            position = escape.end()
        else:
            quote = _quote_after(here, quote, pieces)
            position += 1
    return UnitWord("".join(pieces), start, position)


def _quote_after(here: str, quote: str, pieces: list[str]) -> str:
    """The quote that is open behind a character; the character is added if it is not a quote that opens or closes."""
    if here == quote:
        return ""
    if here in "\"'" and not quote:
        return here
    pieces.append(here)
    return quote


def _escaped(escape: re.Match[str]) -> str:
    """What a backslash and the characters behind it stand for; an escape that systemd does not know stays."""
    hexadecimal, octal, letter = escape[1] or escape[2], escape[3], escape[4]
    if hexadecimal is not None:
        return chr(int(hexadecimal, 16))
    if octal is not None:
        return chr(int(octal, 8))
    if letter in _ITSELF:
        return letter
    return _LETTERS.get(letter, "\\" + letter)


def specified(text: str) -> tuple[str, bool]:
    """A text with `%%` as `%`, and whether it holds specifiers, whose values are known where the unit runs alone."""
    unknown = any(match[1] != "%" for match in _SPECIFIER.finditer(text))
    return (text, True) if unknown else (text.replace("%%", "%"), False)


def filled(text: str, env: Mapping[str, str | None]) -> list[tuple[str, bool]]:
    """The words that a word of a command becomes, each with whether it is unknown.

    `${NAME}` is the variable's value as a part of the word, `$NAME` alone is as many words as its value has, and `$$`
    is one `$`. What is not known stays as it is written.
    """
    whole = _WHOLE.fullmatch(text)
    if whole is not None:
        value = env.get(whole[1])
        return [(text, True)] if value is None else [(word, False) for word in value.split()]
    names = [match[1] for match in _VARIABLE.finditer(text) if match[1] is not None]
    unknown = any(env.get(name) is None for name in names)
    return [(_VARIABLE.sub(lambda match: "$" if match[1] is None else env.get(match[1]) or match[0], text), unknown)]


def size_filled(text: str, env: Mapping[str, str | None]) -> int:
    """Characters that the variables of a word bring."""
    whole = _WHOLE.fullmatch(text)
    names = [whole[1]] if whole else [match[1] for match in _VARIABLE.finditer(text)]
    return sum(len(env.get(name) or "") for name in names)
