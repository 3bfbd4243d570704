"""From the records of the stamps to passes: the layer that each call named, and the layer that ran."""

from typing import Any

CALLED, RAN = 1, 2
"""Kinds of records."""


def passes(records: list[list[int]], names: list[str]) -> dict[int, dict[str, Any]]:
    """The passes by number.

    Args:
        records: `[kind, layer, pass, tokens]` in the order of the device.
        names: registered names, in registered order.

    Returns:
        Number -> `called` and `ran`, a name for each MoE call, `ran` None where none answered and `called` None where
        something ran uncalled; `tokens`; `ambiguous`: whether a call was made before the one before had run, so that
        which run answers which is not told.
    """
    by_number: dict[int, list[tuple[int, str, int]]] = {}
    for kind, layer, number, tokens in records:
        by_number.setdefault(number, []).append((kind, names[layer], tokens))
    return {number: paired(events) for number, events in by_number.items()}


def paired(events: list[tuple[int, str, int]]) -> dict[str, Any]:
    """Join each call of one pass with the run that answers it: the oldest call without one."""
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
        elif not calls or calls[-1][1] != name:  # else one entry point calls another
            calls.append([None, name])
    return {
        "called": [called for called, _ in calls],
        "ran": [ran for _, ran in calls],
        "tokens": max(tokens for *_, tokens in events),
        "ambiguous": ambiguous,
    }


def grouped(described: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Equal passes once, each with how often it ran, in the order in which they first ran.

    Args:
        described: passes with `called`, `ran`, `ambiguous`, `replayed`, `tokens`, `request`.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in described:
        key = (tuple(entry["called"]), tuple(entry["ran"]), entry["ambiguous"], entry["replayed"])
        group = groups.setdefault(key, {**entry, "count": 0})
        group["count"] += 1
        group["tokens"] = max(group["tokens"], entry["tokens"])
    return list(groups.values())
