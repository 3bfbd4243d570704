"""The page of `make_depths.py`: what two probes say of each model, and whether that agrees."""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from tools.evidence.depths_agree import EXPLAINED, EXPLANATIONS, Words, agreement, contradictions, unsettled
from tools.evidence.page import made_here, table, write

HEADS = ("model", "engine", "true", "order", "replay, flag on", "replay, flag off", "passes that left the order")
HEADS += ("agree",)
INTRODUCTION = (
    "The order probe runs the model's Python without engines, and the replay probe sees which layer each MoE call of a "
    "real engine runs. Of the zoo the truth is known by construction (`tests/zoo/zoo_truth.py`).\n\n"
    "`yes`: both say safe; or engines ran wrong layers with the flag on, and the order probe did not say safe. "
    "`not reached`: unsafe, and no request of the engines made the model leave the registered order. `in doubt`: "
    "likewise, and the order probe itself is inconclusive. `refused`: unsafe, and with the flag on vLLM ends the "
    "engine itself. `no`: anything else. Each but `yes` and `in doubt` is explained below its table."
)
ON_A_GPU = (
    "Made with 16 cores and one GPU, with the flag honoured as with torch before 2.11, by `make_depths.py run --jobs 6 "
    "--gpu --models … -- --attention-backend TRITON_ATTN --gpu-memory-utilization 0.1 --kv-cache-memory-bytes "
    "268435456`; `depths-gpu.json` beside this page is what it wrote."
)
Row = dict[str, Any]
"""What is kept of one model."""


def words_of(row: Row) -> Words:
    """The words that are to agree."""
    words: defaultdict[str, str] = defaultdict(lambda: "unknown", row["words"])
    refused = row["reasons"].get("flag_on", "").startswith("vLLM refuses this launch")
    probes = row["true"], row["order"], words["flag_on"], words["flag_off"]
    return Words(*probes, row.get("left", 0), refused)


def write_page(documents: Sequence[Row], models: Sequence[str]) -> None:
    """A table for each environment, its rows in the order of `models`, then what does not agree.

    Ends the process where a disagreement is not explained, or an explanation has none.
    """
    agreed: defaultdict[str, set[str]] = defaultdict(set)
    parts = ["# Two probes, side by side", INTRODUCTION]
    for document in documents:
        rows = document["rows"] = sorted(document["rows"], key=lambda row: models.index(row["model"]))
        for row in rows:
            agreed[row["model"]].add(agreement(words_of(row)))
        parts += [f"## {document['where']}", _counted(rows), table(HEADS, [_cells(row) for row in rows])]
        parts += [] if document["where"].endswith("cpu") else [ON_A_GPU]
        parts += filter(None, map(_explained, rows))
    if wrong := unsettled(agreed, EXPLANATIONS):
        sys.exit("\n".join(wrong))
    write("depths.md", *parts, made_here("evidence-depths"))


def _counted(rows: Sequence[Row]) -> str:
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
    known_words = words_of(row)
    replays = [_marked(known_words.flag_on), _marked(known_words.flag_off)]
    passes = f"{known_words.left} of {row.get('passes', 0)}"
    return (
        row["model"],
        _mode(row),
        known_words.true or "-",
        known_words.order or "-",
        *replays,
        passes,
        agreement(known_words),
    )


def _marked(word: str) -> str:
    return f"**{word}**" if word == "wrong_layer" else word


def _explained(row: Row) -> str:
    """What does not agree, and why; empty if it does."""
    words = words_of(row)
    against = "; ".join([*contradictions(words), *row["failed"]])
    unknown = [name for name in ("flag_on", "flag_off") if row["words"].get(name) == "unknown"]
    reasons = [row["reasons"][name] for name in unknown[:1]]
    why = EXPLANATIONS.get(row["model"], "not explained")
    if agreement(words) not in EXPLAINED:
        return ""
    return f"- `{row['model']}`: {agreement(words)}. " + " ".join(
        [*(f"{text.rstrip('.')}." for text in (against, *reasons) if text), why]
    )
