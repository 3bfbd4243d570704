"""Adds config fields that a model class reads and its config class does not set.

The values are like those in published configs. A field is added only if the
source text of the model class names it and the config object has no value for
it. The tables `TEXT` and `ENCODER` list the fields and how each value is made.
The names of the added fields become part of the config's source in the report.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shared_worker.vllm_types import Json

Maker = Callable[[Json, str], Any]
"""Makes the value of a field from the config and the source text."""
ENCODERS = ("vision", "audio")
"""How the keys of encoder configs begin."""
USUAL_HEAD = 128
"""The usual width of an attention head."""


def head_size(node: Json, _text: str) -> int | None:
    """The width of one attention head; None for multi-head latent attention, which has its own fields for that.

    It is the hidden size divided by the number of heads, if that is a multiple of 16, as kernels need. Otherwise it is
    128: published models have that width where the number of heads does not divide the hidden size.
    """
    if node.get("kv_lora_rank"):
        return None
    width, remainder = divmod(node["hidden_size"], node["num_attention_heads"])
    return USUAL_HEAD if remainder or width % 16 else width


def rotary_size(node: Json, text: str) -> int | None:
    """The width of the rotated part of an attention head."""
    width: int | None = node.get("head_dim") or head_size(node, text)
    return width


def sparse_layers(node: Json, text: str) -> list[int] | int:
    """Makes every layer but the first a MoE layer.

    Returns:
        One 0 or 1 for each layer if the source text indexes the field, else the interval 1.
    """
    return [0] + [1] * (layers(node) - 1) if "moe_layer_freq[" in text else 1


def sparse_layer_flags(node: Json, _text: str) -> list[bool]:
    """Whether each layer is a MoE layer: as `mlp_layer_types` says, else true for all but the first."""
    kinds = node.get("mlp_layer_types")
    if kinds:
        return [kind == "sparse" for kind in kinds]
    count = layers(node)
    return [False] * min(count, 1) + [True] * (count - 1)


def mlp_kinds(node: Json, _text: str) -> list[str]:
    """The kind of each layer's MLP: dense for the first `first_k_dense_replace` layers, else with experts."""
    dense = node.get("first_k_dense_replace") or 0
    return ["dense" if number < dense else "sparse" for number in range(layers(node))]


def linear_attention(node: Json, _text: str) -> Json:
    """Linear attention in three of every four layers. Layer numbers begin at 1."""
    numbers = range(1, layers(node) + 1)
    return {
        "full_attn_layers": [number for number in numbers if number % 4 == 0],
        "kda_layers": [number for number in numbers if number % 4],
        "num_heads": node["num_attention_heads"],
        "head_dim": 128,
        "short_conv_kernel_size": 4,
    }


def like(field: str) -> Maker:
    """A maker that copies the value of another field."""
    return lambda node, _text: node[field]


def always(value: Any) -> Maker:
    """A maker that gives the same value for every model."""
    return lambda _node, _text: value


TEXT = {
    "expert_hidden_dim": like("moe_intermediate_size"),
    "first_k_dense_replace": always(1),
    "head_dim": head_size,
    "hybrid_layer_pattern": lambda node, _text: [index % 2 for index in range(layers(node))],
    "is_moe_layer": sparse_layer_flags,
    "layer_types": lambda node, _text: ["full_attention"] * layers(node),
    "layernorm_epsilon": like("rms_norm_eps"),
    "linear_attn_config": linear_attention,
    "max_position_embeddings": always(4096),
    "mhc": always(False),
    "mla_scale_kv_lora": always(True),
    "mla_scale_q_lora": always(True),
    "mla_use_nope": always(False),
    "mlp_layer_types": mlp_kinds,
    "moe_intermediate_size": like("intermediate_size"),
    "moe_layer_freq": sparse_layers,
    "n_group": always(1),
    "norm_topk_prob": always(True),
    "num_hash_layers": always(3),
    "num_shared_expert": always(1),
    "padded_vocab_size": like("vocab_size"),
    "rope_parameters": always({"rope_type": "default", "rope_theta": 10000.0}),
    "rotary_dim": rotary_size,
    "route_norm": always(True),
    "score_func": always("sigmoid"),
    "scoring_func": always("sigmoid"),
    "sliding_window_size": like("sliding_window"),
    "swa_head_dim": like("head_dim"),
    "swa_num_attention_heads": like("num_attention_heads"),
    "swa_num_key_value_heads": like("num_key_value_heads"),
    "tie_word_embeddings": always(False),
    "topk_group": always(1),
    "topk_method": always("noaux_tc"),
    "use_mixed_mlp_moe": always(True),
    "use_qk_norm": always(False),
    "zero_expert_type": always("identity"),
}
"""Field of a language model's config -> maker of its value."""
ENCODER = {
    "apply_vit_abs_pos_embed": always(True),
    "deepstack_visual_indexes": always([]),
    "embed_dim": like("hidden_size"),
    "image_size": lambda node, _text: 32 * node["patch_size"],
    "mlp_ratio": always(4),
    "output_dim": like("hidden_size"),
}
"""Field of an encoder's config -> maker of its value. Encoders are not built: the sizes only have to fit together."""
NOT_NONE = frozenset({"head_dim", "moe_intermediate_size", "n_group", "topk_group"})
"""Fields that need a value even if the source text reads them only with `getattr`."""
NOT_NULL = NOT_NONE | {"layer_types", "linear_attn_config", "max_position_embeddings", "zero_expert_type"}
"""Fields that a config class may set to null although the model class cannot use null."""


class Reads:
    """How the sources of a model class use config fields.

    Attributes:
        text: the source text.
        direct: names read as an attribute of a config.
        by_name: quoted words, such as a field's name in `getattr`.
        without_null: those of `by_name` that are never followed by the default None.
        fixed: fields that must have one value -> that value.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.direct = frozenset(re.findall(r"config(?=\.(\w+))", text))
        self.by_name = frozenset(re.findall(r'"(\w+)"', text))
        self.without_null = self.by_name - frozenset(re.findall(r'"(\w+)",\s*None\b', text))
        self.fixed = {name: value == "True" for name, value in re.findall(r"expects (\w+)=(True|False)\b", text)}

    def needs(self, field: str, is_null: bool) -> bool:
        """Whether the model needs a value for the field.

        Args:
            field: its name.
            is_null: whether the config sets the field to null. Only the fields in `NOT_NULL` then need a value.
        """
        if not is_null:
            return field in self.direct
        return (field in NOT_NULL and field in self.direct) or (field in NOT_NONE and field in self.without_null)


def complete(config: Json, loaded: Any, reads: Reads) -> tuple[Json, list[str]]:
    """Fill in the fields that the sources read and the config lacks.

    Args:
        config: as JSON.
        loaded: the config object that vLLM makes from it, or None.
        reads: how the sources of the model class use fields.

    Returns:
        A copy of the config with the fields, and the names of the added or changed fields.
    """
    config, added_names = dict(config), []
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("config"):
            config[key], inside = complete_nested(value, getattr(loaded, key, None), reads, key.startswith(ENCODERS))
            added_names += inside
    if "hidden_size" in config and layers(config):
        added_names += fill(config, loaded, reads, TEXT)
        added_names += set_fixed(config, loaded, reads) + set_uneven_head(config, loaded, reads)
        added_names += nest_rotary(config, reads.text)
    added_names += join_layer_lists(config, reads.text) + match_encoder_width(config)
    return config, [*dict.fromkeys(added_names)]


def complete_nested(config: Json, loaded: Any, reads: Reads, encodes: bool) -> tuple[Json, list[str]]:
    """As `complete`, for a nested config. `encodes` says that it belongs to an encoder."""
    if not encodes:
        return complete(config, loaded, reads)
    config = dict(config)
    return config, fill(config, loaded, reads, ENCODER)


def fill(node: Json, loaded: Any, reads: Reads, table: dict[str, Maker]) -> list[str]:
    """Add fields of a table to a config in place. Returns their names."""
    added_names = []
    for field, value in table.items():
        if is_lacking(node, loaded, field) and reads.needs(field, is_null(node, loaded, field)):
            with suppress(KeyError, TypeError, ZeroDivisionError):
                default = value(node, reads.text)
                if default is not None:
                    node[field] = default
                    added_names.append(field)
    return added_names


def set_fixed(node: Json, loaded: Any, reads: Reads) -> list[str]:
    """Set each field in `reads.fixed` to its only allowed value, in place. Returns the changed names."""
    changed_names = []
    for name, value in reads.fixed.items():
        if getattr(loaded, name, None) is not value:
            node[name] = value
            changed_names.append(name)
    return changed_names


def set_uneven_head(node: Json, loaded: Any, reads: Reads) -> list[str]:
    """Add `head_dim` in place if the number of heads does not divide the hidden size. Returns the added names."""
    heads = node.get("num_attention_heads") or 1
    if node["hidden_size"] % heads and "head_dim" in reads.by_name and is_lacking(node, loaded, "head_dim"):
        node["head_dim"] = USUAL_HEAD
        return ["head_dim"]
    return []


def is_lacking(node: Json, loaded: Any, field: str) -> bool:
    """Whether both the JSON and the config object have no value. False if the object raises an error."""
    try:
        return node.get(field) is None and getattr(loaded, field, None) is None
    except Exception:
        return False


def is_null(node: Json, loaded: Any, field: str) -> bool:
    """Whether a field without a value exists, with the value null. True if the object raises an error."""
    with suppress(Exception):
        return field in node or hasattr(loaded, field)
    return True


def match_encoder_width(config: Json) -> list[str]:
    """Set the output width of encoders to the hidden size of the language model, in place. Returns changed names."""
    text = config.get("text_config") or {}
    wide = text.get("hidden_size")
    changed_names: list[str] = []
    for key, value in config.items():
        is_encoder = key.startswith(ENCODERS) and isinstance(value, dict)
        if is_encoder and wide and value.get("out_hidden_size", wide) != wide:
            value["out_hidden_size"] = wide
            changed_names = ["out_hidden_size"]
    return changed_names


def join_layer_lists(node: Json, text: str) -> list[str]:
    """Join a list of layer numbers with commas, in place, if the source text splits the field. Returns their names."""
    changed_names = []
    for key, value in node.items():
        is_list = isinstance(value, list | tuple) and key.startswith("moe_layers")
        if is_list and re.search(rf"\b{key}\.(strip\(\)\.)?split\(", text):
            node[key] = ",".join(map(str, value))
            changed_names.append(key)
    return changed_names


def nest_rotary(node: Json, text: str) -> list[str]:
    """Give each kind of layer its own `rope_parameters`, in place, if the source text picks them by the kind of layer.

    A config class may have only one set of them. Then each kind gets this set.

    Returns:
        The name of the field, in a list. Empty if it is not changed.
    """
    flat, kinds = node.get("rope_parameters"), node.get("layer_types")
    if not flat or not kinds or "rope_type" not in flat or not re.search(r"\brope_parameters\[layer_type\]", text):
        return []
    node["rope_parameters"] = {kind: dict(flat) for kind in sorted(set(kinds))}
    return ["rope_parameters"]


def layers(node: Json) -> int:
    """The number of layers, or 0 if the config does not say."""
    for key in ("num_hidden_layers", "num_layers", "n_layer", "n_layers"):
        count = node.get(key)
        if isinstance(count, int):
            return count
    return 0


def with_additions(source: str, added_names: list[str]) -> str:
    """The config's source, for the report, with the names of the added fields."""
    return f"{source} with {', '.join(added_names)} as its class asks" if added_names else source
