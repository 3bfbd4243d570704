"""All stored verdicts in one table: architectures by releases, one cell each, with its age. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cache.verdicts.entry import Entry
from rules.verdict import Verdict, Word

TONES = {Word.NOT_COMPILED: "open", Word.INCONCLUSIVE: "open"}


@dataclass(frozen=True)
class Release:
    """A column.

    Attributes:
        vllm: version of vLLM.
        platform: such as `cpu`.
    """

    vllm: str
    platform: str


@dataclass(frozen=True)
class Cell:
    """The latest verdict of one architecture with one release.

    Attributes:
        key: the entry's digest.
        word: the verdict, or `unreadable`.
        tone: `good`, `bad` or `open`, for its colour.
        probed_at: when, ISO 8601 in UTC.
        days: its age in whole days.
        model: what was probed; empty if that is not stored.
        others: how many more verdicts there are for the same cell.
        differ: one of these says something else.
    """

    key: str
    word: str
    tone: str
    probed_at: str
    days: int
    model: str
    others: int
    differ: bool


@dataclass(frozen=True)
class Overview:
    """The whole table.

    Attributes:
        releases: its columns, oldest release first.
        rows: architecture -> one cell or None for each column.
        count: how many verdicts are stored.
    """

    releases: tuple[Release, ...]
    rows: tuple[tuple[str, tuple[Cell | None, ...]], ...]
    count: int


def overview(entries: Iterable[tuple[Entry, Verdict | None]], now: datetime) -> Overview:
    """The table of these entries; a verdict is None for an entry that this release cannot read."""
    cells: dict[str, dict[Release, list[tuple[Entry, Verdict | None]]]] = {}
    for entry, verdict in entries:
        row = cells.setdefault(str(entry.key["architecture"]), {})
        row.setdefault(_release(entry), []).append((entry, verdict))
    releases = sorted(set[Release]().union(*cells.values()), key=_order)
    rows = []
    count = 0
    for name in sorted(cells):
        drawn = {release: _cell(stored, now) for release, stored in cells[name].items()}
        rows.append((name, tuple(map(drawn.get, releases))))
        count += sum(map(len, cells[name].values()))
    return Overview(tuple(releases), tuple(rows), count)


def _release(entry: Entry) -> Release:
    return Release(str(entry.key.get("vllm")), str(entry.key.get("platform")))


def _order(release: Release) -> tuple[list[int], str, str]:
    """Numbers of a version in order; the whole text decides between equal ones."""
    numbers = [int(number) for number in re.findall(r"\d{1,9}", release.vllm)]
    return numbers, release.vllm, release.platform


def _cell(entries: list[tuple[Entry, Verdict | None]], now: datetime) -> Cell:
    entry, verdict = max(entries, key=lambda pair: pair[0].probed_at)
    words = {_word(other) for _, other in entries}
    days = (now - datetime.fromisoformat(entry.probed_at)).days
    return Cell(
        key=entry.digest,
        word=_word(verdict),
        tone=_tone(verdict),
        probed_at=entry.probed_at,
        days=max(0, days),
        model=entry.origin.name if entry.origin else "",
        others=len(entries) - 1,
        differ=len(words) > 1,
    )


def _word(verdict: Verdict | None) -> str:
    return str(verdict.word) if verdict else "unreadable"


def _tone(verdict: Verdict | None) -> str:
    if verdict is None:
        return "open"
    return "good" if verdict.word.safe else TONES.get(verdict.word, "bad")
