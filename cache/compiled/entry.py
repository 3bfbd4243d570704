"""One entry of vLLM's compile cache: a folder that one key leads to. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Any

from cache.compiled.autotune import tree_state, tuned_files
from cache.compiled.factors import FACTORS, INDEX, artifacts_named, parse_factors
from cache.compiled.files import Item

MODEL = "model"
"""The file of an ahead-of-time entry, one a rank (vllm/compilation/decorators.py, 0.14.1 to 0.33.0)."""
TEMPORARY = ".tmp"
"""End of the names under which vLLM (from 0.17) and torch write before they rename."""
_RANK = re.compile(r"rank_(\d+_\d+)")
_INDUCTOR = {"inductor_cache", "triton_cache"}
ARTIFACT = "artifact_"
"""Start of the name of a graph."""
_SEVERITY = {True: 0, None: 1, False: 2}
"""By whether something is complete."""


@dataclass(frozen=True)
class _State:
    """Whether vLLM can load what is there, None if that is not known; `why`: the reason where it is not True."""

    complete: bool | None
    why: str


COMPLETE = _State(complete=True, why="")


class EntryKind(StrEnum):
    """What an entry holds."""

    GRAPHS = "graphs"
    """Compiled pieces of the model's graph, by shape."""
    AOT = "aot"
    """The whole compiled model, made ahead of time."""
    AUTOTUNE = "autotune"
    """The kernels that FlashInfer's autotune chose, by rank."""


@dataclass(frozen=True)
class CacheEntry:
    """An entry as it lies there.

    Attributes:
        kind: what it holds.
        path: its folder, relative to the root; warm records name it by this.
        ranks: `RANK_DATAPARALLELRANK` of each process that wrote there, in order; none where all ranks share a file.
        size: bytes of its files.
        files: how many.
        written: the oldest time of writing among its files, seconds since 1970; a copy has the copy's.
        used: the newest time of writing or reading; reads count as `files.noted_reads` says, whoever made them.
        complete: whether vLLM can load all of it; None: that is not known.
        why: of an entry that is not complete, or not known to be.
        leftovers: files under temporary names.
        factors: of each rank and prefix, by path below the entry, what vLLM wrote of its key; may hold secrets.
        damaged: paths of such files that cannot be read.
        items: everything in it, its folder included.
    """

    kind: EntryKind
    path: str
    ranks: tuple[str, ...]
    size: int
    files: int
    written: float
    used: float
    complete: bool | None
    why: str
    leftovers: tuple[str, ...]
    factors: Mapping[str, Mapping[str, Any]]
    damaged: tuple[str, ...]
    items: tuple[Item, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The hash in vLLM's words."""
        return self.path.rpartition("/")[2]


def make_entry(kind: EntryKind, path: str, items: Sequence[Item], read: Callable[[Item], bytes | None]) -> CacheEntry:
    """Describe an entry.

    Args:
        kind: what it holds.
        path: its folder.
        items: everything in it, its folder included.
        read: gives the content of a small file, None if it cannot be read.
    """
    files = [item for item in items if item.is_file]
    leftovers = [item.path for item in files if item.name.endswith(TEMPORARY)]
    factors, damaged = _factors(path, files, read)
    state = _state(kind, path, items, read)
    return CacheEntry(
        kind,
        path,
        _ranks(kind, path, items),
        sum(map(attrgetter("size"), files)),
        len(files),
        min(map(attrgetter("mtime"), files or items)),
        _last_use(files, items),
        state.complete,
        state.why,
        tuple(leftovers),
        factors,
        damaged,
        tuple(items),
    )


def _factors(
    path: str, files: Sequence[Item], read: Callable[[Item], bytes | None]
) -> tuple[dict[str, Mapping[str, Any]], tuple[str, ...]]:
    """The content of each file of factors, by path below the entry, and the paths of those that cannot be read."""
    factors: dict[str, Mapping[str, Any]] = {}
    damaged = []
    for item in files:
        if item.name != FACTORS:
            continue
        below = item.path[len(path) + 1 :]
        content = parse_factors(read(item) or b"")
        if content is None:
            damaged.append(below)
        else:
            factors[below] = content
    return factors, tuple(damaged)


def _last_use(files: Sequence[Item], items: Sequence[Item]) -> float:
    """The newest time of writing or reading a file; without files, of writing a folder, as listing reads a folder."""
    if not files:
        return max(item.mtime for item in items)
    return max(max(item.mtime, item.atime) for item in files)


def _state(kind: EntryKind, path: str, items: Sequence[Item], read: Callable[[Item], bytes | None]) -> _State:
    match kind:
        case EntryKind.AOT:
            return _aot_state(path, items)
        case EntryKind.AUTOTUNE:
            tree = tree_state(tuned_files(path, items, read))
            return _State(tree.whole, tree.why)
        case EntryKind.GRAPHS:
            return _graphs_state(items, read)


def _ranks(kind: EntryKind, path: str, items: Sequence[Item]) -> tuple[str, ...]:
    if kind is EntryKind.AUTOTUNE:
        files = tuned_files(path, items, lambda _: None)
        return tuple(f"{file.rank.number}_{file.rank.replica}" for file in files if file.rank)
    ranks = []
    for item in items:
        match = _RANK.fullmatch(item.name)
        if match and item.is_folder and item.folder == path:
            ranks.append(match[1])
    return tuple(sorted(ranks, key=_rank_numbers))


def _rank_numbers(rank: str) -> list[int]:
    return list(map(int, rank.split("_")))


def _aot_state(path: str, items: Sequence[Item]) -> _State:
    """Whether each rank has its model. vLLM makes `inductor_cache` before it compiles (from 0.20)."""
    ranks = {f"{path}/rank_{rank}" for rank in _ranks(EntryKind.AOT, path, items)}
    if not ranks:
        return _State(complete=False, why=f"no {MODEL} file")
    models = {item.folder for item in items if item.is_file and item.name == MODEL and item.size}
    lacking = sorted(rank.rpartition("/")[2] for rank in ranks - models)
    if lacking:
        return _State(complete=False, why=f"no {MODEL} file in {', '.join(lacking)}")
    return COMPLETE


def _graphs_state(items: Sequence[Item], read: Callable[[Item], bytes | None]) -> _State:
    """The worst state of its folders: one for each rank and prefix, the latter may be empty."""
    if not any(map(attrgetter("is_file"), items)):
        return _State(complete=False, why="no file in it")
    worst = None
    for folder in _graph_folders(items):
        state = _folder_state([item for item in items if item.folder == folder], read)
        if worst is None or _SEVERITY[state.complete] > _SEVERITY[worst.complete]:
            worst = state
    return worst or _State(complete=None, why="no file of vLLM's own in it")


def _graph_folders(items: Sequence[Item]) -> list[str]:
    """The folders with graphs of vLLM, their index or their factors, sorted; without those of Inductor."""
    folders = set()
    for item in items:
        if item.name in {FACTORS, INDEX} or item.name.startswith(ARTIFACT):
            folders.add(item.folder)
    return [folder for folder in sorted(folders) if _INDUCTOR.isdisjoint(folder.split("/"))]


def _folder_state(items: Sequence[Item], read: Callable[[Item], bytes | None]) -> _State:
    """The state of one folder.

    vLLM writes the index last. It writes none beside a whole compiled model, nor from 0.33 on where AOT is off.
    """
    artifacts = {item.name for item in items if item.name.startswith(ARTIFACT)}
    indexes = [item for item in items if item.name == INDEX and item.is_file]
    if not indexes and artifacts:
        return _State(complete=False, why=f"graphs without {INDEX}")
    if not indexes:
        return _State(complete=None, why="no graphs of its own in it")
    text = read(indexes[0])
    if text is None:
        return _State(complete=None, why=f"{INDEX} cannot be read")
    names = artifacts_named(text)
    if names is None:
        return _State(complete=False, why=f"{INDEX} is cut")
    if missing := names - artifacts:
        return _State(complete=False, why=f"{len(missing)} graphs that {INDEX} names are missing")
    return COMPLETE
