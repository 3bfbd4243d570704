"""Whether a launch would load the graphs of the piecewise backend. Pure."""

from collections.abc import Mapping, Sequence
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


def shown(folders: Sequence[GraphFolder]) -> tuple[GraphFolder, ...]:
    """Those that the launch may look in; else the nearest."""
    return tuple(one for one in folders if one.fits) or tuple(folders[:1])


def predict_graphs(factors: Mapping[str, Any], folders: Sequence[GraphFolder]) -> Judged:
    """Judge a launch that loads graphs.

    Args:
        factors: the launch's document.
        folders: those of the cache root, the nearest first.
    """
    graphs = factors["keys"]["graphs"]
    fitting = [one for one in folders if one.fits]
    if nowhere := _nowhere(graphs):
        return nowhere
    if certain := [one for one in fitting if one.sources is Sources.SAME]:
        return _agreed([_loading(one, len(graphs["modules"])) for one in certain])
    if possible := [one for one in fitting if one.sources is Sources.UNKNOWN]:
        return _agreed([_not_known(one) for one in possible])
    if dark := [one for one in folders if not one.known and one.complete is not False]:
        return Judged(Answer.UNKNOWN, f"What the name of the folder {dark[0].name} was made of is not known.")
    return Judged(Answer.MISS, _absent(fitting, folders))


def _nowhere(graphs: Mapping[str, Any]) -> Judged | None:
    """The answer for a launch whose folder has no name that can be told."""
    if graphs["unknown"]:
        return Judged(Answer.UNKNOWN, graphs["unknown"])
    if graphs["disabled"]:
        return Judged(Answer.MISS, "This launch reads no graphs: Inductor's caches are switched off.")
    if graphs["cache_dir"]:
        why = "vLLM uses without a key: nothing in it tells whose graphs they are"
        return Judged(Answer.UNKNOWN, f"This launch names its cache_dir, {graphs['cache_dir']}, which {why}.")
    return None


def _agreed(found: Sequence[Judged]) -> Judged:
    """What all folders say; where they do not agree, nothing is known of the one that counts."""
    if len({one.answer for one in found}) == 1:
        return found[0]
    reason = next(one.reason for one in found if one.answer is not Answer.HIT)
    return Judged(Answer.UNKNOWN, f"Several folders of graphs fit this launch. {reason}")


def _not_known(folder: GraphFolder) -> Judged:
    """Of a folder with the launch's variables, config and compiler, of whose traced files nothing is known."""
    if lack := _lack(folder):
        return Judged(Answer.MISS, lack)
    return Judged(
        Answer.UNKNOWN,
        f"The folder of graphs {folder.name} has this launch's variables, config and compiler; "
        "whether the files that were traced for it are unchanged is not known.",
    )


def _loading(folder: GraphFolder, modules: int) -> Judged:
    """Whether vLLM loads what lies in the folder that it looks in."""
    if lack := _lack(folder):
        return Judged(Answer.MISS, lack)
    if doubt := _doubt(folder, modules):
        return Judged(Answer.UNKNOWN, doubt)
    return Judged(Answer.HIT, f"The folder of graphs is {folder.name}, and they are there.")


def _lack(folder: GraphFolder) -> str:
    """Why vLLM cannot load the graphs of a folder that it looks in; empty if nothing says so."""
    where = f"The folder of graphs is {folder.name}"
    if folder.missing:
        return f"{where}, and it holds nothing of {', '.join(folder.missing)}."
    if folder.complete is False:
        return f"{where}, and it is not whole: {folder.why}."
    return f"{where}, and the warm-up could not load them." if folder.warmed is False else ""


def _doubt(folder: GraphFolder, modules: int) -> str:
    """Why it is not known whether vLLM can; empty if it is."""
    where = f"The folder of graphs is {folder.name}"
    if folder.complete is None:
        return f"{where}, and whether it is whole cannot be told: {folder.why}."
    if folder.moved:
        return f"{where}, and its index leads to another place: it was not carried with `tuner cache pack`."
    if folder.warmed is None and not folder.graphs:
        return f"{where}, and its index names no graphs: they would lie in Inductor's own cache."
    if folder.warmed is None and folder.prefixes < modules:
        return f"{where}; it has graphs of {folder.prefixes} modules, and this launch compiles {modules}."
    return ""


def _absent(fitting: Sequence[GraphFolder], folders: Sequence[GraphFolder]) -> str:
    if fitting:
        return f"The source files that were traced for the folder of graphs {fitting[0].name} have changed since."
    if not folders:
        return "There is no folder of graphs in this cache root."
    nearest = folders[0]
    parts = " and ".join(nearest.parts)
    differing = f", {nearest.name}, differs in {parts}" if parts else f", {nearest.name}, is not whole"
    return f"No folder of graphs has this launch's key; the nearest{differing}."
