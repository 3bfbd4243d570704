"""Cuts a model for a memory: as few layers as show every kind, and all widths and experts that fit. Pure.

Kernels, tiles and splits are chosen by widths, and so is how the answers round. So experts are cut only if the model
with fewer layers does not fit, and widths only if it does not fit with the fewest experts either.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tuner.model.quantization import drawn_bytes
from tuner.model.shrink import (
    EXPERT_COUNTS,
    EXPERTS_PER_TOKEN,
    INNER_WIDTHS,
    Config,
    cut,
    encoder_nodes,
    layer_parts,
    shrink,
    text_nodes,
)
from tuner.model.shrink_layers import layer_count, numbers, shrink_layers

FLOAT32, BFLOAT16 = 4.0, 2.0
"""Bytes of a number. A model that is not quantised also runs in float32."""
HIDDEN_WIDTHS = ("hidden_size", "d_model", "n_embd")
HEADS = ("num_attention_heads", "n_heads", "n_head")
SMALLEST_HEAD = 64
"""The width of a head where the number of heads is not named."""
UNKNOWN = 1 << 62
"""Bytes that no memory has."""
EXPERT_WIDTHS = ("moe_intermediate_size", "intermediate_size")
SHARED_COUNTS = ("n_shared_experts", "num_shared_experts")
MIXERS = ("mamba", "ssm", "linear_", "conv", "expand")
"""How keys begin that describe a mixer of tokens other than attention."""
ENCODER_WIDTHS = ("hidden_size", "embed_dim", "width", "d_model")
ENCODER_DEPTHS = ("num_hidden_layers", "depth", "encoder_layers", "num_layers", "vt_num_hidden_layers")
BEST_OF_A_GROUP = 2
"""Grouped routing looks at the best two experts of each group."""
CHOICE = 2
"""At least so many times as many experts as a token gets: with all experts for each token nothing would be routed."""
MATRICES, OF_ENCODERS, OF_MIXERS = 3, 12, 6
"""Matrices of a gated expert; squares of the width in a layer of an encoder, and in one of a state space."""


@dataclass(frozen=True)
class Fitted:
    """A model that fits a memory.

    Attributes:
        config: the smaller config.
        assumptions: `{"kind", "detail"}` for each kind of change.
        is_quantised: whether its weights are quantised.
        estimate: bytes that its weights take at most, in the dtypes in which it runs.
    """

    config: Config
    assumptions: tuple[dict[str, str], ...]
    is_quantised: bool
    estimate: int


def shrink_to_memory(config: Config, limit: int | None, *, layers: bool, keeps_quantization: bool = True) -> Fitted:
    """Cut layers; then halve the experts until the weights fit; if they never do, cut everything as `shrink` does.

    Args:
        config: the config.
        limit: bytes that the weights may take; None if the memory is not known, which cuts everything.
        layers: whether layers may be cut; not for code that asks for layers by number.
        keeps_quantization: whether the weights stay quantised, if weights of that format can be made up.

    Raises:
        TunerError: a size is not an integer, or is out of all proportion.
    """
    keeps = keeps_quantization and drawn_bytes(config) is not None
    for halvings in range(_most_halvings(config) + 1 if limit is not None else 0):
        small = cut(config, _cutter(halvings, layers=layers), keeps_quantization=keeps)
        estimate = weight_bytes(small.config)
        if limit is not None and estimate <= limit:
            return Fitted(small.config, small.assumptions, keeps, estimate)
    narrow = shrink(config)
    smallest = narrow.config if layers or narrow.deep is None else narrow.deep
    return Fitted(smallest, narrow.assumptions, is_quantised=False, estimate=weight_bytes(smallest))


def weight_bytes(config: Config) -> int:
    """Bytes of all weights, at most and about: each layer is taken for one with experts, a dense part and attention.

    Numbers of experts and of dense parts take the bytes of the quantised format where there is one. A config that names
    no width in a known way counts as larger than any memory.
    """
    quantised = drawn_bytes(config)
    wide = FLOAT32 if quantised is None else BFLOAT16
    total = sum(_encoder(node) for node in encoder_nodes(config)) * wide
    for node in text_nodes(config):
        layers, hidden = layer_count(node), _hidden(node)
        if layers and not hidden:
            return UNKNOWN
        if layers:
            total += layers * (hidden * _inner_widths(node) * (quantised or wide) + _attention(node) * wide)
            total += 2 * hidden * _number(node, "vocab_size") * wide
    return int(total)


def _cutter(halvings: int, *, layers: bool) -> Callable[[Config], None]:
    """What cuts one part of a config in place."""

    def cut_node(node: Config) -> None:
        if layers:
            shrink_layers(node)
        for _ in range(halvings):
            halve_experts(node)

    return cut_node


def halve_experts(node: Config) -> None:
    """Halve the number of experts, as far as each token still has a choice and each group its best two."""
    for part in (node, *layer_parts(node)):
        for key in EXPERT_COUNTS:
            if key in part:
                part[key] = _halved(part[key], {**node, **part})


def _halved(value: Any, node: Config) -> Any:
    """A number of experts, or each of a list of them; as it is where half of it would be too few."""
    if isinstance(value, list):
        return [_halved(item, node) for item in value]
    if type(value) is not int or value % 2:
        return value
    half = value // 2
    chosen = max([1, *(number for key in EXPERTS_PER_TOKEN for number in numbers(node.get(key)))])
    groups = _number(node, "n_group")
    if groups > 1:
        chosen_groups = max(1, min(groups, _number(node, "topk_group")))
        reachable = half // groups * chosen_groups
        return half if half % groups == 0 and reachable >= chosen and half // groups >= BEST_OF_A_GROUP else value
    return half if half >= CHOICE * chosen else value


def _most_halvings(config: Config) -> int:
    """How often experts can be halved."""
    counts = [numbers(node.get(key)) for node in text_nodes(config) for key in EXPERT_COUNTS]
    return max(number for count in [[1], *counts] for number in [1, *count]).bit_length() - 1


def _inner_widths(node: Config) -> int:
    """The widths of all experts and of the dense part of a layer, times the matrices of each."""
    own = next((name for name in EXPERT_WIDTHS if _largest(node, name)), "")
    of_experts = _largest(node, own)
    experts = max(_experts(each) for each in (node, *layer_parts(node)))
    shared = max(_largest(node, name) for name in SHARED_COUNTS) * of_experts
    dense = max([shared, *(_largest(node, name) for name in INNER_WIDTHS if name != own or not experts)])
    return MATRICES * (experts * of_experts + dense)


def _experts(node: Config) -> int:
    """The routed experts of a layer; those of a list belong to one layer, as those for text and images do."""
    return max(sum(numbers(node.get(name))) for name in EXPERT_COUNTS)


def _largest(node: Config, key: str) -> int:
    """The largest number under a key, here and in the parts that describe layers."""
    return max(_number(each, key) for each in (node, *layer_parts(node)))


def _hidden(node: Config) -> int:
    """The width between layers; 0 if it is not named in a known way."""
    return max(_number(node, key) for key in HIDDEN_WIDTHS)


def _attention(node: Config) -> int:
    """Numbers in the attention, or another mixer of tokens, of a layer."""
    hidden = _hidden(node)
    heads = max(_number(node, key) for key in HEADS) or max(1, hidden // SMALLEST_HEAD)
    nope, rope = _number(node, "qk_nope_head_dim"), _number(node, "qk_rope_head_dim")
    width = _number(node, "head_dim") or nope + rope or hidden // max(1, heads)
    keys = _number(node, "num_key_value_heads") or heads
    others = OF_MIXERS * hidden * hidden if any(key.startswith(MIXERS) for key in node) else 0
    return max(2 * hidden * width * (heads + keys), others)


def _encoder(node: Config) -> int:
    """Numbers in an encoder."""
    width = max([0, *(number for key in ENCODER_WIDTHS for number in numbers(node.get(key)))])
    depth = max([1, *(number for key in ENCODER_DEPTHS for number in numbers(node.get(key)))])
    return OF_ENCODERS * width * width * depth


def _number(node: Config, key: str) -> int:
    """The integer under a key, the largest of a list; 0 without one."""
    return max(numbers(node.get(key)), default=0)
