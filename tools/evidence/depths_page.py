"""The page of `make_depths.py`: what three probes say of each model, and whether that agrees."""

import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from rules.output import FLOOR, TIMES_NOISE, Distance, apart
from tools.evidence.depths_agree import EXPLAINED, EXPLANATIONS, Said, agreement, contradictions, unsettled
from tools.evidence.page import made_here, table, write

FLAG = "flag_on_against_flag_off"
NOISE = ("two-expert-sets", "UnusedExperts", "Reverse")
"""Thin models whose wrong runs are held against the noise floor."""
HEADS = ("model", "engine", "true", "order", "replay, flag on", "replay, flag off", "passes that left the order")
HEADS += ("outputs, on against off", "distance (nats)", "noise", "agree")
NOISE_HEADS = ("model", "noise floor", "threshold", "wrong layers: on against off", "times the noise")
NOISE_HEADS += ("right layers: off against eager",)


INTRODUCTION = (
    "The order probe runs the model's Python without engines, the replay probe sees which layer each MoE call of a "
    "real engine runs, and the output probe compares log-probabilities. Of the zoo the truth is known by construction "
    "(`tests/zoo/zoo_truth.py`).\n\n"
    "`yes`: all three say safe; or engines ran wrong layers with the flag on, and then answered otherwise, and the "
    "order probe did not say safe. `not reached`: unsafe, and no request of the engines made the model leave the "
    "registered order. `in doubt`: likewise, and the order probe itself is inconclusive. `refused`: unsafe, and with "
    "the flag on vLLM ends the engine itself. `no`: anything else. Each but `yes` and `in doubt` is explained below "
    "its table. Distances are those of the output probe's rule, in nats: the "
    "largest of the means over the prompts' tokens, added ones, those decoded alone, and those where answers part."
)
BEFORE_PARTING = (
    "Judged before the output probe looked at the token where answers part: distances are at most too small, and "
    "`same` may have been `moved`. Its prompts were others, and the replay probe did not send them."
)
ON_A_GPU = (
    "Made with 16 cores and one GPU, with the flag honoured as with torch before 2.11, by `make_depths.py run --jobs 6 "
    "--gpu --models … -- --attention-backend TRITON_ATTN --gpu-memory-utilization 0.1 --kv-cache-memory-bytes "
    "268435456`; `depths-gpu.json` beside this page is what it wrote."
)
WRONG_ONES = "What wrong layers do to the answers, against the noise floor, and against what compiling alone does:"
Row = dict[str, Any]
"""What is kept of one model."""


def told(row: Row) -> Said:
    """The words that are to agree."""
    words: defaultdict[str, str] = defaultdict(lambda: "unknown", row["words"])
    refused = row["reasons"].get("flag_on", "").startswith("vLLM refuses this launch")
    probes = row["true"], row["order"], words["flag_on"], words["flag_off"], words[FLAG]
    return Said(*probes, row.get("left", 0), refused)


def write_page(documents: Sequence[Row], models: Sequence[str]) -> None:
    """A table for each environment, its rows in the order of `models`, then what does not agree.

    Ends the process where a disagreement is not explained, or an explanation has none.
    """
    agreed: defaultdict[str, set[str]] = defaultdict(set)
    parts = ["# Three probes, side by side", INTRODUCTION]
    for document in documents:
        rows = document["rows"] = sorted(document["rows"], key=lambda row: models.index(row["model"]))
        for row in rows:
            agreed[row["model"]].add(agreement(told(row)))
        parts += [f"## {document['where']}", _counted(rows), table(HEADS, [_cells(row) for row in rows])]
        found = [row.get("distances", {}).get(FLAG) for row in rows]
        parts += [BEFORE_PARTING] if any(one and one["parted"] and "parting" not in one for one in found) else []
        parts += [] if document["where"].endswith("cpu") else [ON_A_GPU]
        parts += [line for row in rows if (line := _explained(row))]
        wrong_ones = [_against_noise(row) for row in rows if row["model"] in NOISE and _distance(row, FLAG) is not None]
        parts += [WRONG_ONES, table(NOISE_HEADS, wrong_ones)] if wrong_ones else []
    if wrong := unsettled(agreed, EXPLANATIONS):
        sys.exit("\n".join(wrong))
    write("depths.md", *parts, made_here("evidence-depths"))


def _counted(rows: Sequence[Row]) -> str:
    counts = Counter(agreement(told(row)) for row in rows)
    return f"{len(rows)} models: {', '.join(f'{number} {word}' for word, number in counts.most_common())}."


def _distance(row: Row, pair: str) -> float | None:
    found = row.get("distances", {}).get(pair)
    if not found:
        return None
    kept = {field.name: found.get(field.name, 0.0) for field in fields(Distance)}
    return apart(*pair.split("_against_"), Distance(**kept))


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _mode(row: Row) -> str:
    """How the engines of a launch run passes."""
    engine = row.get("engine") or {}
    if not engine:
        return "-"
    graphs = engine["cudagraph_mode"]
    return "eager" if engine["enforce_eager"] else f"compiled, {'no' if graphs == 'NONE' else graphs.lower()} graphs"


def _cells(row: Row) -> tuple[str, ...]:
    found = told(row)
    marked = {"wrong_layer": "**wrong_layer**", "moved": "**moved**"}
    words = [marked.get(word, word) for word in (found.flag_on, found.flag_off, found.outputs)]
    left = f"{found.left} of {row.get('passes', 0)}"
    numbers = _nats(_distance(row, FLAG)), _nats(row.get("noise"))
    return (
        row["model"],
        _mode(row),
        found.true or "-",
        found.order or "-",
        *words[:2],
        left,
        words[2],
        *numbers,
        agreement(found),
    )


def _explained(row: Row) -> str:
    """What does not agree, and why; empty if it does."""
    found = told(row)
    against = "; ".join([*contradictions(found), *row["failed"]])
    reasons = [reason for name, reason in row["reasons"].items() if row["words"][name] == "unknown"][:1]
    why = EXPLANATIONS.get(row["model"], "not explained")
    if agreement(found) not in EXPLAINED:
        return ""
    return f"- `{row['model']}`: {agreement(found)}. " + " ".join(
        [*(f"{one.rstrip('.')}." for one in (against, *reasons) if one), why]
    )


def _against_noise(row: Row) -> tuple[str, ...]:
    noise, wrong = row["noise"], _distance(row, FLAG) or 0.0
    threshold = None if noise is None else max(FLOOR, TIMES_NOISE * noise)
    times = f"{wrong / noise:.0f}" if noise else "noise is 0"
    right = _distance(row, "flag_off_against_eager")
    return (row["model"], _nats(noise), _nats(threshold), _nats(wrong), times, _nats(right))
