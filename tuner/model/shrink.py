"""Cuts a real model's config to a size that builds in seconds and still shows every kind of layer.

Pure: a config goes in; a smaller config and the list of changes come out.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.model.shrink_layers import LAYER_COUNTS, cap_keys, layer_key, numbers, round_up, shrink_layers

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
STATE_SPACES = (
    ("mamba_expand", "mamba_n_heads", "mamba_d_head"),
    ("mamba_expand", "mamba_num_heads", "mamba_head_dim"),
    ("expand", "mamba_num_heads", "mamba_head_dim"),
)
"""Expansion, heads, and width of a head. Some config classes check that the expansion times the hidden size equals the
heads times their width."""

ENCODERS = ("vision", "audio")
"""How the key of a config that describes an encoder begins."""
ENCODER_LAYERS = ("depth", "encoder_layers", "vt_num_hidden_layers", *LAYER_COUNTS)
MAX_ENCODER_LAYERS = 4
"""Encoders are built and never run, so their layers cost only memory: 2.4 GB in a CPU build of Qwen3-Omni."""
QUANTIZATIONS = ("quantization_config", "compression_config")
POSITIONS = ("max_position_embeddings",)
MAX_POSITIONS = 262_144
"""Only larger numbers are cut: a rotary table of ten million positions takes half a minute to fill."""

MAX_INNER, MAX_HIDDEN, MIN_HEADS, MIN_EXPERTS, MAX_TOP_K = 256, 512, 4, 8, 2
MIN_VOCABULARY, VOCABULARY_STEP = 1024, 64
LIMITS = {"layers": 10_000, "heads": 10_000, "experts": 100_000, "size": 10_000_000}


@dataclass(frozen=True)
class Shrunk:
    """A smaller config, and what was changed.

    Attributes:
        config: the smaller config.
        assumptions: `{"kind", "detail"}` for each kind of change, as in the report.
        special_tokens: every token id that the config names anywhere, ascending.
        deep: the smaller config with every layer, for code that asks for layers by number; None if no layer was cut.
    """

    config: Config
    assumptions: tuple[dict[str, str], ...]
    special_tokens: tuple[int, ...]
    deep: Config | None = None


def shrink(config: Config) -> Shrunk:
    """Cut layers, experts, widths and vocabulary, and drop the quantisation.

    The layers become the shortest prefix of at least four that shows three things: every kind in every per-layer list
    and in every list of layer indices; the dense layers before the first MoE layer, which are cut to one; and two full
    periods of every interval.

    Raises:
        TunerError: a size is not an integer, or is out of all proportion.
    """
    small = _cut(config)
    deep = _cut(config, layers=False).config
    return replace(small, deep=None if deep == small.config else deep)


def _cut(config: Config, *, layers: bool = True) -> Shrunk:
    """The config with smaller sizes and without quantisation, and with fewer layers if `layers` is true."""
    small = copy.deepcopy(config)
    tokens = special_tokens(config)
    dropped = _drop_quantization(small)
    nodes = [node for node in text_nodes(small) if layer_key(node) is not None]
    originals = copy.deepcopy(nodes)
    for node in nodes:
        _check_sizes(node)
        if layers:
            shrink_layers(node)
        _shrink_experts(node)
        _shrink_widths(node)
        _shrink_vocabulary(node, tokens)
        cap_keys(node, POSITIONS, MAX_POSITIONS)
    _follow_hidden_size(small, originals, nodes)
    assumptions = (*_assumptions(originals, nodes), *_shrink_encoders(small), *dropped)
    return Shrunk(small, assumptions, tokens)


def declares_experts(config: Config) -> bool:
    """Whether the config names more than one routed expert anywhere outside its encoders."""
    for node in text_nodes(config):
        for key in EXPERT_COUNTS:
            if any(count > 1 for count in numbers(node.get(key))):
                return True
    return False


def text_nodes(config: Config) -> Iterator[Config]:
    """The config and every nested config that does not describe an encoder."""
    yield config
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("config") and not key.startswith((*ENCODERS, "quant")):
            yield from text_nodes(value)


def encoder_nodes(config: Config) -> Iterator[Config]:
    """Every nested config that describes an encoder."""
    for node in text_nodes(config):
        for key, value in node.items():
            if isinstance(value, dict) and key.startswith(ENCODERS):
                yield value


def special_tokens(config: Config) -> tuple[int, ...]:
    """Every token id that the config names: integers (or lists) under keys such as `*_token_id`, `*_patch_id`."""
    tokens: set[int] = set()
    for key, value in config.items():
        if isinstance(value, dict):
            tokens.update(special_tokens(value))
        elif key.endswith(("_id", "_ids", "token_index")):
            tokens.update(number for number in numbers(value) if number >= 0)
    return tuple(sorted(tokens))


def _check_sizes(node: Config) -> None:
    """Refuse sizes that no model has. Experts, inner widths and heads may be lists: a number a layer or modality."""
    _check(node, layer_key(node), 1, LIMITS["layers"])
    for key in ("hidden_size", "vocab_size"):
        _check(node, key, 1, LIMITS["size"])
    for key in ("n_group", *EXPERTS_PER_TOKEN, *EXPERT_COUNTS):
        _check(node, key, 0, LIMITS["experts"], lists=True)
    for key in _head_keys(node):
        _check(node, key, 0, LIMITS["heads"], lists=True)
    for key in INNER_WIDTHS:
        _check(node, key, 0, LIMITS["size"], lists=True)


def _check(node: Config, key: str | None, low: int, high: int, *, lists: bool = False) -> None:
    value = None if key is None else node.get(key)
    if value is None:
        return
    items = value if lists and isinstance(value, list) else [value]
    if items and all(type(item) is int and low <= item <= high for item in items):
        return
    raise TunerError(
        f"The config says {key} = {value!r:.60}, which is not a number from {low:,} to {high:,}.",
        hint="Correct config.json; nothing was probed or stored.",
        kind=ErrorKind.MODEL,
    )


def _drop_quantization(config: Config) -> list[dict[str, str]]:
    """Remove every quantisation, and return what that assumes."""
    dropped = []
    for node in text_nodes(config):
        dropped += [key for key in QUANTIZATIONS if node.pop(key, None) is not None]
    return [_assumption("quantization_dropped", dropped)] if dropped else []


def _shrink_encoders(config: Config) -> list[dict[str, str]]:
    """Cut the layers of each encoder, and return what that assumes."""
    changes = []
    for node in encoder_nodes(config):
        original = dict(node)
        cap_keys(node, ENCODER_LAYERS, MAX_ENCODER_LAYERS)
        changed = [key for key in ENCODER_LAYERS if original.get(key) != node.get(key)]
        changes += [f"{key} {original[key]} -> {node[key]}" for key in changed]
    return [_assumption("encoders_shrunk", changes)] if changes else []


def _shrink_experts(node: Config) -> None:
    groups = max([1, *numbers(node.get("n_group"))])
    limit = groups * max(2, math.ceil(MIN_EXPERTS / groups))  # grouped routing looks at the best two of a group
    cap_keys(node, EXPERT_COUNTS, limit)
    cap_keys(node, EXPERTS_PER_TOKEN, MAX_TOP_K)


def _shrink_widths(node: Config) -> None:
    cap_keys(node, INNER_WIDTHS, MAX_INNER)
    heads = {key: node[key] for key in _head_keys(node) if node[key] is not None}
    has_lists = not all(isinstance(value, int) for value in heads.values())
    if has_lists or not heads.get("num_attention_heads") or node.get("hidden_size") is None:
        return
    factor = _head_factor(heads)
    for key, value in heads.items():
        node[key] = value // factor
    hidden_size = node["hidden_size"]
    has_fixed_head = node.get("head_dim") or node.get("qk_nope_head_dim")
    node["hidden_size"] = min(hidden_size, MAX_HIDDEN) if has_fixed_head else hidden_size // factor
    _follow_state_spaces(node, hidden_size)


def _head_factor(heads: dict[str, int]) -> int:
    """The factor by which all numbers of heads are divided: `MIN_HEADS` attention heads stay, or a few more."""
    divisor = math.gcd(*heads.values())
    smallest = min(divisor, math.ceil(MIN_HEADS * divisor / heads["num_attention_heads"]))
    for part in range(smallest, divisor + 1):
        if divisor % part == 0:
            return divisor // part
    return 1


def _follow_state_spaces(node: Config, old_hidden_size: int) -> None:
    """Where the heads of a state space filled the hidden size, let as many as fit fill the new one."""
    for expand, heads, head_dim in STATE_SPACES:
        values = [node.get(key) for key in (expand, heads, head_dim)]
        if not all(type(value) is int for value in values):
            continue
        width = node[expand] * old_hidden_size
        if width == node[heads] * node[head_dim] > 0:
            fitting, rest = divmod(node[expand] * node["hidden_size"], node[head_dim])
            if fitting and not rest:
                node[heads] = fitting


def _head_keys(node: Config) -> list[str]:
    return [key for key in node if key.startswith("num_") and key.endswith(("attention_heads", "key_value_heads"))]


def _shrink_vocabulary(node: Config, tokens: tuple[int, ...]) -> None:
    """Cut the vocabulary to a multiple of `VOCABULARY_STEP` that holds every special token."""
    needed = max([MIN_VOCABULARY, *(token + 1 for token in tokens)])
    cap_keys(node, ("vocab_size", "vocab_size_per_layer_input"), round_up(needed, VOCABULARY_STEP))


def _follow_hidden_size(config: Config, originals: list[Config], nodes: list[Config]) -> None:
    """Encoders name the hidden size of the text model that they feed: keep the two equal."""
    sizes = {}
    for original, node in zip(originals, nodes, strict=True):
        if "hidden_size" in original:
            sizes[original["hidden_size"]] = node["hidden_size"]
    for key, encoder in config.items():
        if isinstance(encoder, dict) and key.startswith(ENCODERS):
            for name, value in encoder.items():
                if "hidden" in name and name != "hidden_size" and isinstance(value, int) and value in sizes:
                    encoder[name] = sizes[value]


def _assumptions(originals: list[Config], nodes: list[Config]) -> list[dict[str, str]]:
    """One assumption for each kind of change; it names the fields, and the old and new number of a size."""
    details: dict[str, list[str]] = {}
    for original, node in zip(originals, nodes, strict=True):
        for key, value in original.items():
            if node.get(key) != value:
                detail = f"{key} {value} -> {node.get(key)}" if isinstance(value, int) else key
                details.setdefault(_change_kind(key), []).append(detail)
    return [_assumption(kind, details[kind]) for kind in sorted(details)]


def _assumption(kind: str, details: list[str]) -> dict[str, str]:
    return {"kind": kind, "detail": ", ".join(details)}


def _change_kind(key: str) -> str:
    """The kind of assumption to which a change of this field belongs."""
    if key in EXPERT_COUNTS or key in EXPERTS_PER_TOKEN:
        return "experts_shrunk"
    if key in POSITIONS:
        return "positions_shrunk"
    if key in LAYER_COUNTS:
        return "layers_shrunk"
    state_space_heads = {heads for _, heads, _ in STATE_SPACES}
    if key in {*INNER_WIDTHS, "hidden_size", *state_space_heads} or key.startswith(("num_", "vocab_")):
        return "widths_shrunk"
    return "layers_shrunk"
