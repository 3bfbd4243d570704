"""How many layers of a model are enough to show every kind of layer, and the config with only these.

Pure, as `shrink.py`, which calls it.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

Config = dict[str, Any]

LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
LAYER_LISTS = ("layers_block_type", "layer_types", "hybrid_override_pattern")
"""Keys with one item for each layer. Some published configs have one of them and no count, such as NemotronH's."""
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
_LAYER_NUMBER = "[0-9]{1,6}"
_LAYER_NUMBERS = re.compile(rf"{_LAYER_NUMBER}(, ?{_LAYER_NUMBER})*")


def numbers(value: object) -> list[int]:
    """The integers in a value: the value itself, or the items of a list. A boolean is not an integer here."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, int) and not isinstance(item, bool)]


def round_up(number: int, step: int) -> int:
    """The lowest multiple of `step` that is not below the number."""
    return -(-number // step) * step


def layer_key(node: Config) -> str | None:
    """The key that holds the number of layers, or else has one item for each; None if there is none."""
    for key in LAYER_COUNTS:
        if node.get(key) is not None:
            return key
    for key in LAYER_LISTS:
        if isinstance(node.get(key), str if key.endswith("pattern") else list) and node[key]:
            return key
    return None


def layer_count(node: Config) -> Any:
    """The number of layers as the config says it, which may be anything; 0 if it does not say."""
    key = layer_key(node)
    if key is None:
        return 0
    return len(node[key]) if key in LAYER_LISTS else node[key]


def shrink_layers(node: Config) -> None:
    """Cut the layers to those that show every kind, and with them every field that goes by layers."""
    key = layer_key(node)
    if key is None:
        return
    total = layer_count(node)
    per_layer = {name: value for name, value in node.items() if _is_per_layer(name, value, total)}
    index_lists = {name: value for name, value in node.items() if name not in per_layer and _is_index_list(name, value)}
    cap_keys(node, FIRST_MOE_LAYER, 1)
    count = min(total, _needed_layers(node, per_layer, index_lists, total))
    cap_keys(node, (key,) if key in LAYER_COUNTS else (), count)
    for name, value in per_layer.items():
        node[name] = value[:count]
    cap_keys(node, LAST_MOE_LAYER, count - 1)
    for name, value in index_lists.items():
        node[name] = _indices_below(count, value)
    _drop_overrides(node, count)


def _drop_overrides(node: Config, count: int) -> None:
    """Drop what a config says of single layers from this number on."""
    for name, value in node.items():
        if _is_numbered_mapping(name, value):
            node[name] = {index: item for index, item in value.items() if int(index) < count}


def _is_per_layer(name: str, value: object, total: int) -> bool:
    """Whether a field has one item for each layer: a list, or the letters of a pattern.

    Any other text has that length by chance.
    """
    kinds = (list, str) if name.endswith("pattern") else (list,)
    return name != "architectures" and isinstance(value, kinds) and len(value) == total and total > 1


def _is_index_list(name: str, value: object) -> bool:
    """Whether a field holds numbers of layers: a list or, in some published configs, text with commas."""
    if not name.endswith(("_layers", "_enum")):
        return False
    if isinstance(value, str):
        return _LAYER_NUMBERS.fullmatch(value) is not None
    return isinstance(value, list) and all(type(item) is int for item in value)


def _indices(value: list[int] | str) -> list[int]:
    if isinstance(value, str):
        return [int(item) for item in value.split(",")]
    return value


def _indices_below(limit: int, value: list[int] | str) -> list[int] | str:
    """The layer numbers below the limit, in the form in which they were written."""
    indices = [index for index in _indices(value) if index < limit]
    if isinstance(value, str):
        return ",".join(map(str, indices))
    return indices


def _is_numbered_mapping(name: str, value: object) -> bool:
    """Whether a field overrides single layers by their number, as transformers 5 saves them."""
    if not name.startswith("per_layer") or not isinstance(value, dict):
        return False
    return all(re.fullmatch(_LAYER_NUMBER, key) for key in value)


def _needed_layers(node: Config, per_layer: dict[str, Any], index_lists: dict[str, Any], total: int) -> int:
    """The length of the shortest prefix that shows every kind of layer, and two periods of every interval."""
    index_sets = [set(_indices(value)) for value in index_lists.values()]
    overrides = [value for name, value in node.items() if _is_numbered_mapping(name, value)]
    kinds = []
    for index in range(total):
        kind = [value[index] for value in per_layer.values()]
        kind += [index in index_set for index_set in index_sets]
        kind += [override.get(str(index)) for override in overrides]
        kinds.append(repr(kind))
    intervals = []
    for key in LAYER_INTERVALS:
        intervals += [number for number in numbers(node.get(key)) if 0 < number <= total]
    period = math.lcm(*intervals)
    needed = max(MIN_LAYERS, _last_new_index(kinds) + 2, 2 * period)
    return round_up(needed, period)  # some config classes compute the list of kinds and compare it: whole periods


def _last_new_index(kinds: Iterable[str]) -> int:
    """The last index at which a kind appears for the first time."""
    seen_kinds: set[str] = set()
    last = 0
    for index, kind in enumerate(kinds):
        if kind not in seen_kinds:
            seen_kinds.add(kind)
            last = index
    return last


def cap_keys(node: Config, keys: Iterable[str], limit: int) -> None:
    """Reduce each of these sizes to the limit if it is larger."""
    for key in keys:
        if key in node:
            node[key] = _cap(node[key], limit)


def _cap(value: Any, limit: int) -> Any:
    """The value, or each item of a list, reduced to the limit; anything but an integer unchanged."""
    if isinstance(value, list):
        return [_cap(item, limit) for item in value]
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return min(value, limit) if is_integer else value
