"""The order lists of a report, each written once: a large model's report repeats a few orders in hundreds of passes.

Pure, and exact: `unpacked` gives back what `packed` was given.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MARK = "#"
"""Key of the object that stands for an order: `{"#": 3}` is the fourth."""
MAX_UNPACKED = 64 * 1024 * 1024
"""Characters that the orders of one report may take when they are written out again: no small line makes a huge one."""


def packed(report: Mapping[str, Any]) -> tuple[Any, list[list[str]]]:
    """The report with a mark in place of every list of texts that occurs more than once, and these lists.

    The lists stand in the order in which they first occur, objects read by sorted key. A report that holds a mark of
    its own is left as it is, and the lists are empty.
    """
    orders = list(_lists(report))
    if any(order is None for order in orders):
        return report, []
    repeated = [order for order, times in Counter(orders).items() if times > 1 and order is not None]
    places = {order: place for place, order in enumerate(repeated)}
    return _marked(report, places), [list(order) for order in repeated]


def unpacked(report: Any, orders: Sequence[Sequence[str]]) -> Any:
    """The report that was packed.

    Raises:
        ValueError: a mark names no order, or the report would be too large.
    """
    if not orders:
        return report
    sizes = [sum(len(name) for name in order) + len(order) for order in orders]
    total = sum(sizes[_place(mark, orders)] for mark in _marks(report))
    if total > MAX_UNPACKED:
        raise ValueError(f"its orders would take more than {MAX_UNPACKED // 1024 // 1024} MiB")
    return _unmarked(report, orders)


def _is_order(value: object) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(item, str) for item in value)


def _lists(value: Any) -> Iterator[tuple[str, ...] | None]:
    """Every order, as often as it occurs; None for an object that would read as a mark."""
    if _is_order(value):
        yield tuple(value)
    elif isinstance(value, Mapping):
        if MARK in value:
            yield None
        for name in sorted(value):
            yield from _lists(value[name])
    elif isinstance(value, list):
        for item in value:
            yield from _lists(item)


def _marked(value: Any, places: Mapping[tuple[str, ...], int]) -> Any:
    if _is_order(value):
        place = places.get(tuple(value))
        return value if place is None else {MARK: place}
    if isinstance(value, Mapping):
        return {name: _marked(item, places) for name, item in value.items()}
    return [_marked(item, places) for item in value] if isinstance(value, list) else value


def _marks(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping) and MARK in value:
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _marks(item)


def _unmarked(value: Any, orders: Sequence[Sequence[str]]) -> Any:
    if isinstance(value, Mapping):
        if MARK in value:
            return list(orders[_place(value, orders)])
        return {name: _unmarked(item, orders) for name, item in value.items()}
    return [_unmarked(item, orders) for item in value] if isinstance(value, list) else value


def _place(mark: Mapping[str, Any], orders: Sequence[Sequence[str]]) -> int:
    place = mark[MARK]
    if set(mark) != {MARK} or type(place) is not int or not 0 <= place < len(orders):
        raise ValueError("it names an order that it does not hold")
    return place
