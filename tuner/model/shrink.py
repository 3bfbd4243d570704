"""A real model config cut to a size that builds in seconds and still shows every layer kind.

Pure: config in, smaller config and the list of what was changed out.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tuner.errors import TunerError
from tuner.model.shrink_layers import LAYER_COUNTS, cap_keys, layer_key, numbers, shrink_layers

Config = dict[str, Any]

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_k", "moe_topk")
INNER_WIDTHS = (
    "intermediate_size",
    "intermediate_size_mlp",
    "moe_intermediate_size",
    "shared_intermediate_size",
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
)
STATES = (
    ("mamba_expand", "mamba_n_heads", "mamba_d_head"),
    ("mamba_expand", "mamba_num_heads", "mamba_head_dim"),
    ("expand", "mamba_num_heads", "mamba_head_dim"),
)
"""Keys whose product over the hidden size some config classes check: heads of a state space are as wide as it is."""

ENCODERS = ("vision", "audio")
"""How the key of a config that describes an encoder begins."""
ENCODER_LAYERS = ("depth", "encoder_layers", "vt_num_hidden_layers", *LAYER_COUNTS)
MAX_ENCODER_LAYERS = 4
"""Encoders are built and never run, so their layers cost memory alone: 2.4 GB in a CPU build of Qwen3-Omni."""
POSITIONS = ("max_position_embeddings",)
MAX_POSITIONS = 262_144
"""Only configs beyond this are cut: a rotary table of ten million positions takes half a minute to fill."""

MAX_INNER, MAX_HIDDEN, MIN_HEADS, MIN_EXPERTS, MAX_TOP_K = 256, 512, 4, 8, 2
LIMITS = {"layers": 10_000, "heads": 10_000, "experts": 100_000, "size": 10_000_000}


@dataclass(frozen=True)
class Shrunk:
    """The config to build, and what it no longer says.

    Attributes:
        config: the smaller config.
        assumptions: `{"kind", "detail"}` for each kind of change, as in the report.
        special_tokens: every token id the config names anywhere, ascending.
        deep: the same with every layer, for code that asks for layers by number; None where no layer was cut.
    """

    config: Config
    assumptions: tuple[dict[str, str], ...]
    special_tokens: tuple[int, ...]
    deep: Config | None = None


def shrink(config: Config) -> Shrunk:
    """Cut layers, experts, widths and vocabulary; drop quantisation.

    Layers: the shortest prefix, at least four, that shows every kind of every
    per-layer list and of every list of layer indices, the dense layers before the first MoE layer (cut to one) and
    two full periods of every interval.

    Raises:
        TunerError: a size is no integer or out of all proportion.
    """
    small = _cut(config)
    deep = _cut(config, layers=False).config
    return replace(small, deep=None if deep == small.config else deep)


def _cut(config: Config, *, layers: bool = True) -> Shrunk:
    """The config with smaller sizes and without quantisation; with fewer layers, if asked for."""
    small = copy.deepcopy(config)
    special = special_tokens(config)
    dropped = _drop_quantization(small)
    nodes = [node for node in text_nodes(small) if layer_key(node)]
    before = copy.deepcopy(nodes)
    for node in nodes:
        _check_sizes(node)
        if layers:
            shrink_layers(node)
        _shrink_experts(node)
        _shrink_widths(node)
        _shrink_vocabulary(node, special)
        cap_keys(node, POSITIONS, MAX_POSITIONS)
    _follow_hidden_size(small, before, nodes)
    changes = [_described(old, new) for old, new in zip(before, nodes, strict=True)]
    return Shrunk(small, (*_assumptions(changes), *_shrink_encoders(small), *dropped), special)


def declares_experts(config: Config) -> bool:
    """Whether the config asks for more than one routed expert anywhere outside its encoders."""
    counts = (numbers(node[key]) for node in text_nodes(config) for key in EXPERT_COUNTS if key in node)
    return any(count > 1 for found in counts for count in found)


def text_nodes(config: Config) -> Iterator[Config]:
    """The config and every nested config that does not describe an encoder."""
    yield config
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("config") and not key.startswith((*ENCODERS, "quant")):
            yield from text_nodes(value)


def encoder_nodes(config: Config) -> Iterator[Config]:
    """Every nested config that describes an encoder."""
    for node in text_nodes(config):
        yield from (value for key, value in node.items() if isinstance(value, dict) and key.startswith(ENCODERS))


def special_tokens(config: Config) -> tuple[int, ...]:
    """Every token id that the config names: integers (or lists) under keys such as `*_token_id`, `*_patch_id`."""
    found: set[int] = set()
    for key, value in config.items():
        if isinstance(value, dict):
            found.update(special_tokens(value))
        elif key.endswith(("_id", "_ids", "token_index")):
            found.update(number for number in numbers(value) if number >= 0)
    return tuple(sorted(found))


def _check_sizes(node: Config) -> None:
    """Refuse what no model has; experts, inner widths and heads may be lists, one number a layer or modality."""
    _check(node, layer_key(node), 1, LIMITS["layers"])
    for key in ("hidden_size", "vocab_size"):
        _check(node, key, 1, LIMITS["size"])
    for key in ("n_group", *EXPERTS_PER_TOKEN, *EXPERT_COUNTS):
        _check(node, key, 0, LIMITS["experts"], lists=True)
    for key in _head_keys(node):
        _check(node, key, 0, LIMITS["heads"], lists=True)
    for key in INNER_WIDTHS:
        _check(node, key, 0, LIMITS["size"], lists=True)


def _check(node: Config, key: str, low: int, high: int, *, lists: bool = False) -> None:
    value = node.get(key)
    if value is None:
        return
    items = value if lists and isinstance(value, list) else [value]
    if items and all(type(item) is int and low <= item <= high for item in items):
        return
    raise TunerError(
        f"The config says {key} = {value!r:.60}, which is no number from {low:,} to {high:,}.",
        hint="Correct config.json; nothing was probed or stored.",
        kind="model",
    )


def _drop_quantization(config: Config) -> list[dict[str, str]]:
    keys = ("quantization_config", "compression_config")
    dropped = [key for node in text_nodes(config) for key in keys if node.pop(key, None) is not None]
    return [{"kind": "quantization_dropped", "detail": ", ".join(dropped)}] if dropped else []


def _shrink_encoders(config: Config) -> list[dict[str, str]]:
    """Keep a few layers of each encoder."""
    cut = []
    for node in encoder_nodes(config):
        before = dict(node)
        cap_keys(node, ENCODER_LAYERS, MAX_ENCODER_LAYERS)
        cut += [f"{key} {before[key]} -> {node[key]}" for key in ENCODER_LAYERS if before.get(key) != node.get(key)]
    return [{"kind": "encoders_shrunk", "detail": ", ".join(cut)}] if cut else []


def _shrink_experts(node: Config) -> None:
    groups = max([1, *numbers(node.get("n_group"))])
    limit = groups * max(2, math.ceil(MIN_EXPERTS / groups))  # grouped routing looks at the best two of a group
    cap_keys(node, EXPERT_COUNTS, limit)
    cap_keys(node, EXPERTS_PER_TOKEN, MAX_TOP_K)


def _shrink_widths(node: Config) -> None:
    cap_keys(node, INNER_WIDTHS, MAX_INNER)
    heads = {key: node[key] for key in _head_keys(node) if node[key] is not None}
    scalar = all(isinstance(value, int) for value in heads.values())
    if not scalar or not heads.get("num_attention_heads") or node.get("hidden_size") is None:
        return
    divisor = math.gcd(*heads.values())
    kept = min(divisor, math.ceil(MIN_HEADS * divisor / heads["num_attention_heads"]))
    shrink_by = divisor // next(part for part in range(kept, divisor + 1) if divisor % part == 0)
    for key, value in heads.items():
        node[key] = value // shrink_by
    fixed_head = node.get("head_dim") or node.get("qk_nope_head_dim")
    wide = node["hidden_size"]
    node["hidden_size"] = min(wide, MAX_HIDDEN) if fixed_head else wide // shrink_by
    _follow_states(node, wide)


def _follow_states(node: Config, wide: int) -> None:
    """Where the heads of a state space filled the hidden size, let as many do that as fit into the new one."""
    for keys in STATES:
        values = [node[key] for key in keys if type(node.get(key)) is int]
        if len(values) == len(keys) and values[0] * wide == values[1] * values[2] > 0:
            fitting, rest = divmod(values[0] * node["hidden_size"], values[2])
            if fitting and not rest:
                node[keys[1]] = fitting


def _head_keys(node: Config) -> list[str]:
    return [key for key in node if key.startswith("num_") and key.endswith(("attention_heads", "key_value_heads"))]


def _shrink_vocabulary(node: Config, special: tuple[int, ...]) -> None:
    needed = max([1024, *(token + 1 for token in special)])
    cap_keys(node, ("vocab_size", "vocab_size_per_layer_input"), -(-needed // 64) * 64)


def _follow_hidden_size(config: Config, before: list[Config], after: list[Config]) -> None:
    """Encoders name the width of the text model they feed: keep the two equal."""
    sizes = {
        old["hidden_size"]: new["hidden_size"] for old, new in zip(before, after, strict=True) if "hidden_size" in old
    }
    for key, node in config.items():
        if isinstance(node, dict) and key.startswith(ENCODERS):
            for name, value in node.items():
                if "hidden" in name and name != "hidden_size" and isinstance(value, int) and value in sizes:
                    node[name] = sizes[value]


def _described(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    return {key: (value, new.get(key)) for key, value in old.items() if new.get(key) != value}


def _assumptions(changes: list[dict[str, tuple[Any, Any]]]) -> list[dict[str, str]]:
    """One assumption for each kind of change, naming the sizes from and to."""
    found: dict[str, list[str]] = {}
    for change in changes:
        for key, (old, new) in change.items():
            if isinstance(old, int):
                found.setdefault(_kind(key), []).append(f"{key} {old} -> {new}")
            else:
                found.setdefault(_kind(key), []).append(key)
    return [{"kind": kind, "detail": ", ".join(details)} for kind, details in sorted(found.items())]


def _kind(key: str) -> str:
    if key in EXPERT_COUNTS or key in EXPERTS_PER_TOKEN:
        return "experts_shrunk"
    if key in POSITIONS:
        return "positions_shrunk"
    heads = {keys[1] for keys in STATES}
    if key in {*INNER_WIDTHS, "hidden_size", *heads} or (
        key.startswith(("num_", "vocab_")) and key not in LAYER_COUNTS
    ):
        return "widths_shrunk"
    return "layers_shrunk"
