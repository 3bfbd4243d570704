"""The files in which vLLM keeps what FlashInfer's autotune measured: one folder a launch, one file a rank. Pure.

Layout: `flashinfer_autotune_cache/FLASHINFER/ARCHITECTURE/HASH/` with `autotune_configs.json`, which all ranks share
(0.25.0 to 0.31.0), or one `autotune_configs_dpD_rankR.json` a rank (0.32.0 and 0.33.0). Sources:
vllm/model_executor/warmup/flashinfer_autotune_cache.py and kernel_warmup.py. The content is FlashInfer's
(`AutoTuner.save_configs`, flashinfer/autotuner/autotuner.py, 0.6.18).
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from cache.compiled.files import Item
from cache.key import finite

FOLDER = "flashinfer_autotune_cache"
"""Below a VLLM_CACHE_ROOT."""
SHARED = "autotune_configs.json"
_RANKED = re.compile(r"autotune_configs_dp(\d{1,9})_rank(\d{1,9})\.json")
_METADATA = "_metadata"
MAX_RANKS = 65536
"""More ranks have another origin than a launch."""


NAMED_AT_MOST = 3
"""Fields of the metadata that a reason names."""


@dataclass(frozen=True)
class Rank:
    """A rank as the name of its file says: `replica` is its data-parallel rank, `number` its rank in vLLM's world."""

    replica: int
    number: int

    def __str__(self) -> str:
        return f"rank {self.number}" if not self.replica else f"rank {self.number} of replica {self.replica}"


@dataclass(frozen=True)
class TunedFile:
    """One file of tuned kernels.

    Attributes:
        name: the file's name.
        rank: whose it is; None: all ranks share it.
        readable: it could be read; a file that is damaged can.
        kernels: how many entries it has, as vLLM counts them; None: it is damaged or cannot be read.
        metadata: versions and GPU that FlashInfer wrote down; empty if it wrote none.
    """

    name: str
    rank: Rank | None
    readable: bool
    kernels: int | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class TreeState:
    """Whether all ranks are warm, None if that is not known; `why`: the reason where it is not True."""

    whole: bool | None
    why: str = ""


def tuned_files(folder: str, items: Iterable[Item], read: Callable[[Item], bytes | None]) -> list[TunedFile]:
    """The files of tuned kernels in one folder, the shared one first, then by rank.

    Args:
        folder: its path, as in `Item.folder`.
        items: what lies in it.
        read: gives the content of a small file, None if it cannot be read.
    """
    files = []
    for item in items:
        match = _RANKED.fullmatch(item.name)
        if item.folder == folder and item.is_file and (match or item.name == SHARED):
            rank = Rank(int(match[1]), int(match[2])) if match else None
            files.append(_file(item.name, rank, read(item)))
    return sorted(files, key=_order)


def _order(file: TunedFile) -> tuple[int, int]:
    return (file.rank.replica, file.rank.number) if file.rank else (-1, -1)


def _file(name: str, rank: Rank | None, data: bytes | None) -> TunedFile:
    if data is None:
        return TunedFile(name, rank, readable=False, kernels=None, metadata={})
    try:
        content = json.loads(data, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        return TunedFile(name, rank, readable=True, kernels=None, metadata={})
    metadata = content.pop(_METADATA, None)
    return TunedFile(name, rank, True, len(content), metadata if isinstance(metadata, dict) else {})


def tree_state(files: Sequence[TunedFile]) -> TreeState:
    """Whether all ranks of a folder are warm, as far as the folder alone tells.

    How many ranks the launch has is not written there: `cold_ranks` compares with a launch that is known.
    """
    if not files:
        return TreeState(False, "no tuned kernels in it")
    for file in files:
        if not file.readable:
            return TreeState(None, f"{file.name} cannot be read")
        if file.kernels is None:
            return TreeState(False, _cold(file, files))
    replicas = [list(group) for _, group in groupby(_ranked(files), key=_replica)]
    for replica in replicas:
        if state := _gap(replica) or _unlike(replica):
            return state
    if len(set(map(len, replicas))) > 1:
        return TreeState(False, "mixed: replicas have files of different numbers of ranks")
    return _first_rank(replicas)


def cold_ranks(files: Iterable[TunedFile], ranks: int) -> list[Rank]:
    """The ranks of a launch on one node that have no whole file of their own, in order.

    Where vLLM counts the ranks of all replicas in one row, those of a later replica begin at a multiple of `ranks`
    (`init_distributed_environment`, vllm/distributed/parallel_state.py). Replicas without any file may be elsewhere.

    Args:
        files: those of the folder.
        ranks: how many ranks each replica has.
    """
    cold = []
    warm = {file.rank for file in files if file.rank and file.kernels is not None}
    for replica in sorted({rank.replica for rank in warm} or {0}):
        first = min((rank.number for rank in warm if rank.replica == replica), default=0)
        start = first // ranks * ranks
        expected = [Rank(replica, number) for number in range(start, start + ranks)]
        cold += [rank for rank in expected if rank not in warm]
    return cold


def ranks_of(factors: Mapping[str, Any]) -> int | None:
    """How many ranks each replica of a launch has; None where its document of factors does not say."""
    try:
        parallel = factors["config"]["parts"]["parallel_config"]["factors"]
        ranks = parallel["tensor_parallel_size"] * parallel["pipeline_parallel_size"]
        ranks *= parallel.get("prefill_context_parallel_size", 1)
    except (KeyError, TypeError, AttributeError):
        return None
    return ranks if isinstance(ranks, int) and 0 < ranks <= MAX_RANKS else None


def _ranked(files: Iterable[TunedFile]) -> list[TunedFile]:
    return [file for file in files if file.rank is not None]


def _replica(file: TunedFile) -> int:
    return file.rank.replica if file.rank else -1


def _number(file: TunedFile) -> int:
    return file.rank.number if file.rank else -1


def _cold(file: TunedFile, files: Sequence[TunedFile]) -> str:
    """What a damaged file means: of several ranks it leaves one cold."""
    mixed = file.rank is not None and len(_ranked(files)) > 1
    return f"mixed: {file.rank} is cold, its file is damaged" if mixed else f"{file.name} is damaged"


def _gap(replica: Sequence[TunedFile]) -> TreeState | None:
    """The fault of a replica in which a rank between two others has no file."""
    numbers = set(map(_number, replica))
    for number in range(min(numbers), max(numbers)):
        if number not in numbers:
            rank = Rank(_replica(replica[0]), number)
            return TreeState(False, f"mixed: {rank} is cold, others are warm")
    return None


def _unlike(replica: Sequence[TunedFile]) -> TreeState | None:
    """The fault of a replica whose files vLLM would not load together (`_all_ranks_have_matching_cache`, 0.32.0)."""
    first = replica[0]
    for file in replica[1:]:
        if file.metadata != first.metadata:
            return TreeState(False, f"mixed: {first.rank} and {file.rank} differ in {_names(first, file)}")
    for file in replica[1:]:
        if file.kernels != first.kernels:
            counts = f"{first.rank} has {first.kernels} kernels, {file.rank} has {file.kernels}"
            return TreeState(None, f"{counts}: mixed, unless they are stages of a pipeline")
    return None


def _names(first: TunedFile, second: TunedFile) -> str:
    """What FlashInfer wrote down in two ways; what stands there is anybody's text, and is cut."""
    names = {*first.metadata, *second.metadata}
    differing = sorted(name for name in names if first.metadata.get(name) != second.metadata.get(name))
    return ", ".join(f"{name:.40}" for name in differing[:NAMED_AT_MOST])


def _first_rank(replicas: Sequence[Sequence[TunedFile]]) -> TreeState:
    """Ranks that begin above 0 are of the second node of a launch, or the first ones are cold."""
    if replicas and _number(replicas[0][0]):
        first = replicas[0][0].rank
        return TreeState(None, f"{first} is the first: mixed, unless the ranks below it run on another node")
    return TreeState(True)
