"""The feed of changes: every stored verdict as the line of a bundle, in the order of the writes.

An item is one line of JSON: `sequence`, the number of the change, and `line`, the line of a bundle. Two headers go with
them. `Tuner-Next` is the number to ask for next. `Tuner-Feed` names the feed: it is another one after each start of the
service, whose store may be another one then, so whoever follows begins at 0 again.
"""

import json
from collections.abc import Mapping

from msgspec import Struct
from msgspec.json import decode

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.errors import TunerError
from tuner.exchange.transfer import exported_line

NEXT, FEED = "Tuner-Next", "Tuner-Feed"
PAGE = 100
"""Changes of one answer."""
MAX_PAGE = 16 * 2**20
"""Bytes of lines in one answer, unless its first line alone is longer."""


class Item(Struct, frozen=True):
    """One change.

    Attributes:
        sequence: its number.
        line: the line of a bundle, its end included.
    """

    sequence: int
    line: str


class Page(Struct, frozen=True):
    """Some changes.

    Attributes:
        items: in order.
        next: the number to ask for next.
    """

    items: tuple[Item, ...]
    next: int

    def text(self) -> str:
        """The items, one a line."""
        return "".join(json.dumps({"sequence": item.sequence, "line": item.line}) + "\n" for item in self.items)


def page_of(store: VerdictStore, since: int) -> Page:
    """The changes after one. An entry that this release cannot read is left out.

    Raises:
        StoreError: the store cannot be used.
    """
    items: list[Item] = []
    size, reached = 0, since
    for number, entry in store.changes(since, PAGE):
        line = _line(store, entry)
        if items and size + len(line) > MAX_PAGE:
            break
        reached, size = number, size + len(line)
        if line:
            items.append(Item(number, line))
    return Page(tuple(items), reached)


def read_page(text: bytes, headers: Mapping[str, str]) -> Page:
    """The changes in an answer of another service.

    Raises:
        ValueError: it is no such answer.
    """
    items = [decode(line, type=Item) for line in text.splitlines()]  # its errors are ValueErrors
    following = headers.get(NEXT.lower(), "")
    if not following.isdecimal() or len(following) > len(str(2**63)):
        raise ValueError(f"it has no number in {NEXT}")
    return Page(tuple(items), int(following))


def _line(store: VerdictStore, entry: Entry | Exception) -> str:
    """The line of an entry; empty for one that cannot be read."""
    if isinstance(entry, Exception):
        return ""
    try:
        return exported_line(store, entry)
    except TunerError:
        return ""
