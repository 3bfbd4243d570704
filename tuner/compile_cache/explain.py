"""From a planned launch and a cache root to whether it would hit, and which factor keeps it from that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cache.compiled.entry import CacheEntry
from cache.compiled.factors import INDEX, MAX_BYTES, paths_named
from cache.compiled.files import read_bytes
from cache.compiled.layout import CacheRoot
from cache.compiled.warm_record import WarmRecord, read_records
from rules.errors import ErrorKind, TunerError
from tuner.compile_cache.difference import Difference, Effect, known_differences
from tuner.compile_cache.factors import is_factors, launch_factors
from tuner.compile_cache.graph_folders import GraphFolder, graph_folders
from tuner.compile_cache.graph_prediction import needs_graphs, predict_graphs, shown
from tuner.compile_cache.prediction import Key, Prediction, expected_ranks, predict
from tuner.compile_cache.prune import opened_root
from tuner.launch.cache_root import cache_root
from tuner.launch.plan import Plan

ARTIFACTS = Path("torch_compile_cache", "torch_aot_compile")
"""Below a cache root; one folder a key (vllm/compilation/decorators.py, 0.16.0 to 0.33.0)."""


@dataclass(frozen=True)
class Explanation:
    """What is known of one launch and one cache.

    Attributes:
        root: the cache root.
        prediction: whether it would hit.
        record: the warm-up it was compared with; None: there is none.
        differences: from that warm-up.
        factors: the launch's document.
        folders: of graphs: those that the launch may look in, else the nearest; none where it needs none.
    """

    root: Path
    prediction: Prediction
    record: WarmRecord | None
    differences: tuple[Difference, ...]
    factors: Mapping[str, Any]
    folders: tuple[GraphFolder, ...]


def explain(plan: Plan, environ: Mapping[str, str], against: str | None) -> Explanation:
    """Ask the serving environment what the launch's keys are, and look for them.

    Args:
        plan: the launch.
        environ: the environment variables that it inherits.
        against: start of the digest of the record to compare with; None: the newest of the model or its architecture.

    Raises:
        TunerError: no such record, or the serving environment cannot tell.
    """
    variables = {**environ, **plan.launch.env}
    root = Path(cache_root(variables)[0])
    record = chosen(read_records(root)[0], plan, against)  # before what takes a minute
    factors = launch_factors(plan.subject.environment.python, plan.launch.args, variables)
    return compared(root, factors, record)


def compared(root: Path, factors: Mapping[str, Any], record: WarmRecord | None) -> Explanation:
    """The explanation for factors that are known.

    Raises:
        TunerError: kind `record`: what the record holds is no document of factors; `cache`: the root cannot be read.
    """
    found = None if record is None else _since(record, factors)
    keys = [Key(one["module"], one["function"], one["key"], _missing(root, one, factors)) for one in _aot(factors)]
    warmed = record.hit if record and not any(one.effect is not Effect.NONE for one in found or ()) else None
    folders = _folders(root, factors) if needs_graphs(factors) else None
    graphs = None if folders is None else predict_graphs(factors, folders)
    prediction = predict(factors, keys, found, warmed, graphs)
    return Explanation(root, prediction, record, tuple(found or ()), factors, shown(folders or ()))


def chosen(records: Sequence[WarmRecord], plan: Plan, against: str | None) -> WarmRecord | None:
    """The record to compare with, of those that hold factors.

    Raises:
        TunerError: `against` names none, or several.
    """
    known = [record for record in records if is_factors(record.factors)]
    if against is not None:
        return _named(known, against)
    model = plan.subject.model
    same = [record for record in known if record.model == model.name]
    alike = [record for record in known if model.architecture and record.architecture == model.architecture]
    return next(iter([*same, *alike]), None)


def _named(records: Sequence[WarmRecord], against: str) -> WarmRecord:
    fitting = [record for record in records if record.digest.startswith(against)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(record.digest[:12] for record in records) or "none"
    raise TunerError(
        f"{len(fitting) or 'No'} records with factors begin with {against}.",
        hint=f"Those in this cache root: {listed}.",
        kind=ErrorKind.RECORD,
    )


def _since(record: WarmRecord, factors: Mapping[str, Any]) -> list[Difference]:
    found = known_differences(record.factors, factors)
    if found is None:
        raise TunerError(
            f"The factors in the record {record.digest[:12]} are damaged.",
            hint="Warm again, or name another record with --against.",
            kind=ErrorKind.RECORD,
        )
    return found


def _folders(root: Path, factors: Mapping[str, Any]) -> list[GraphFolder]:
    if not root.is_dir():
        return []
    cache = opened_root(str(root), {})
    return graph_folders(cache, factors, {entry.path for entry in cache.entries if _is_moved(cache, entry)})


def _is_moved(cache: CacheRoot, entry: CacheEntry) -> bool:
    """Whether an index of the entry names files that do not lie in it."""
    indexes = [item.path for item in entry.items if item.is_file and item.name == INDEX and item.size <= MAX_BYTES]
    paths = [path for index in indexes for path in _paths(cache.path / index)]
    return not all(_leads_to(cache.path, path.partition(f"/{entry.path}/")[0]) for path in paths)


def _leads_to(root: Path, path: str) -> bool:
    try:
        return Path(path).resolve() == root
    except (OSError, RuntimeError):  # RuntimeError: links that lead to themselves (Python 3.11, 3.12)
        return False


def _paths(index: Path) -> Iterable[str]:
    try:
        return paths_named(read_bytes(index, MAX_BYTES))
    except OSError:
        return ()  # the entry says that its index cannot be read


def _aot(factors: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
    found: Sequence[Mapping[str, str]] = factors["keys"]["aot"]
    return found


def _missing(root: Path, entry: Mapping[str, str], factors: Mapping[str, Any]) -> tuple[str, ...]:
    folder = root / ARTIFACTS / entry["key"]
    return tuple(rank for rank in expected_ranks(factors) if not (folder / rank / "model").is_file())


def explanation_document(explanation: Explanation, model: str) -> dict[str, Any]:
    """The explanation as JSON values."""
    prediction, record = explanation.prediction, explanation.record
    return {
        "schema_version": 1,
        "model": model,
        "cache_root": str(explanation.root),
        "answer": str(prediction.answer),
        "reasons": list(prediction.reasons),
        "keys": [vars(key) | {"missing": list(key.missing)} for key in prediction.keys],
        "against": None if record is None else {"digest": record.digest, "made_at": record.made_at},
        "differences": [_difference_document(one) for one in explanation.differences],
        "graphs": [_folder_document(one) for one in explanation.folders],
        "factors": dict(explanation.factors),
    }


def _difference_document(one: Difference) -> dict[str, Any]:
    return vars(one) | {"effect": str(one.effect)}


def _folder_document(folder: GraphFolder) -> dict[str, Any]:
    return vars(folder) | {
        "fits": folder.fits,
        "sources": str(folder.sources),
        "missing": list(folder.missing),
        "differences": [_difference_document(one) for one in folder.differences],
    }
