"""The page of `make_depths.py`: the results of two probes on each model, and whether they agree."""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tools.evidence.depths_agree import EXPLANATIONS, TO_EXPLAIN, Words, agreement, contradictions, unsettled
from tools.evidence.page import footer, table, write

HEADS = ("model", "engine", "true", "order", "replay, flag on", "replay, flag off", "passes that left the order")
HEADS += ("agree",)
INTRODUCTION = (
    "The order probe runs the model's Python without engines, and the replay probe sees which layer each MoE call of a "
    "real engine runs. Of the zoo the truth is known by construction (`tests/zoo/zoo_truth.py`).\n\n"
    "`yes`: both say safe; or engines ran wrong layers with the flag on, and the order probe did not say safe. "
    "`not reached`: unsafe, and no request of the engines made the model leave the registered order. `in doubt`: "
    "likewise, and the order probe itself is inconclusive. `refused`: unsafe, and with the flag on vLLM ends the "
    "engine itself. `no`: anything else. The rows other than `yes` and `in doubt` are explained below their table."
)
ON_A_GPU = (
    "Made with 16 cores and one GPU, with the flag honoured as with torch before 2.11, by `make_depths.py run --jobs 6 "
    "--gpu --models … -- --attention-backend TRITON_ATTN --gpu-memory-utilization 0.1 --kv-cache-memory-bytes "
    "268435456`; `depths-gpu.json` beside this page is what it wrote."
)
Row = dict[str, Any]
"""The results on a model, as `make_depths.py` stores them."""


def words_of(row: Row) -> Words:
    """The words that are compared."""
    return Words(
        true=row["true"],
        order=row["order"],
        flag_on=row["words"].get("flag_on", "unknown"),
        flag_off=row["words"].get("flag_off", "unknown"),
        departures=row.get("left", 0),
        refused=row["reasons"].get("flag_on", "").startswith("vLLM refuses this launch"),
    )


def write_page(documents: Sequence[Row], models: Sequence[str]) -> None:
    """Write a table for each environment, its rows in the order of `models`, and the explanations below it.

    Ends the process if an explanation is missing or not needed.
    """
    agreed: defaultdict[str, set[str]] = defaultdict(set)
    parts = ["# Two probes, side by side", INTRODUCTION]
    for document in documents:
        rows = document["rows"] = sorted(document["rows"], key=lambda row: models.index(row["model"]))
        for row in rows:
            agreed[row["model"]].add(agreement(words_of(row)))
        parts += [f"## {document['where']}", _summary(rows), table(HEADS, [_cells(row) for row in rows])]
        if not document["where"].endswith("cpu"):
            parts.append(ON_A_GPU)
        parts += filter(None, map(_explanation, rows))
    if wrong := unsettled(agreed, EXPLANATIONS):
        sys.exit("\n".join(wrong))
    write("depths.md", *parts, footer("evidence-depths"))


def _summary(rows: Sequence[Row]) -> str:
    counts = Counter(agreement(words_of(row)) for row in rows)
    return f"{len(rows)} models: {', '.join(f'{number} {word}' for word, number in counts.most_common())}."


def _mode(row: Row) -> str:
    """How the engines of a launch run passes."""
    engine = row.get("engine") or {}
    if not engine:
        return "-"
    graphs = engine["cudagraph_mode"]
    if engine["enforce_eager"]:
        return "eager"
    return "compiled, no graphs" if graphs == "NONE" else f"compiled, {graphs.lower()} graphs"


def _cells(row: Row) -> tuple[str, ...]:
    words = words_of(row)
    return (
        row["model"],
        _mode(row),
        words.true or "-",
        words.order or "-",
        _bold_if_wrong(words.flag_on),
        _bold_if_wrong(words.flag_off),
        f"{words.departures} of {row.get('passes', 0)}",
        agreement(words),
    )


def _bold_if_wrong(word: str) -> str:
    return f"**{word}**" if word == "wrong_layer" else word


def _explanation(row: Row) -> str:
    """The contradictions and reasons of a row, and their explanation; empty if the row needs none."""
    words = words_of(row)
    if agreement(words) not in TO_EXPLAIN:
        return ""
    texts = ["; ".join([*contradictions(words), *row["failed"]])]
    unknown = [name for name in ("flag_on", "flag_off") if row["words"].get(name) == "unknown"]
    if unknown:
        texts.append(row["reasons"][unknown[0]])
    sentences = [f"{text.rstrip('.')}." for text in texts if text]
    sentences.append(EXPLANATIONS.get(row["model"], "not explained"))
    return f"- `{row['model']}`: {agreement(words)}. {' '.join(sentences)}"
