"""Stored verdicts and warm-ups by the words that people have for them: a key's start, a model, an architecture."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from cache.verdicts.entry import Entry
from cache.verdicts.store import SHORTEST_PREFIX, VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.text import visible
from tuner.verdicts.origin import printable

MAX_CANDIDATES = 10
"""Candidates that an error lists."""
WILDCARDS = "*?["
"""A word with one of these is a pattern, as a shell takes it."""
_HEXADECIMAL = frozenset("0123456789abcdef")


def is_key_start(word: str) -> bool:
    """Whether a word can be the start of a key: at least 4 hexadecimal characters, in upper or lower case."""
    return len(word) >= SHORTEST_PREFIX and set(word.lower()) <= _HEXADECIMAL


def is_called(word: str, names: Iterable[str | None]) -> bool:
    """Whether a word is one of the names, or a pattern that fits one; case does not count.

    The part of a hub id behind its slash is a name, too.
    """
    pattern = word.lower()
    for name in names:
        lower = (name or "").lower()
        spellings = {lower, lower.rpartition("/")[2]} - {""}
        if pattern in spellings or any(fnmatchcase(spelling, pattern) for spelling in spellings):
            return True
    return False


def entry_called(store: VerdictStore, word: str) -> Entry:
    """The entry that a word means.

    Args:
        store: where it is.
        word: the start of a key, a model's name or folder, an architecture, or a pattern for one of the names.

    Raises:
        TunerError: it means none, or several; then the hint lists them.
        StoreError: the store or a record in it cannot be used.
    """
    (entry,) = _single(word, entries_called(store, [word]))
    return entry


def entries_called(store: VerdictStore, words: Sequence[str]) -> list[Entry]:
    """Every entry that one of the words means, each once, in the order of the words; arguments as `entry_called`.

    A key's start means one entry, and a name all entries of that name.

    Raises:
        TunerError: a word means none.
        StoreError: several keys start with a word, or the store or a record in it cannot be used.
    """
    chosen: dict[str, Entry] = {}
    for word in words:
        entries = _by_key(store, word) or [entry for entry in store.entries() if is_called(word, _names(entry))]
        if not entries:
            raise _nothing_called(store, word)
        chosen.update((entry.digest, entry) for entry in entries)
    return list(chosen.values())


def forget_called(store: VerdictStore, word: str) -> str:
    """Remove the entry that a word means, and return its digest; by its key an entry is removed even if it is damaged.

    Raises:
        TunerError, StoreError: as `entry_called`, or the store cannot be written.
    """
    digest = store.forget(word) if is_key_start(word) else None
    if digest is not None:
        return digest
    digest = entry_called(store, word).digest
    store.forget(digest)
    return digest


def _nothing_called(store: VerdictStore, word: str) -> TunerError:
    """What to say of a word that means no entry."""
    hint = (
        "Name a model, an architecture, a pattern such as 'Qwen*', or 4 or more\n"
        f"characters of a key. `{store.place.command('verdicts', 'list')}` shows them."
    )
    return TunerError(f"No stored verdict is called {word!r}.", hint=hint, kind=ErrorKind.NO_VERDICT)


def candidates(rows: Sequence[str]) -> str:
    """The lines of a hint that lists what a word may mean."""
    more = [f"and {len(rows) - MAX_CANDIDATES} more"] if len(rows) > MAX_CANDIDATES else []
    return "\n".join([*map(visible, rows[:MAX_CANDIDATES]), *more])


def _by_key(store: VerdictStore, word: str) -> list[Entry]:
    entry = store.find(word) if is_key_start(word) else None
    return [] if entry is None else [entry]


def _single(word: str, entries: Sequence[Entry]) -> Sequence[Entry]:
    if len(entries) == 1:
        return entries
    rows = [
        f"{entry.digest[:12]}  {_title(entry)}, vLLM {entry.key.get('vllm')}, {entry.key.get('platform')}"
        for entry in entries
    ]
    hint = f"Give the start of a key:\n{candidates(rows)}"
    raise TunerError(f"{len(entries)} stored verdicts are called {word!r}.", hint=hint, kind=ErrorKind.USAGE)


def _title(entry: Entry) -> str:
    return printable(entry.origin.name) if entry.origin else str(entry.key["architecture"])


def _names(entry: Entry) -> tuple[str | None, ...]:
    origin = (entry.origin.name, entry.origin.file) if entry.origin else ()
    return (str(entry.key["architecture"]), *origin)
