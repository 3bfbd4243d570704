"""Edits of a manifest's text: arguments put in, replaced and taken out, variables added. Nothing beside them. Pure.

A list in YAML, an exec form and a command line are spliced where they stand, so comments, order, quotes and anchors
stay as they are.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from tuner.manifests.launch import Argument, ArgumentList, Form, VariablePlace

_ITEM = re.compile(r"[ \t]*-[ \t]+")
_PLAIN = re.compile(r"-{1,2}[\w.-]+")
_PLAIN_PATH = re.compile(r"~?/[\w./-]+", re.ASCII)
"""A path that YAML reads as it is written; `~` alone would be a null."""


class NotEditable(Exception):  # noqa: N818  no failure: the file is left alone, and this says why
    """Arguments that cannot be edited where they stand; the message says why."""


@dataclass(frozen=True, order=True)
class Edit:
    """Replace the text between two offsets."""

    start: int
    stop: int
    text: str


@dataclass(frozen=True)
class Change:
    """A change of an argument list.

    Attributes:
        removed: indexes of the arguments to take out.
        added: the arguments to put in.
        at: index in front of which they belong; arguments to take out are counted.
    """

    removed: tuple[int, ...]
    added: tuple[str, ...]
    at: int

    def of(self, args: Sequence[str]) -> tuple[str, ...]:
        """The changed list."""
        before: list[str] = []
        behind: list[str] = []
        for index, arg in enumerate(args):
            if index not in self.removed:
                (before if index < self.at else behind).append(arg)
        return (*before, *self.added, *behind)


def edits_for(text: str, words: Sequence[Argument], change: Change, shared: frozenset[int] = frozenset()) -> list[Edit]:
    """The edits that make a change.

    Args:
        text: the file.
        words: the arguments as they stand in it.
        change: the change.
        shared: starts of the lists that other launches use, too; another list is preferred to them.

    Raises:
        NotEditable: the arguments stand where nothing can be edited safely.
    """
    for index in change.removed:
        if words[index].owner is None:
            raise NotEditable(_why(words[index].line))
    if _in_place(change):
        pairs = zip(change.removed, change.added, strict=True)
        return [_replaced(text, words[index], new) for index, new in pairs if words[index].text != new]
    inserted = [_inserted(text, words, change, shared)] if change.added else []
    return [*inserted, *_deleted(text, words, change.removed)]


def variable_edit(place: VariablePlace, name: str, value: str) -> Edit:
    """The edit that adds a variable to a pod's container; Kubernetes reads two dollars in a value as one."""
    written = value.replace("$", "$$")
    if place.quote == '"' or not written.isprintable():
        written = json.dumps(written)
    elif place.quote or not _PLAIN_PATH.fullmatch(written):
        written = "'" + written.replace("'", "''") + "'"
    return Edit(place.at, place.at, f"{place.before}{name}{place.between}{written}{place.behind}")


def spliced(text: str, edits: Sequence[Edit]) -> str:
    """The text with all edits made; of two at one place, an insertion comes first.

    Raises:
        NotEditable: two edits overlap.
    """
    pieces, position = [], 0
    for edit in sorted(set(edits)):
        if edit.start < position:
            raise NotEditable("two launches ask for different changes of one list")
        pieces += [text[position : edit.start], edit.text]
        position = edit.stop
    return "".join([*pieces, text[position:]])


def _why(line: int) -> str:
    return f"the arguments at line {line} are written in a form that cannot be edited safely; edit them by hand"


def _in_place(change: Change) -> bool:
    """Whether each new argument takes the place of an old one."""
    first = change.removed[0] if change.removed else 0
    run = tuple(range(first, first + len(change.removed)))
    return change.removed == run and len(run) == len(change.added) and change.at in {first, run[-1] + 1 if run else -1}


def _replaced(text: str, word: Argument, new: str) -> Edit:
    """A word written anew. A block scalar's place ends with its last line break."""
    ends = text[word.stop - 1 : word.stop] == "\n"
    return Edit(word.start, word.stop, _written(text, word, new) + ("\n" if ends else ""))


def _inserted(text: str, words: Sequence[Argument], change: Change, shared: frozenset[int]) -> Edit:
    word, after = _place(words, change, shared)
    options = [other for other in words if other.owner == word.owner and other.text.startswith("-")]
    written = [_written(text, options[-1] if options else word, new) for new in change.added]
    if word.owner is not None and word.owner.form is Form.BLOCK:
        return _new_items(text, word, written, after=after)
    separator = _separator(text, words, word)
    joined = (" " if word.owner is not None and word.owner.form is Form.SHELL else ", ").join(written)
    return Edit(word.stop, word.stop, separator + joined) if after else Edit(word.start, word.start, joined + separator)


def _place(words: Sequence[Argument], change: Change, shared: frozenset[int]) -> tuple[Argument, bool]:
    """The argument beside which the new ones go, and whether they go behind it.

    A list that no other launch uses comes before a shared one; the argument in front comes before the one behind.

    Raises:
        NotEditable: neither neighbour stands in a list that can be edited.
    """
    before, behind = _neighbours(words, change)
    places: list[tuple[Argument, bool]] = []
    if before is not None and before.owner is not None:
        places.append((before, True))
    if behind is not None and behind.owner is not None:
        places.append((behind, False))
    if places:
        return min(places, key=lambda place: place[0].owner is not None and place[0].owner.start in shared)
    neighbour = before or behind
    if neighbour is None or not neighbour.line:
        raise NotEditable("there is no argument list to put anything into; edit it by hand")
    raise NotEditable(_why(neighbour.line))


def _neighbours(words: Sequence[Argument], change: Change) -> tuple[Argument | None, Argument | None]:
    """The arguments that stay, nearest to the place of the new ones: in front of it, and behind it."""
    before, behind = None, None
    for index, word in enumerate(words):
        if index in change.removed:
            continue
        if index < change.at:
            before = word
        elif behind is None:
            behind = word
    return before, behind


def _separator(text: str, words: Sequence[Argument], word: Argument) -> str:
    """What stands between two arguments here: as in front of this one, where it is a line of its own."""
    if word.owner is None or word.owner.form is not Form.SHELL:
        return ", "
    index = words.index(word)
    # An option's value stands behind it; what separates options stands in front of the option.
    option = next((i for i in range(index, 0, -1) if words[i].text.startswith("-")), 0)
    between = text[words[option - 1].stop : words[option].start] if option else " "
    return between if re.fullmatch(r"(?:[ \t]*\\)?\n?[ \t]*", between) and between.strip("\\ \t\n") == "" else " "


def _new_items(text: str, word: Argument, written: Sequence[str], *, after: bool) -> Edit:
    """Items of a YAML list on lines of their own."""
    start, stop = _lines_of(text, word)
    prefix = text[start : word.start]
    if not _ITEM.fullmatch(prefix):
        raise NotEditable(_why(word.line))
    end = "\r\n" if text[:stop].endswith("\r\n") else "\n"
    lines = "".join(f"{prefix}{item}{end}" for item in written)
    if not after:
        return Edit(start, start, lines)
    open_end = stop == len(text) and not text.endswith("\n")
    return Edit(stop, stop, f"\n{lines.removesuffix(end)}" if open_end else lines)


def _deleted(text: str, words: Sequence[Argument], removed: Sequence[int]) -> Iterator[Edit]:
    """Each run of arguments of one list taken out."""
    runs = groupby(enumerate(removed), key=lambda pair: (pair[1] - pair[0], words[pair[1]].owner))
    for (_, owner), run in runs:
        indexes = [index for _, index in run]
        first, last = words[indexes[0]], words[indexes[-1]]
        if owner is not None and owner.form is Form.BLOCK:
            for index in indexes:
                yield Edit(*_whole_item(text, words[index]), "")
            continue
        before = _of_list(words, indexes[0] - 1, owner)
        behind = _of_list(words, indexes[-1] + 1, owner)
        if before is not None:
            yield Edit(before.stop, last.stop, "")
        else:
            yield Edit(first.start, behind.start if behind is not None else last.stop, "")


def _of_list(words: Sequence[Argument], index: int, owner: ArgumentList | None) -> Argument | None:
    return words[index] if 0 <= index < len(words) and words[index].owner == owner else None


def _whole_item(text: str, word: Argument) -> tuple[int, int]:
    start, stop = _lines_of(text, word)
    if not _ITEM.fullmatch(text[start : word.start]):
        raise NotEditable(_why(word.line))
    return start, stop


def _lines_of(text: str, word: Argument) -> tuple[int, int]:
    """The lines that an item stands on, line breaks included; a comment behind it is part of them."""
    start = text.rfind("\n", 0, word.start) + 1
    if text[word.stop - 1 : word.stop] == "\n":
        return start, word.stop
    end = text.find("\n", word.stop)
    return start, len(text) if end < 0 else end + 1


def _written(text: str, word: Argument, new: str) -> str:
    """How an argument is written in the list that this word stands in."""
    owner = word.owner
    if owner is None:
        raise NotEditable(_why(word.line))
    if owner.form is Form.SHELL:
        quoted = shlex.quote(new)
        if owner.plain_yaml and re.search(r": | #", quoted):
            raise NotEditable(_why(word.line))
        return quoted
    argument = shlex.quote(new) if owner.shell_quoted else new
    if owner.form is Form.JSON:
        return json.dumps(argument)
    quote = text[word.start : word.start + 1]
    if _PLAIN.fullmatch(argument):
        return f"{quote}{argument}{quote}" if quote in "\"'" else argument
    return "'" + argument.replace("'", "''") + "'"
