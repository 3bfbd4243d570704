"""The folders of the piecewise backend's graphs, `torch_compile_cache/<10 hex>`, held against a launch. Pure.

What such a name is made of stands in the folder's `cache_key_factors.json`. All of it is known of a launch before it
starts but the hash of the files that a trace will run through; of those a warm-up's record may tell that none changed.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cache.compiled.entry import Entry, Kind
from cache.compiled.factors import env_hash, folder_name
from cache.compiled.layout import CacheRoot
from cache.compiled.warm_record import WarmRecord
from rules.releases import named_release
from tuner.compile_cache.difference import Difference, Effect, folder_fix, known_differences, variables_differ
from tuner.compile_cache.factors import is_factors
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
        known: whether what its name was made of is known.
        differences: what differs from the launch, of variables, config and compiler; none: it is the launch's, if the
            sources are.
        sources: whether its traced files are unchanged.
        warmed: whether the second start of the warm-up that made it loaded it, if nothing differs from that one.
        missing: the ranks, as vLLM names their folders, that it has nothing of.
        complete: whether vLLM can load all that is in it, None if that cannot be told; `why` says why not.
        why: as above.
        graphs: how many graphs lie in it; none with vLLM's older adaptor, whose graphs lie in Inductor's own cache.
        prefixes: how many modules the first rank has graphs of.
        moved: this release would look for its graphs elsewhere.
    """

    name: str
    known: bool
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
        return self.known and not self.differences

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
    entries = [one for one in root.entries if one.kind is Kind.GRAPHS and one.path.startswith(HASHED)]
    model = factors["config"]["parts"].get("model_config", {}).get("factors", {}).get("model")
    found = []
    for entry in entries:
        records = [record for record in root.launches(entry) if is_factors(record.factors)]
        foreign = not any(record.model == model for record in records)
        found.append((_folder(entry, records, factors, moved), foreign, -entry.made))
    return [folder for folder, *_ in sorted(found, key=lambda one: (*_distance(one[0]), *one[1:]))]


def _distance(folder: GraphFolder) -> tuple[bool, int, int]:
    """How far it is from the launch: the parts of its name that differ, then all that is known to."""
    return not folder.known, len(folder.parts), len(folder.differences)


def _part(one: Difference) -> str:
    return "variables" if one.kind in {"variable", "home"} else "config" if _of_config(one) else "compiler"


def _of_config(one: Difference) -> bool:
    """The release of vLLM is hashed with the config (vllm/config/vllm.py)."""
    return one.kind in {"config", "path"} or one.name == "vllm"


def _folder(entry: Entry, records: Sequence[WarmRecord], factors: Document, moved: AbstractSet[str]) -> GraphFolder:
    own = [told for told in entry.factors.values() if _names(told, entry)]
    compared = [(record, known_differences(record.factors, factors)) for record in records]
    since = [(record, found) for record, found in compared if found is not None]
    proven = [record for record, found in since if all(one.effect is Effect.NONE for one in found)]
    differing = _differing(own[0], [found for _, found in since], factors) if own and not proven else ()
    return GraphFolder(
        name=entry.name,
        known=bool(own or proven),
        differences=tuple(differing),
        sources=_sources(since, factors),
        warmed=proven[0].hit if proven else None,
        missing=tuple(rank for rank in expected_ranks(factors) if rank.removeprefix("rank_") not in entry.ranks),
        complete=entry.complete,
        why=entry.why,
        graphs=sum(item.name.startswith("artifact_") for item in entry.items),
        prefixes=sum(name.startswith("rank_0_0/") for name in entry.factors),
        moved=entry.path in moved and _looks_there(factors),
    )


def _names(told: Document, entry: Entry) -> bool:
    """Whether these factors lead to the folder; those of an engine's second module need not: it uses the first's."""
    try:
        return folder_name(told) == entry.name
    except RecursionError:
        return False


def _looks_there(factors: Document) -> bool:
    version = named_release(factors["system"]["vllm"])
    return version is None or version.release < OWN_PATHS_BEFORE


def _differing(told: Document, since: Sequence[Sequence[Difference]], factors: Document) -> Iterator[Difference]:
    """What differs from a folder's own factors; a record of the warm-up that made it names what hides in a hash."""
    named = since[0] if since else ()
    yield from _variables(told["env"], factors["variables"])
    if told.get(CONFIG) != factors["config"]["hash"]:
        fields = [one for one in named if one.effect is Effect.KEY and _of_config(one)]
        yield from fields or [_hidden(CONFIG, "config", told.get(CONFIG), factors["config"]["hash"])]
    ours = factors["keys"]["graphs"][COMPILER]
    if told.get(COMPILER) != ours:
        parts = [one for one in named if one.kind == "compiler" and one.name not in {"vllm", "python"} and one.fix]
        yield from [replace(one, effect=Effect.KEY) for one in parts] or [
            _hidden(COMPILER, "compiler", told.get(COMPILER), ours)
        ]


def _hidden(part: str, kind: str, old: Any, new: Any) -> Difference:
    return Difference(kind, part, old, new, Effect.KEY, folder_fix(part))


def _variables(env: Document, ours: Document) -> list[Difference]:
    """The variables by name; the paths of that launch are not known, so a folder below HOME counts as HOME's doing."""
    digest = env_hash(env)
    if digest == ours["hash"]:
        return []
    shown = {name: _concealed(name, value) for name, value in env.items()}
    return list(variables_differ(shown, ours["values"], moved=True)) or [
        _hidden("env", "variable", digest, ours["hash"])
    ]


def _concealed(name: str, value: Any) -> Any:
    if not isinstance(value, str) or not value or not SECRET.search(name):
        return value
    return "sha256:" + hashlib.sha256(value.encode(errors="surrogatepass")).hexdigest()[:12]


def _sources(since: Sequence[tuple[WarmRecord, Sequence[Difference]]], factors: Document) -> Sources:
    """The warm-ups that made one folder traced the same files, so one of them that is as the launch is enough."""
    release = factors["system"]["vllm"]
    files = {one["file"] for one in factors["keys"]["graphs"]["modules"]}
    states = {_state(found, files) for record, found in since if record.factors["system"]["vllm"] == release}
    return next((state for state in (Sources.SAME, Sources.CHANGED) if state in states), Sources.UNKNOWN)


def _state(found: Sequence[Difference], files: AbstractSet[str]) -> Sources:
    """The compiled function's own file is traced, and paths are hashed with contents (vllm/compilation/backends.py)."""
    counted = {one.name for one in found if one.kind == "source" or (one.kind, one.name) == ("path", "vllm")}
    if not counted:
        return Sources.SAME
    return Sources.CHANGED if counted & {*files, "vllm"} else Sources.UNKNOWN
