"""What is wrong with a cache root for whoever must trust it: secrets, permissions, owners, pickles, links."""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cache.compiled.entry import MODEL, CacheEntry
from cache.compiled.files import Item, read_bytes
from cache.compiled.layout import CacheRoot, place_of
from cache.secrets import refused_in_text, refused_values

MAX_TEXT = 1 << 20
"""Bytes. Larger files are not searched for secrets, nor are those with a zero byte: no text has one."""
_PICKLED = {"fxgraph", "aotautograd"}
"""Folders of Inductor's cache whose files it unpickles (torch/_inductor/codecache.py)."""


class ScanLevel(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Somebody can read what they must not, or make the server run what they like."""
    WARNING = "warning"
    """Something could not be looked at."""
    NOTE = "note"
    """Worth knowing."""


class Matter(StrEnum):
    """What a finding is about."""

    SECRET = "secret"  # noqa: S105  a word, not a password
    WRITABLE = "world-writable"
    FOREIGN = "foreign-owner"
    UNREADABLE = "unreadable"
    LINK = "link-out"
    PICKLE = "unknown-pickle"


@dataclass(frozen=True)
class ScanFinding:
    """One finding.

    Attributes:
        matter: what it is about.
        level: how bad.
        path: where, below the root; of several the first.
        count: how many things it is about.
        message: what is wrong, a sentence. No value of a secret is in it.
        hint: what to do.
    """

    matter: Matter
    level: ScanLevel
    path: str
    count: int
    message: str
    hint: str


def scan(root: CacheRoot, environ: Mapping[str, str], user: int) -> list[ScanFinding]:
    """All findings, the worst first.

    Args:
        root: the cache root; small text files in it are read.
        environ: the variables whose secret values are looked for.
        user: the user whose files belong here, beside those of user 0.
    """
    items, unread = root.listing.items, list(root.listing.unread)
    findings = [
        *_secrets(root.path, items, refused_values(environ), unread),
        *_writable(items),
        *_foreign(items, user),
        *_unreadable(sorted(unread)),
        *_links(root.path, items),
        *_pickles(root),
    ]
    return sorted(findings, key=lambda finding: list(ScanLevel).index(finding.level))


def _secrets(
    root: Path, items: Iterable[Item], values: Mapping[str, tuple[bytes, ...]], unread: list[str]
) -> Iterator[ScanFinding]:
    for item in items:
        if not item.is_file or item.size > MAX_TEXT:
            continue
        try:
            text = read_bytes(root / item.path, MAX_TEXT)
        except FileNotFoundError:
            continue
        except OSError:
            unread.append(item.path)
            continue
        names = [] if b"\0" in text else refused_in_text(text, values)
        if names:
            message = f"The value of {', '.join(names)} is written here in clear."
            hint = (
                "Whoever can read the cache has it: change the secret, remove the entry, and warm without the variable."
            )
            yield ScanFinding(Matter.SECRET, ScanLevel.ERROR, item.path, len(names), message, hint)


def _writable(items: Iterable[Item]) -> Iterator[ScanFinding]:
    loose = [item for item in items if item.mode & stat.S_IWOTH and (item.is_file or item.is_folder)]
    for place, group in _by_place(loose).items():
        message = f"Every user can write this{_more(group, place)}, and so choose what vLLM loads."
        hint = "Take the permission away with chmod -R o-w, and make the entry anew: it may have been changed."
        yield ScanFinding(Matter.WRITABLE, ScanLevel.ERROR, group[0].path, len(group), message, hint)


def _foreign(items: Iterable[Item], user: int) -> Iterator[ScanFinding]:
    foreign = [item for item in items if item.uid not in {user, 0}]
    for place, group in _by_place(foreign).items():
        owners = ", ".join(map(str, sorted({item.uid for item in group})))
        message = f"Another user (number {owners}) owns this{_more(group, place)}, and can change it."
        hint = "Run this as the user who serves; if it is that user, make the entry anew, or chown it."
        yield ScanFinding(Matter.FOREIGN, ScanLevel.ERROR, group[0].path, len(group), message, hint)


def _unreadable(paths: list[str]) -> Iterator[ScanFinding]:
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        message = f"This{more} could not be read; its content is not known."
        yield ScanFinding(
            Matter.UNREADABLE, ScanLevel.WARNING, paths[0], len(paths), message, "Run this as the user who serves."
        )


def _links(root: Path, items: Iterable[Item]) -> Iterator[ScanFinding]:
    for item in items:
        target = Path(os.path.realpath(root / item.path)) if item.is_link else root
        if target != root and root not in target.parents:
            hint = "What lies there was not looked at; neither a copy of this root nor prune takes it along."
            yield ScanFinding(Matter.LINK, ScanLevel.NOTE, item.path, 1, "This link leads out of the root.", hint)


def _pickles(root: CacheRoot) -> Iterator[ScanFinding]:
    for entry in root.entries:
        pickles = [item for item in entry.items if item.is_file and _is_pickle(entry, item)]
        if pickles and not root.launches(entry):
            message = (
                f"vLLM loads pickles from here ({len(pickles)}), which run code, and no record of a warm-up names them."
            )
            hint = "Serve from it only if you know who made it; else remove the folder and warm up anew."
            yield ScanFinding(Matter.PICKLE, ScanLevel.NOTE, entry.path, len(pickles), message, hint)


def _is_pickle(entry: CacheEntry, item: Item) -> bool:
    """A compiled model, an artifact of vLLM's (one file, or a folder of Inductor's), or an entry of Inductor's."""
    parts = item.path[len(entry.path) + 1 :].split("/")
    own = item.name == MODEL or any(part.startswith("artifact_") for part in parts)
    return own or bool(_PICKLED & set(parts[:-1]))


def _by_place(items: Iterable[Item]) -> dict[str, list[Item]]:
    """Items by the entry or other thing that they belong to, so that each gives one finding."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(place_of(item.path), []).append(item)
    return groups


def _more(group: list[Item], place: str) -> str:
    return f" and {len(group) - 1} more in {place}" if len(group) > 1 else ""
