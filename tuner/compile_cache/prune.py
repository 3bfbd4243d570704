"""vLLM's compile caches on this machine: where they lie, and what is removed from them."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from cache.compiled.in_use import held_files
from cache.compiled.layout import CacheRoot, read_root
from cache.compiled.prune import Candidate, Criteria, Pruning, choose, remove
from rules.errors import ErrorKind, TunerError
from tuner.launch.cache_root import cache_root


@dataclass(frozen=True)
class Pruned:
    """What was removed.

    Attributes:
        root: the cache root as it was before.
        pruning: what was chosen.
        failed: what could not be removed, `why` saying why.
        dry: nothing was to be removed.
    """

    root: CacheRoot
    pruning: Pruning
    failed: tuple[Candidate, ...]
    dry: bool

    @property
    def removed(self) -> list[Candidate]:
        """What was removed, or would have been."""
        return [candidate for candidate in self.pruning.going if candidate.path not in self._failed_paths]

    @property
    def records(self) -> list[str]:
        """Files of the records that went with it, or would have."""
        return [path for path in self.pruning.records if path not in self._failed_paths]

    @property
    def _failed_paths(self) -> set[str]:
        return set(map(attrgetter("path"), self.failed))


def opened_root(override: str | None, environ: Mapping[str, str]) -> CacheRoot:
    """Read a cache root.

    Args:
        override: of `--cache-root`; without it, where vLLM would keep its caches by itself.
        environ: the variables that say where.

    Raises:
        TunerError: there is no such folder, or it cannot be read.
    """
    named, source = (override, "--cache-root") if override else cache_root(environ)
    path = Path(named).expanduser()  # as vLLM does (vllm/envs.py)
    try:
        return read_root(path)
    except (FileNotFoundError, NotADirectoryError):
        hint = f"It comes from {source}. Name the VLLM_CACHE_ROOT of your server with --cache-root."
        raise TunerError(f"There is no folder {path}.", hint=hint, kind=ErrorKind.CACHE) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to themselves (Python 3.11, 3.12)
        reason = error.strerror if isinstance(error, OSError) else "its links lead to themselves"
        hint = "Run this as the user who serves."
        raise TunerError(f"The folder {path} cannot be read: {reason}.", hint=hint, kind=ErrorKind.CACHE) from None


def prune(root: CacheRoot, criteria: Criteria, *, dry: bool) -> Pruned:
    """Remove what meets the criteria, records of it first.

    Raises:
        TunerError: no criterion is given, or it cannot be seen which files are in use.
    """
    if criteria == Criteria():
        hint = "Give --older-than DAYS, --max-size SIZE, --unreachable, or several of them."
        raise TunerError("Nothing says what may go.", hint=hint, kind=ErrorKind.USAGE)
    try:
        used_files = held_files()
    except OSError:
        hint = "Nothing is removed where entries in use cannot be told from others."
        raise TunerError("There is no /proc to see which files are in use.", hint=hint, kind=ErrorKind.CACHE) from None
    pruning = choose(root, criteria, used_files, time.time())
    return Pruned(root, pruning, () if dry else tuple(_removed(root.path, pruning)), dry)


def _removed(root: Path, pruning: Pruning) -> Iterator[Candidate]:
    """Remove what was chosen, and give what could not be."""
    records = [Candidate(path, 0, "names what goes") for path in pruning.records]
    for candidate in (*records, *pruning.going):
        try:
            remove(root, candidate.path)
        except OSError as error:
            yield replace(candidate, why=error.strerror or type(error).__name__)
