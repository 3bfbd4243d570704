"""Cuts a real model's config to a size that builds in seconds and still shows every kind of layer.

Pure: a config goes in; a smaller config and the list of changes come out.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.model.shrink_layers import (
    LAYER_COUNTS,
    LAYER_LISTS,
    cap_keys,
    layer_key,
    numbers,
    round_up,
    shrink_layers,
)

Config = dict[str, Any]

EXPERT_COUNTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
ROUTER_GROUPS = "router_n_groups"
"""Key for the groups of experts of which each gives a token equally many (Intern-S1-Pro)."""
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_k", "moe_topk")
INNER_WIDTHS = (
    "intermediate_size",
    "intermediate_size_mlp",
    "moe_intermediate_size",
    "shared_intermediate_size",
    "shared_expert_intermediate_size",
    "moe_shared_expert_intermediate_size",
    "dense_intermediate_size",
    "expert_ffn_hidden_size",
    "expert_hidden_dim",
    "expert_hidden_size",
    "ffn_dim",
    "ffn_hidden_size",
    "share_expert_dim",
    "moe_latent_size",
    "q_lora_rank",
    "o_lora_rank",
    "share_q_dim",
)
"""Widths inside a layer that need to fit nothing outside it. The rank of latent keys and values is not among them:
kernels of GPUs take no other than the usual one."""
STATE_SPACES = (
    ("mamba_expand", "mamba_n_heads", "mamba_d_head"),
    ("mamba_expand", "mamba_num_heads", "mamba_head_dim"),
    ("expand", "mamba_num_heads", "mamba_head_dim"),
)
"""Expansion, heads, and width of a head. Some config classes check that the expansion times the hidden size equals the
heads times their width."""
STATE_GROUPS = ("n_groups", "mamba_n_groups", "mamba_num_groups")
"""Keys for the groups that divide the heads of a state space."""
HEAD_COUNTS = ("attention_heads", "key_value_heads", "attention_groups")
"""How keys for numbers of heads end. Step 3.5 calls the key-value heads attention groups."""
LINEAR_HEADS = ("linear_num_key_heads", "linear_num_value_heads")
"""Heads of linear attention. The second is a multiple of the first."""

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
VOCABULARIES = (
    "vocab_size",
    "padded_vocab_size",
    "unpadded_vocab_size",
    "vocab_size_per_layer_input",
    "ngram_vocab_size_base",
)
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
    small = _with_smaller_sizes(config, layers=True)
    deep = _with_smaller_sizes(config, layers=False).config
    return replace(small, deep=None if deep == small.config else deep)


def _with_smaller_sizes(config: Config, *, layers: bool) -> Shrunk:
    """The config with smaller sizes and without quantisation, and with fewer layers if `layers` is true."""
    tokens = special_tokens(config)

    def shrink_node(node: Config) -> None:
        if layers:
            shrink_layers(node)
        _shrink_experts(node)
        _shrink_parts(node)
        _shrink_widths(node)
        _shrink_vocabulary(node, tokens)

    return cut(config, shrink_node, keeps_quantization=False)


def cut(config: Config, shrink_node: Callable[[Config], None], *, keeps_quantization: bool) -> Shrunk:
    """Cut each part of the config that has layers, its positions, and the layers of its encoders.

    Args:
        config: the config. It stays as it is.
        shrink_node: cuts one part in place.
        keeps_quantization: whether the weights stay quantised.

    Raises:
        TunerError: a size is not an integer, or is out of all proportion.
    """
    small = copy.deepcopy(config)
    dropped = [] if keeps_quantization else _drop_quantization(small)
    nodes = [node for node in text_nodes(small) if layer_key(node) is not None]
    originals = copy.deepcopy(nodes)
    for node in nodes:
        _check_sizes(node)
        shrink_node(node)
        cap_keys(node, POSITIONS, MAX_POSITIONS)
    _follow_hidden_size(small, originals, nodes)
    assumptions = (*_assumptions(originals, nodes), *_shrink_encoders(small), *dropped)
    return Shrunk(small, assumptions, special_tokens(config))


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
    key = layer_key(node)
    if key in LAYER_LISTS:
        _check({key: len(node[key])}, key, 1, LIMITS["layers"])
    else:
        _check(node, key, 1, LIMITS["layers"])
    for key in ("hidden_size", "vocab_size"):
        _check(node, key, 1, LIMITS["size"])
    for key in ("n_group", *EXPERTS_PER_TOKEN, *EXPERT_COUNTS):
        _check(node, key, 0, LIMITS["experts"], lists=True)
    for key in (*_head_keys(node), *LINEAR_HEADS):
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
    groups = max([1, *numbers(node.get("n_group")), *numbers(node.get(ROUTER_GROUPS))])
    limit = groups * max(2, math.ceil(MIN_EXPERTS / groups))  # grouped routing looks at the best two of a group
    cap_keys(node, EXPERT_COUNTS, limit)
    cap_keys(node, EXPERTS_PER_TOKEN, max([MAX_TOP_K, *numbers(node.get(ROUTER_GROUPS))]))


def _shrink_parts(node: Config) -> None:
    """Cut what a layer's own part of the config says."""
    for part in layer_parts(node):
        _shrink_experts(part)
        cap_keys(part, INNER_WIDTHS, MAX_INNER)


def layer_parts(node: Config) -> list[Config]:
    """The parts of the config that describe layers: an object inside without layers, or an item for each layer."""
    parts: list[Config] = []
    for name, value in node.items():
        if _is_part(name) and isinstance(value, dict) and layer_key(value) is None:
            parts.append(value)
        elif isinstance(value, list):
            parts += [item for item in value if isinstance(item, dict)]
    return parts


def _is_part(name: str) -> bool:
    """Whether a key may hold a part of the language model's own config."""
    return name.endswith("config") and not name.startswith((*ENCODERS, "quant", "per_layer"))


def _shrink_widths(node: Config) -> None:
    cap_keys(node, INNER_WIDTHS, MAX_INNER)
    _shrink_linear_heads(node)
    heads = {key: node[key] for key in _head_keys(node) if node[key] is not None}
    has_lists = not all(isinstance(value, int) for value in heads.values())
    if has_lists or not heads.get("num_attention_heads") or node.get("hidden_size") is None:
        return
    factor = _head_factor(heads)
    for key, value in heads.items():
        node[key] = value // factor
    _follow_index_heads(node, heads.get("num_key_value_heads"))
    hidden_size = node["hidden_size"]
    has_fixed_head = node.get("head_dim") or node.get("qk_nope_head_dim")
    node["hidden_size"] = min(hidden_size, MAX_HIDDEN) if has_fixed_head else hidden_size // factor
    _shrink_state_spaces(node, hidden_size)


def _head_factor(heads: dict[str, int]) -> int:
    """The factor by which all numbers of heads are divided: `MIN_HEADS` attention heads stay, or a few more."""
    divisor = math.gcd(*heads.values())
    smallest = min(divisor, math.ceil(MIN_HEADS * divisor / heads["num_attention_heads"]))
    for part in range(smallest, divisor + 1):
        if divisor % part == 0:
            return divisor // part
    return 1


def _follow_index_heads(node: Config, old_count: int | None) -> None:
    """Where a part of the config has an index head for each key-value head (MiniMax-M3), it has as many as those."""
    for name, part in node.items():
        if old_count and _is_part(name) and isinstance(part, dict):
            for key, value in part.items():
                if key.endswith("index_heads") and value == old_count:
                    part[key] = node["num_key_value_heads"]


def _shrink_linear_heads(node: Config) -> None:
    """Cut the heads of linear attention by one factor."""
    given = [node.get(key) for key in LINEAR_HEADS]
    counts = [count for count in given if type(count) is int and count > 0]
    if len(counts) < len(given):
        return
    divisor = math.gcd(*counts)
    factor = next(part for part in range(min(MIN_HEADS, divisor), divisor + 1) if divisor % part == 0)
    for key in LINEAR_HEADS:
        node[key] = node[key] * factor // divisor


def _shrink_state_spaces(node: Config, old_hidden_size: int) -> None:
    """Cut the heads of a state space: where they filled the hidden size they fill the new one, else a few stay."""
    groups = max([1, *(count for key in STATE_GROUPS for count in numbers(node.get(key)))])
    for expand, heads, head_dim in STATE_SPACES:
        values = [node.get(key) for key in (expand, heads, head_dim)]
        if not all(type(value) is int and value > 0 for value in values):
            continue
        if node[expand] * old_hidden_size == node[heads] * node[head_dim]:
            fitting, rest = divmod(node[expand] * node["hidden_size"], node[head_dim])
            if fitting and not rest:
                node[heads] = fitting
        elif node[heads] % groups == 0:
            cap_keys(node, (heads,), groups * math.ceil(MIN_HEADS / groups))


def _head_keys(node: Config) -> list[str]:
    return [key for key in node if key.startswith("num_") and key.endswith(HEAD_COUNTS)]


def _shrink_vocabulary(node: Config, tokens: tuple[int, ...]) -> None:
    """Cut the vocabulary to a multiple of `VOCABULARY_STEP` that holds every special token."""
    needed = max([MIN_VOCABULARY, *(token + 1 for token in tokens)])
    cap_keys(node, VOCABULARIES, round_up(needed, VOCABULARY_STEP))


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
    widths = {*INNER_WIDTHS, *LINEAR_HEADS, *VOCABULARIES, *state_space_heads, "hidden_size"}
    if key in widths or key.startswith(("num_", "vocab_")) or _is_part(key):
        return "widths_shrunk"
    return "layers_shrunk"
