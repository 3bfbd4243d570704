"""Whether a launch would load the graphs of the piecewise backend. Pure."""

from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from tuner.compile_cache.graph_folders import GraphFolder, Sources
from tuner.compile_cache.prediction import VLLM_COMPILE, Answer, Judged


def needs_graphs(factors: Mapping[str, Any]) -> bool:
    """Whether this launch loads graphs from such a folder.

    vLLM's own backend does, unless the function compiled ahead of time holds the code itself
    (`deserialize_compile_artifacts` of vllm/compilation/caching.py, 0.19.1, 0.26.0 and 0.32.0).
    """
    compiles = factors["compiles"]
    return compiles["mode"] == VLLM_COMPILE and not (compiles["aot"] and compiles["mega"])


def relevant(folders: Sequence[GraphFolder]) -> tuple[GraphFolder, ...]:
    """The folders that the launch may look in; without any, the nearest."""
    return tuple(filter(_fits, folders)) or tuple(folders[:1])


def _fits(folder: GraphFolder) -> bool:
    return folder.fits


def predict_graphs(factors: Mapping[str, Any], folders: Sequence[GraphFolder]) -> Judged:
    """Judge a launch that loads graphs.

    Args:
        factors: the launch's document.
        folders: those of the cache root, the nearest first.
    """
    graphs = factors["keys"]["graphs"]
    if nowhere := _nowhere(graphs):
        return nowhere
    fitting = list(filter(_fits, folders))
    certain = [folder for folder in fitting if folder.sources is Sources.SAME]
    if certain:
        return _agreed(list(map(partial(_loading, len(graphs["modules"])), certain)))
    possible = [folder for folder in fitting if folder.sources is Sources.UNKNOWN]
    if possible:
        return _agreed(list(map(_not_known, possible)))
    for folder in folders:
        if not folder.factors_known and folder.complete is not False:
            return Judged(Answer.UNKNOWN, f"What the name of the folder {folder.name} was made of is not known.")
    return Judged(Answer.MISS, _absent(fitting, folders))


def _nowhere(graphs: Mapping[str, Any]) -> Judged | None:
    """The answer for a launch whose folder cannot be named; None if it can."""
    if graphs["unknown"]:
        return Judged(Answer.UNKNOWN, graphs["unknown"])
    if graphs["disabled"]:
        return Judged(Answer.MISS, "This launch reads no graphs: Inductor's caches are switched off.")
    if graphs["cache_dir"]:
        why = "vLLM uses without a key: nothing in it tells whose graphs they are"
        return Judged(Answer.UNKNOWN, f"This launch names its cache_dir, {graphs['cache_dir']}, which {why}.")
    return None


def _agreed(answers: Sequence[Judged]) -> Judged:
    """The answer of all folders; where they differ, it is not known which folder counts."""
    if len(set(map(itemgetter(0), answers))) == 1:
        return answers[0]
    reason = next(judged.reason for judged in answers if judged.answer is not Answer.HIT)
    return Judged(Answer.UNKNOWN, f"Several folders of graphs fit this launch. {reason}")


def _not_known(folder: GraphFolder) -> Judged:
    """The answer for a folder with the launch's variables, config and compiler, if its traced files are not known."""
    if lack := _lack(folder):
        return Judged(Answer.MISS, lack)
    return Judged(
        Answer.UNKNOWN,
        f"The folder of graphs {folder.name} has this launch's variables, config and compiler; "
        "whether the files that were traced for it are unchanged is not known.",
    )


def _loading(modules: int, folder: GraphFolder) -> Judged:
    """Whether vLLM loads what lies in the folder that it looks in; `modules`: how many the launch compiles."""
    if lack := _lack(folder):
        return Judged(Answer.MISS, lack)
    if doubt := _doubt(folder, modules):
        return Judged(Answer.UNKNOWN, doubt)
    return Judged(Answer.HIT, f"The folder of graphs is {folder.name}, and they are there.")


def _lack(folder: GraphFolder) -> str | None:
    """Why vLLM cannot load the graphs of a folder that it looks in; None if nothing says so."""
    where = f"The folder of graphs is {folder.name}"
    if folder.missing:
        return f"{where}, and it holds nothing of {', '.join(folder.missing)}."
    if folder.complete is False:
        return f"{where}, and it is not whole: {folder.why}."
    if folder.warmed is False:
        return f"{where}, and the warm-up could not load them."
    return None


def _doubt(folder: GraphFolder, modules: int) -> str | None:
    """Why it is not known whether vLLM can; None if it is."""
    where = f"The folder of graphs is {folder.name}"
    if folder.complete is None:
        return f"{where}, and whether it is whole cannot be told: {folder.why}."
    if folder.moved:
        return f"{where}, and its index leads to another place: it was not carried with `tuner cache pack`."
    if folder.warmed is None and not folder.graphs:
        return f"{where}, and its index names no graphs: they would lie in Inductor's own cache."
    if folder.warmed is None and folder.prefixes < modules:
        return f"{where}; it has graphs of {folder.prefixes} modules, and this launch compiles {modules}."
    return None


def _absent(fitting: Sequence[GraphFolder], folders: Sequence[GraphFolder]) -> str:
    if fitting:
        return f"The source files that were traced for the folder of graphs {fitting[0].name} have changed since."
    if not folders:
        return "There is no folder of graphs in this cache root."
    nearest = folders[0]
    parts = " and ".join(nearest.parts)
    differing = f", {nearest.name}, differs in {parts}" if parts else f", {nearest.name}, is not whole"
    return f"No folder of graphs has this launch's key; the nearest{differing}."
