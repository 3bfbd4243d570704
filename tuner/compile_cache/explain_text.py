"""An explanation as text."""

import json
from collections.abc import Sequence
from typing import Any

from tuner.compile_cache.autotune_prediction import TreePrediction
from tuner.compile_cache.difference import Difference, Effect
from tuner.compile_cache.explain import Explanation
from tuner.compile_cache.graph_folders import GraphFolder, Sources
from tuner.text import folded, visible

EFFECTS = {
    Effect.KEY: "moves the key",
    Effect.LOAD: "compiles again",
    Effect.MAYBE: "may compile again",
    Effect.NONE: "does not count",
}
SOURCES = {
    Sources.SAME: "its source files are unchanged",
    Sources.CHANGED: "its source files have changed",
    Sources.UNKNOWN: "whether its source files are unchanged is not known",
}
MOST = 12
"""Differences that are shown; the JSON document holds all."""
WIDTH = 60


def explanation_text(explanation: Explanation) -> str:
    """The answer, why, the folders, and what differs with its fix; what a cache says is made visible."""
    prediction = explanation.prediction
    lines = [f"cache: {prediction.answer}", *map("  {}".format, prediction.reasons)]
    lines += [f"key: {key.key} {key.module} ({key.function})" for key in prediction.keys]
    for folder in explanation.folders:
        lines += _folder(folder, explanation.differences)
    if explanation.tree is not None:
        lines += _tree(explanation.tree)
    lines += [f"root: {explanation.root}", *_compared(explanation)]
    return "\n".join(map(folded_visibly, lines))


def folded_visibly(text: str) -> str:
    """A line of an answer, folded beside the blanks it begins with; what a cache says is made visible."""
    unindented = text.lstrip(" ")
    begin = text[: len(text) - len(unindented)]
    return folded(visible(unindented), f"{begin}  ", begin)


def _tree(tree: TreePrediction) -> list[str]:
    """What the launch would find of FlashInfer's autotune, and what to do."""
    lines = [f"autotune: {tree.answer}"]
    lines += [f"  {sentence}" for sentence in filter(None, (*tree.reasons, tree.advice))]
    if tree.path:
        lines.append(f"  tree: {tree.path}")
    return lines


def _compared(explanation: Explanation) -> list[str]:
    record = explanation.record
    if record is None:
        return ["compared with: nothing, no warm-up of this model is on record here"]
    with_what = f"compared with: {record.digest[:12]} of {record.made_at}, {record.model}"
    return [with_what, *difference_lines("differences", explanation.differences)]


def _folder(folder: GraphFolder, printed: Sequence[Difference]) -> list[str]:
    """A folder of graphs; without the differences that are printed of the warm-up."""
    if folder.fits:
        return [f"graphs: {folder.name}, {SOURCES[folder.sources]}"]
    if not folder.factors_known:
        return [f"graphs: {folder.name}, which does not say what its name was made of"]
    own = [difference for difference in folder.differences if difference not in printed]
    if not own:
        return [f"graphs: nearest is {folder.name}, which differs as the warm-up does"]
    return difference_lines(f"graphs: nearest is {folder.name}", own)


def difference_lines(head: str, differences: Sequence[Difference]) -> list[str]:
    """Each difference with its fix, below a headline; `none` if there are none."""
    if not differences:
        return [f"{head}: none"]
    lines = [f"{head}:"]
    for difference in differences[:MOST]:
        values = f"{_short(difference.before)} -> {_short(difference.after)}"
        lines.append(f"  {EFFECTS[difference.effect]}: {difference.kind} {difference.name}: {values}")
        if difference.fix:
            lines.append(f"    {difference.fix}")
    if len(differences) > MOST:
        lines.append(f"  and {len(differences) - MOST} more; --json shows all")
    return lines


def _short(value: Any) -> str:
    if value is None:
        return "(none)"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"
