"""Turns the records of the stamps into passes: for each MoE call, the layer that was called and the layer that ran."""

from typing import Any

CALLED, RAN = 1, 2
"""Kinds of records: a layer was called, or a layer ran."""


def passes(records: list[list[int]], names: list[str]) -> dict[int, dict[str, Any]]:
    """Number of each pass -> what happened in it.

    Args:
        records: lists `[kind, layer, pass, tokens]`, in the order in which the device wrote them.
        names: the names of the MoE layers, in registered order.

    Returns:
        For each pass: `called` and `ran`: one layer name for each MoE call. `ran` holds None for a call without a run,
        and `called` holds None for a run without a call. `tokens`: the largest number of tokens of a call.
        `ambiguous`: whether a call was made before the previous call ran. Then the pairs of calls and runs are a guess.
    """
    by_number: dict[int, list[tuple[int, str, int]]] = {}
    for kind, layer, number, tokens in records:
        by_number.setdefault(number, []).append((kind, names[layer], tokens))
    return {number: pair(events) for number, events in by_number.items()}


def pair(events: list[tuple[int, str, int]]) -> dict[str, Any]:
    """Join the calls and runs of one pass. A run belongs to the oldest call that does not have a run yet."""
    calls: list[list[str | None]] = []
    waiting: list[list[str | None]] = []
    ambiguous = False
    for kind, name, _ in events:
        if kind == CALLED:
            waiting.append([name, None])
            calls.append(waiting[-1])
            ambiguous = ambiguous or len(waiting) > 1
        elif waiting:
            waiting.pop(0)[1] = name
        elif not calls or calls[-1][1] != name:  # an equal name means that one stamped method called another
            calls.append([None, name])
    return {
        "called": [called for called, _ in calls],
        "ran": [ran for _, ran in calls],
        "tokens": max(tokens for *_, tokens in events),
        "ambiguous": ambiguous,
    }


def group(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join equal passes into one, in the order in which they first ran.

    Passes are equal if they have the same `called`, `ran`, `ambiguous` and `replayed`.

    Args:
        entries: passes with `called`, `ran`, `ambiguous`, `replayed`, `tokens`, `request`.

    Returns:
        The first pass of each kind, with `count`: the number of equal passes, and `tokens`: the largest number of them.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        key = (tuple(entry["called"]), tuple(entry["ran"]), entry["ambiguous"], entry["replayed"])
        group = groups.setdefault(key, {**entry, "count": 0})
        group["count"] += 1
        group["tokens"] = max(group["tokens"], entry["tokens"])
    return list(groups.values())
