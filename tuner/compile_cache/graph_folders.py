"""The folders of the piecewise backend's graphs, `torch_compile_cache/<10 hex>`, compared with a launch. Pure.

What such a name is made of stands in the folder's `cache_key_factors.json`. All of it is known of a launch before it
starts but the hash of the files that a trace will run through; of those a warm-up's record may tell that none changed.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter, itemgetter
from typing import Any

from cache.compiled.entry import ARTIFACT, CacheEntry, EntryKind
from cache.compiled.factors import env_hash, folder_name
from cache.compiled.layout import CacheRoot
from cache.compiled.warm_record import WarmRecord
from rules.releases import named_release
from tuner.compile_cache.difference import Difference, Effect, folder_fix, known_differences, variables_differ
from tuner.compile_cache.factors_document import is_factors
from tuner.compile_cache.prediction import expected_ranks

Document = Mapping[str, Any]
HASHED = "torch_compile_cache/"
CONFIG, COMPILER = "config_hash", "compiler_hash"
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
"""As the worker's `plain.py`, which names such values by a digest; the two are compared in the tests."""
OWN_PATHS_BEFORE = (0, 32)
"""Releases that look for graphs under the absolute paths in the index (vllm/compilation/compiler_interface.py)."""


class Sources(StrEnum):
    """Whether the files that were traced for a folder are those of the launch."""

    SAME = "same"
    CHANGED = "changed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class GraphFolder:
    """One folder of graphs.

    Attributes:
        name: its ten digits.
        factors_known: whether what its name was made of is known.
        differences: what differs from the launch, of variables, config and compiler; none: it is the launch's, if the
            sources are.
        sources: whether its traced files are unchanged.
        warmed: whether the second start of the warm-up that made it loaded it, if nothing differs from that one.
        missing: the ranks, as vLLM names their folders, that it has nothing of.
        complete: whether vLLM can load all that is in it, None if that is not known; `why` says why not.
        why: as above.
        graphs: how many graphs lie in it; none with vLLM's older adaptor, whose graphs lie in Inductor's own cache.
        prefixes: how many modules the first rank has graphs of.
        moved: this release would look for its graphs elsewhere.
    """

    name: str
    factors_known: bool
    differences: tuple[Difference, ...]
    sources: Sources
    warmed: bool | None
    missing: tuple[str, ...]
    complete: bool | None
    why: str
    graphs: int
    prefixes: int
    moved: bool

    @property
    def fits(self) -> bool:
        """Whether variables, config and compiler are those of the launch."""
        return self.factors_known and not self.differences

    @property
    def parts(self) -> list[str]:
        """Which of the three are not."""
        return list(dict.fromkeys(map(_part, self.differences)))


def graph_folders(root: CacheRoot, factors: Document, moved: AbstractSet[str]) -> list[GraphFolder]:
    """The folders of graphs in a cache root, the nearest to a launch first.

    Args:
        root: the cache root, read.
        factors: the launch's document (`tuner.compile_cache.factors`).
        moved: paths of the entries whose index names files of another place.
    """
    model = factors["config"]["parts"].get("model_config", {}).get("factors", {}).get("model")
    ranked = []
    for entry in root.entries:
        if entry.kind is not EntryKind.GRAPHS or not entry.path.startswith(HASHED):
            continue
        records = [record for record in root.launches(entry) if is_factors(record.factors)]
        folder = _folder(entry, records, factors, moved)
        is_foreign = model not in map(attrgetter("model"), records)
        ranked.append(((*_distance(folder), is_foreign, -entry.written), folder))
    return list(map(itemgetter(1), sorted(ranked, key=itemgetter(0))))


def _distance(folder: GraphFolder) -> tuple[bool, int, int]:
    """How far it is from the launch: the parts of its name that differ, then all that is known to differ."""
    return not folder.factors_known, len(folder.parts), len(folder.differences)


def _part(difference: Difference) -> str:
    if difference.kind in {"variable", "home"}:
        return "variables"
    return "config" if _of_config(difference) else "compiler"


def _of_config(difference: Difference) -> bool:
    """The release of vLLM is hashed with the config (vllm/config/vllm.py)."""
    return difference.kind in {"config", "path"} or difference.name == "vllm"


def _folder(
    entry: CacheEntry, records: Sequence[WarmRecord], factors: Document, moved: AbstractSet[str]
) -> GraphFolder:
    own = next((content for content in entry.factors.values() if _names(content, entry)), None)
    warm_ups = list(_warm_ups(records, factors))
    equal = next((warm_up for warm_up in warm_ups if warm_up.is_equal), None)
    differences: tuple[Difference, ...] = ()
    if own is not None and equal is None:
        differences = tuple(_differing(own, warm_ups, factors))
    return GraphFolder(
        name=entry.name,
        factors_known=own is not None or equal is not None,
        differences=differences,
        sources=_sources(warm_ups, factors),
        warmed=None if equal is None else equal.record.hit,
        missing=_missing_ranks(entry, factors),
        complete=entry.complete,
        why=entry.why,
        graphs=sum(item.name.startswith(ARTIFACT) for item in entry.items),
        prefixes=sum(name.startswith("rank_0_0/") for name in entry.factors),
        moved=entry.path in moved and _looks_there(factors),
    )


@dataclass(frozen=True)
class _WarmUp:
    """A warm-up that made a folder, and what differs between it and the launch."""

    record: WarmRecord
    differences: Sequence[Difference]

    @property
    def is_equal(self) -> bool:
        """Whether no difference has an effect."""
        return all(difference.effect is Effect.NONE for difference in self.differences)


def _warm_ups(records: Sequence[WarmRecord], factors: Document) -> Iterator[_WarmUp]:
    """The records with their differences; without those whose factors are damaged."""
    for record in records:
        differences = known_differences(record.factors, factors)
        if differences is not None:
            yield _WarmUp(record, differences)


def _missing_ranks(entry: CacheEntry, factors: Document) -> tuple[str, ...]:
    return tuple(rank for rank in expected_ranks(factors) if rank.removeprefix("rank_") not in entry.ranks)


def _names(content: Document, entry: CacheEntry) -> bool:
    """Whether these factors lead to the folder; those of an engine's second module need not: it uses the first's."""
    try:
        return folder_name(content) == entry.name
    except RecursionError:
        return False


def _looks_there(factors: Document) -> bool:
    version = named_release(factors["system"]["vllm"])
    return version is None or version.release < OWN_PATHS_BEFORE


def _differing(content: Document, warm_ups: Sequence[_WarmUp], factors: Document) -> Iterator[Difference]:
    """What differs from a folder's own factors; where it keeps a hash alone, a record may name the differences.

    Args:
        content: the folder's own factors.
        warm_ups: those that made it, the newest first.
        factors: the launch's document.
    """
    named = warm_ups[0].differences if warm_ups else ()
    yield from _variables(content["env"], factors["variables"])
    ours = factors["config"]["hash"]
    if content.get(CONFIG) != ours:
        fields = [item for item in named if item.effect is Effect.KEY and _of_config(item)]
        yield from fields or [_hidden(CONFIG, "config", content.get(CONFIG), ours)]
    ours = factors["keys"]["graphs"][COMPILER]
    if content.get(COMPILER) != ours:
        parts = [replace(item, effect=Effect.KEY) for item in named if _of_compiler(item)]
        yield from parts or [_hidden(COMPILER, "compiler", content.get(COMPILER), ours)]


def _of_compiler(difference: Difference) -> bool:
    """Whether it is in the hash of the compiler: the release is not, nor what nothing needs to be done about."""
    return difference.kind == "compiler" and difference.name not in {"vllm", "python"} and bool(difference.fix)


def _hidden(part: str, kind: str, old: Any, new: Any) -> Difference:
    return Difference(kind, part, old, new, Effect.KEY, folder_fix(part))


def _variables(env: Document, ours: Document) -> list[Difference]:
    """The variables by name; the paths of that launch are not known, so a folder below HOME counts as HOME's doing."""
    digest = env_hash(env)
    if digest == ours["hash"]:
        return []
    values = {name: concealed(name, value) for name, value in env.items()}
    differences = list(variables_differ(values, ours["values"], moved=True))
    return differences or [_hidden("env", "variable", digest, ours["hash"])]


def concealed(name: str, value: Any) -> Any:
    """The value of a variable; of one that may be secret the start of its digest."""
    if not isinstance(value, str) or not value or not SECRET.search(name):
        return value
    return "sha256:" + hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:12]


def _sources(warm_ups: Sequence[_WarmUp], factors: Document) -> Sources:
    """The warm-ups that made one folder traced the same files: it is enough if one has the launch's files."""
    release = factors["system"]["vllm"]
    traced = {module["file"] for module in factors["keys"]["graphs"]["modules"]}
    states = set()
    for warm_up in warm_ups:
        if warm_up.record.factors["system"]["vllm"] == release:
            states.add(_state(warm_up.differences, traced))
    for state in (Sources.SAME, Sources.CHANGED):
        if state in states:
            return state
    return Sources.UNKNOWN


def _state(differences: Sequence[Difference], traced: AbstractSet[str]) -> Sources:
    """The compiled function's own file is traced, and paths are hashed with contents (vllm/compilation/backends.py)."""
    names = {difference.name for difference in differences if _of_sources(difference)}
    if not names:
        return Sources.SAME
    return Sources.UNKNOWN if names.isdisjoint({*traced, "vllm"}) else Sources.CHANGED


def _of_sources(difference: Difference) -> bool:
    return difference.kind == "source" or (difference.kind, difference.name) == ("path", "vllm")
