"""The feed of changes: every stored verdict as the line of a bundle, in the order of the writes.

An item is one line of JSON: `sequence`, the number of the change, and `line`, the line of a bundle. A line that came
signed is given as it came, with its `signature`. Two headers go with
them. `Tuner-Next` is the number to ask for next. `Tuner-Feed` names the feed: it is another one after each start of the
service, whose store may be another one then, so whoever follows begins at 0 again.
"""

import json
from collections.abc import Mapping

from msgspec import Struct
from msgspec.json import decode
from msgspec.structs import asdict

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
        signature: the text of its signature file; empty if it has none.
    """

    sequence: int
    line: str
    signature: str = ""


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
        return "".join(json.dumps(asdict(item)) + "\n" for item in self.items)


def page_of(store: VerdictStore, since: int) -> Page:
    """The changes after one. An entry that this release cannot read is left out.

    Raises:
        StoreError: the store cannot be used.
    """
    items: list[Item] = []
    size, reached = 0, since
    for number, entry in store.changes(since, PAGE):
        item = _item(store, number, entry)
        length = len(item.line) if item else 0
        if items and size + length > MAX_PAGE:
            break
        reached, size = number, size + length
        if item:
            items.append(item)
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


def _item(store: VerdictStore, number: int, entry: Entry | Exception) -> Item | None:
    """A change; None for an entry that cannot be read."""
    if isinstance(entry, Exception):
        return None
    try:
        line, signature = line_of_entry(store, entry)
    except TunerError:
        return None
    return Item(number, line, signature)


def line_of_entry(store: VerdictStore, entry: Entry) -> tuple[str, str]:
    """The line of a bundle that carries a stored verdict, and its signature: as it came, if it came signed.

    Raises:
        ReportError: the rules of this release cannot read the entry's report.
        StoreError: the store cannot be used.
    """
    signed = store.signed_line(entry)
    return (signed.text, signed.signature) if signed else (exported_line(store, entry), "")
