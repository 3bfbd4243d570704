"""Autotune trees travel with all ranks warm, or not at all: a mixed one costs more than none."""

from collections.abc import Sequence
from pathlib import Path

from cache.compiled.archive.manifest import entries_of
from cache.compiled.autotune import cold_ranks, ranks_of, tree_state, tuned_files
from cache.compiled.entry import CacheEntry, EntryKind
from cache.compiled.layout import content_of, normal_path, read_root
from cache.compiled.warm_record import WarmRecord
from cache.errors import ArchiveError

_MEND = "Remove this folder, so that all ranks tune again, or copy the files of all ranks into it."


def require_whole_trees(root: Path, records: Sequence[WarmRecord]) -> None:
    """Raise if some rank is cold in an autotune tree that the records name and that lies below a root.

    Raises:
        ArchiveError: a rank is cold.
        OSError: the root cannot be read.
    """
    named = set(map(normal_path, entries_of(records)))
    for entry in read_root(root).entries:
        if entry.kind is not EntryKind.AUTOTUNE or entry.path not in named:
            continue
        if fault := _fault(root, entry, records):
            raise ArchiveError(f"the autotune tree {entry.path} is not whole ({fault})", hint=_MEND)


def _fault(root: Path, entry: CacheEntry, records: Sequence[WarmRecord]) -> str:
    """Why a tree is not warm for all ranks of the launches that name it; empty if it is."""
    files = tuned_files(entry.path, entry.items, lambda item: content_of(root, item))
    state = tree_state(files)
    if state.whole is False:
        return state.why
    for record in records:
        ranks = ranks_of(record.factors) if entry.path in map(normal_path, record.entries) else None
        cold = cold_ranks(files, ranks) if ranks and any(file.rank for file in files) else []
        if cold:
            return f"mixed: {cold[0]} is cold, others are warm"
    return ""
