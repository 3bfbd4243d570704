"""From the records of the stamps to passes: which layer each call meant, and which ran."""

CALLED, RAN = 1, 2
"""Kinds of records."""


def passes(records: list, names: list) -> dict:
    """The passes by number.

    Args:
        records: `[kind, layer, pass, tokens]` in the order of the device.
        names: registered names, in registered order.

    Returns:
        Number -> `called` and `ran`, a name for each MoE call, `ran` None where none answered and `called` None where
        something ran uncalled; `tokens`; `ambiguous`: whether a call was made before the one before had run, so that
        which run answers which is not told.
    """
    found: dict[int, list] = {}
    for kind, layer, number, tokens in records:
        found.setdefault(number, []).append((kind, names[layer], tokens))
    return {number: paired(events) for number, events in found.items()}


def paired(events: list) -> dict:
    """Join each call of one pass with the run that answers it: the oldest call without one."""
    calls: list[list] = []
    waiting: list[list] = []
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


def grouped(described: list) -> list:
    """Equal passes once, with how often they ran, in the order of the first of each.

    Args:
        described: passes with `called`, `ran`, `ambiguous`, `replayed`, `tokens`, `request`.
    """
    groups: dict[tuple, dict] = {}
    for one in described:
        key = (*(tuple(one[part]) for part in ("called", "ran")), one["ambiguous"], one["replayed"])
        group = groups.setdefault(key, {**one, "count": 0})
        group["count"] += 1
        group["tokens"] = max(group["tokens"], one["tokens"])
    return list(groups.values())
