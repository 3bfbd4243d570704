"""How many layers of a model stand for all of them, and its config with no more than these.

Pure, as `shrink.py`, which calls it.
"""

import math
import re
from typing import Any

Config = dict[str, Any]

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
LAYER_INTERVALS = (
    "decoder_sparse_step",
    "moe_layer_freq",
    "moe_layer_interval",
    "interleave_moe_layer_step",
    "full_attention_interval",
    "expert_layer_period",
    "attn_layer_period",
    "layer_group_size",
)
FIRST_MOE_LAYER = ("first_k_dense_replace", "moe_layer_start_index", "expert_layer_offset")
LAST_MOE_LAYER = ("moe_layer_end_index",)
MIN_LAYERS = 4


def numbers(value: object) -> list[int]:
    """The integers that a value is or lists."""
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, int) and not isinstance(item, bool)]


def layer_key(node: Config) -> str:
    """The key that holds the number of layers, empty if there is none."""
    return next((key for key in LAYER_COUNTS if node.get(key) is not None), "")


def shrink_layers(node: Config) -> None:
    """Cut the layers, and everything that goes by them, to those that show every kind."""
    key = layer_key(node)
    total = node[key]
    lists = {name: value for name, value in node.items() if _is_per_layer(name, value, total)}
    chosen = {name: value for name, value in node.items() if name not in lists and _is_index_list(name, value)}
    cap_keys(node, FIRST_MOE_LAYER, 1)
    kept = min(total, _needed_layers(node, lists, chosen, total))
    node[key] = kept
    for name, value in lists.items():
        node[name] = value[:kept]
    cap_keys(node, LAST_MOE_LAYER, kept - 1)
    for name, value in chosen.items():
        node[name] = _indices_below(kept, value)
    for name, value in node.items():
        if _is_by_layer(name, value):
            node[name] = {index: item for index, item in value.items() if int(index) < kept}


def _is_per_layer(name: str, value: object, total: int) -> bool:
    """As many items as layers: a list, or the letters of a pattern; other text has that length by chance."""
    kinds = (list, str) if name.endswith("pattern") else (list,)
    return name != "architectures" and isinstance(value, kinds) and len(value) == total and total > 1


def _is_index_list(name: str, value: object) -> bool:
    """Numbers of layers, as a list or, as some publish it, as text with commas."""
    if not name.endswith(("_layers", "_enum")):
        return False
    if isinstance(value, str):
        return re.fullmatch(r"[0-9]{1,6}(, ?[0-9]{1,6})*", value) is not None
    return isinstance(value, list) and all(type(item) is int for item in value)


def _indices(value: list[int] | str) -> list[int]:
    return [int(item) for item in value.split(",")] if isinstance(value, str) else value


def _indices_below(limit: int, value: list[int] | str) -> list[int] | str:
    """The layer numbers below the limit, in the form that they have."""
    indices = [index for index in _indices(value) if index < limit]
    return ",".join(map(str, indices)) if isinstance(value, str) else indices


def _is_by_layer(name: str, value: object) -> bool:
    """Overrides of single layers by their number, as transformers 5 saves them."""
    number = re.compile("[0-9]{1,6}")
    return name.startswith("per_layer") and isinstance(value, dict) and all(number.fullmatch(key) for key in value)


def _needed_layers(node: Config, lists: dict[str, Any], chosen: dict[str, Any], total: int) -> int:
    """The shortest prefix that shows every kind, and two periods of every interval."""
    members = [set(_indices(value)) for value in chosen.values()]
    single = [value for name, value in node.items() if _is_by_layer(name, value)]
    kinds = [
        repr(
            [
                *(value[index] for value in lists.values()),
                *(index in member for member in members),
                *(value.get(str(index)) for value in single),
            ]
        )
        for index in range(total)
    ]
    last_new_kind = max(dict(zip(reversed(kinds), reversed(range(total)), strict=True)).values())
    intervals = [number for key in LAYER_INTERVALS for number in numbers(node.get(key)) if 0 < number <= total]
    period = math.lcm(*intervals)
    needed = max(MIN_LAYERS, last_new_kind + 2, 2 * period)
    return -(-needed // period) * period  # whole periods: some classes compute a list of kinds, and compare


def cap_keys(node: Config, keys: tuple[str, ...], limit: int) -> None:
    """Let none of these sizes be above the limit."""
    for key in keys:
        if key in node:
            node[key] = _cap(node[key], limit)


def _cap(value: Any, limit: int) -> Any:
    """The value, or each of a list, at most `limit`; anything but integers unchanged."""
    if isinstance(value, list):
        return [_cap(item, limit) for item in value]
    return min(value, limit) if isinstance(value, int) and not isinstance(value, bool) else value
