"""Which stored verdict a report is about: by its key, a folder with a config, a name, or an architecture."""

import re
from collections.abc import Sequence
from pathlib import Path

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.model.model import identify
from tuner.text import brief

_KEY = re.compile(r"[0-9a-f]{8,64}")


def chosen_entries(store: VerdictStore, name: str) -> list[Entry]:
    """The stored verdicts that a word means, the latest first.

    Args:
        store: the verdicts.
        name: 8 to 64 hexadecimal characters of a key; else a folder with a config.json; else the name of a model as it
            was probed, or an architecture. No hub is asked.

    Raises:
        TunerError: nothing is stored for it (kind `no_verdict`), or the folder's model cannot be read.
        StoreError: the store is damaged, or several keys start so.
    """
    entries = _of_key(store, name) or _named(store, name)
    if not entries:
        raise TunerError(
            f"No verdict is stored for {brief(name)}.",
            hint="`tuner verdicts list` shows what is stored; `tuner probe MODEL` makes a verdict.",
            kind=ErrorKind.NO_VERDICT,
        )
    return sorted(entries, key=lambda entry: entry.probed_at, reverse=True)


def _of_key(store: VerdictStore, name: str) -> Sequence[Entry]:
    entry = store.find(name) if _KEY.fullmatch(name) else None
    return [entry] if entry else []


def _named(store: VerdictStore, name: str) -> Sequence[Entry]:
    if (Path(name) / "config.json").is_file():
        fingerprint = identify(name).fingerprint
        return [entry for entry in store.entries() if entry.key.get("fingerprint") == fingerprint]
    return [entry for entry in store.entries() if _is_named(entry, name)]


def _is_named(entry: Entry, name: str) -> bool:
    return entry.key["architecture"] == name or (entry.origin is not None and entry.origin.name == name)
