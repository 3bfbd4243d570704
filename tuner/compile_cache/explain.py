"""From a planned launch and a cache root to whether it would hit, and which factor keeps it from that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from cache.compiled.entry import CacheEntry
from cache.compiled.factors import INDEX, MAX_BYTES, paths_named
from cache.compiled.files import read_bytes
from cache.compiled.layout import CacheRoot
from cache.compiled.warm_record import WarmRecord, read_records
from rules.errors import ErrorKind, TunerError
from tuner.compile_cache.autotune_launch import FLASHINFER_PLATFORM, tree_launch, tree_place
from tuner.compile_cache.autotune_prediction import TreePrediction, predict_tree
from tuner.compile_cache.called import listed_records, records_called
from tuner.compile_cache.difference import Difference, Effect, known_differences
from tuner.compile_cache.factors import launch_factors
from tuner.compile_cache.factors_document import is_factors
from tuner.compile_cache.graph_folders import GraphFolder, graph_folders
from tuner.compile_cache.graph_prediction import needs_graphs, predict_graphs, relevant
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
        tree: what it would find of FlashInfer's autotune; None on a platform without FlashInfer.
    """

    root: Path
    prediction: Prediction
    record: WarmRecord | None
    differences: tuple[Difference, ...]
    factors: Mapping[str, Any]
    folders: tuple[GraphFolder, ...]
    tree: TreePrediction | None = None


def explain(plan: Plan, environ: Mapping[str, str], against: str | None) -> Explanation:
    """Ask the serving environment what the launch's keys are, and look for them.

    Args:
        plan: the launch.
        environ: the environment variables that it inherits.
        against: a word for the record to compare with (`records_called`); None: the newest of the model or its
            architecture.

    Raises:
        TunerError: no such record, or the serving environment cannot tell.
    """
    variables = {**environ, **plan.launch.env}
    root = Path(cache_root(variables)[0])
    record = chosen(read_records(root)[0], plan, against)  # before what takes a minute
    factors = launch_factors(plan.subject.environment.python, plan.launch.args, variables)
    explanation = compared(root, factors, record)
    if factors["system"]["platform"] != FLASHINFER_PLATFORM:
        return explanation
    return replace(explanation, tree=_tree_of(explanation, plan, variables))


def _tree_of(explanation: Explanation, plan: Plan, variables: Mapping[str, str]) -> TreePrediction:
    place = tree_place(explanation.root, variables)
    launch = tree_launch(plan, explanation.factors, place.folder)
    if explanation.record is None:
        return predict_tree(launch, place.trees, (), None)
    return predict_tree(launch, place.trees, explanation.record.entries, explanation.differences)


def compared(root: Path, factors: Mapping[str, Any], record: WarmRecord | None) -> Explanation:
    """The explanation for a launch whose factors are known.

    Raises:
        TunerError: kind `record`: the record's factors are damaged; `cache`: the root cannot be read.
    """
    differences = None if record is None else _since(record, factors)
    keys = list(map(partial(_key, root, factors), factors["keys"]["aot"]))
    is_same = set(map(attrgetter("effect"), differences or ())) <= {Effect.NONE}
    warmed = record.hit if record is not None and is_same else None
    folders: list[GraphFolder] = []
    graphs = None
    if needs_graphs(factors):
        folders = _folders(root, factors)
        graphs = predict_graphs(factors, folders)
    prediction = predict(factors, keys, differences, warmed, graphs)
    return Explanation(root, prediction, record, tuple(differences or ()), factors, relevant(folders))


def chosen(records: Sequence[WarmRecord], plan: Plan, against: str | None) -> WarmRecord | None:
    """The record to compare with, of those that hold factors.

    Raises:
        TunerError: `against` names none, or several.
    """
    usable = [record for record in records if is_factors(record.factors)]
    if against is not None:
        return _named(usable, against)
    model = plan.subject.model
    for record in usable:
        if record.model == model.name:
            return record
    for record in usable:
        if model.architecture and record.architecture == model.architecture:
            return record
    return None


def _named(records: Sequence[WarmRecord], against: str) -> WarmRecord:
    fitting = records_called(records, against)
    if len(fitting) == 1:
        return fitting[0]
    raise TunerError(
        f"{len(fitting) or 'No'} records with factors are called {against!r}.",
        hint=f"Those in this cache root:\n{listed_records(fitting or records)}",
        kind=ErrorKind.RECORD,
    )


def _since(record: WarmRecord, factors: Mapping[str, Any]) -> list[Difference]:
    differences = known_differences(record.factors, factors)
    if differences is None:
        raise TunerError(
            f"The factors in the record {record.digest[:12]} are damaged.",
            hint="Warm again, or name another record with --against.",
            kind=ErrorKind.RECORD,
        )
    return differences


def _folders(root: Path, factors: Mapping[str, Any]) -> list[GraphFolder]:
    if not root.is_dir():
        return []
    cache = opened_root(str(root), {})
    moved = {entry.path for entry in cache.entries if _is_moved(cache, entry)}
    return graph_folders(cache, factors, moved)


def _is_moved(cache: CacheRoot, entry: CacheEntry) -> bool:
    """Whether an index of the entry names files that do not lie in it."""
    for item in entry.items:
        if not item.is_file or item.name != INDEX or item.size > MAX_BYTES:
            continue
        for path in _paths(cache.path / item.path):
            if not _leads_to(cache.path, path.partition(f"/{entry.path}/")[0]):
                return True
    return False


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


def _key(root: Path, factors: Mapping[str, Any], artifact: Mapping[str, str]) -> Key:
    folder = root / ARTIFACTS / artifact["key"]
    missing = [rank for rank in expected_ranks(factors) if not (folder / rank / "model").is_file()]
    return Key(artifact["module"], artifact["function"], artifact["key"], tuple(missing))


def explanation_document(explanation: Explanation, model: str) -> dict[str, Any]:
    """The explanation as JSON values."""
    prediction, record = explanation.prediction, explanation.record
    return {
        "schema_version": 1,
        "model": model,
        "cache_root": str(explanation.root),
        "answer": str(prediction.answer),
        "reasons": list(prediction.reasons),
        "keys": list(map(_key_document, prediction.keys)),
        "against": None if record is None else {"digest": record.digest, "made_at": record.made_at},
        "differences": list(map(difference_document, explanation.differences)),
        "graphs": list(map(_folder_document, explanation.folders)),
        "autotune": None if explanation.tree is None else _tree_document(explanation.tree),
        "factors": dict(explanation.factors),
    }


def _tree_document(tree: TreePrediction) -> dict[str, Any]:
    return vars(tree) | {"answer": str(tree.answer), "reasons": list(tree.reasons)}


def _key_document(key: Key) -> dict[str, Any]:
    return vars(key) | {"missing": list(key.missing)}


def difference_document(difference: Difference) -> dict[str, Any]:
    """One difference as JSON values."""
    return vars(difference) | {"effect": str(difference.effect)}


def _folder_document(folder: GraphFolder) -> dict[str, Any]:
    return vars(folder) | {
        "fits": folder.fits,
        "sources": str(folder.sources),
        "missing": list(folder.missing),
        "differences": list(map(difference_document, folder.differences)),
    }
