"""Fields that a model class reads and the defaults of its config class lack, with values as published configs have.

A field is added only where the text behind the model class names it and the
config object has nothing under that name. Which fields there are and what they
are made from stands in tables by the name of the field; what was added is said
where the config comes from.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from shared_worker.vllm_types import Json

Maker = Callable[[Json, str], Any]
"""Makes the value of a field from the config and the text of the sources."""
ENCODERS = ("vision", "audio")
PLAIN_HEAD = 128


def head_size(node: Json, _text: str) -> int | None:
    """Width of one attention head, unless the model makes it up from parts of its own.

    Kernels want multiples of 16; published models whose heads do not share the hidden size evenly have 128.
    """
    if node.get("kv_lora_rank"):
        return None
    width, rest = divmod(node["hidden_size"], node["num_attention_heads"])
    return PLAIN_HEAD if rest or width % 16 else width


def rotary_size(node: Json, text: str) -> int | None:
    """Width of the rotated part of a head."""
    width: int | None = node.get("head_dim") or head_size(node, text)
    return width


def sparse_layers(node: Json, text: str) -> list[int] | int:
    """Every layer but the first is MoE: as a list where the text takes one by its number, else as an interval."""
    return [0] + [1] * (layers(node) - 1) if "moe_layer_freq[" in text else 1


def sparse_layer_flags(node: Json, _text: str) -> list[bool]:
    """Whether each layer is MoE, as its list of kinds says, else every one but the first."""
    kinds = node.get("mlp_layer_types")
    if kinds:
        return [kind == "sparse" for kind in kinds]
    count = layers(node)
    return [False] * min(count, 1) + [True] * (count - 1)


def linear_attention(node: Json, _text: str) -> Json:
    """Linear attention in three layers of four, which are counted from one."""
    numbers = range(1, layers(node) + 1)
    return {
        "full_attn_layers": [number for number in numbers if number % 4 == 0],
        "kda_layers": [number for number in numbers if number % 4],
        "num_heads": node["num_attention_heads"],
        "head_dim": 128,
        "short_conv_kernel_size": 4,
    }


def like(field: str) -> Maker:
    """The value of another field."""
    return lambda node, _text: node[field]


def always(value: Any) -> Maker:
    """The same for every model."""
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
"""Field of a language model -> its value."""
ENCODER = {
    "apply_vit_abs_pos_embed": always(True),
    "deepstack_visual_indexes": always([]),
    "embed_dim": like("hidden_size"),
    "image_size": lambda node, _text: 32 * node["patch_size"],
    "mlp_ratio": always(4),
    "output_dim": like("hidden_size"),
}
"""The same for encoders, which are not built: their sizes fit together, no more."""
NOT_NONE = frozenset({"head_dim", "moe_intermediate_size", "n_group", "topk_group"})
"""Fields that must have a value also where they are read with `getattr`."""
NOT_NULL = NOT_NONE | {"layer_types", "linear_attn_config", "max_position_embeddings", "zero_expert_type"}
"""Fields of which a config class may know no more than a null that the model class cannot take."""


class Reads:
    """What the sources behind a model class say of configs.

    Attributes:
        text: the sources.
        direct: fields that are taken from a config.
        by_name: what stands in quotes, as a field does in `getattr`.
        insisted: those for which a null is nowhere the value to go on with.
        demanded: fields that must have one value, and that value.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.direct = frozenset(re.findall(r"config(?=\.(\w+))", text))
        self.by_name = frozenset(re.findall(r'"(\w+)"', text))
        self.insisted = self.by_name - frozenset(re.findall(r'"(\w+)",\s*None\b', text))
        self.demanded = {name: value == "True" for name, value in re.findall(r"expects (\w+)=(True|False)\b", text)}

    def needs(self, field: str, is_null: bool) -> bool:
        """Whether the model cannot do without the field; a null is a value but for some fields."""
        if not is_null:
            return field in self.direct
        return (field in NOT_NULL and field in self.direct) or (field in NOT_NONE and field in self.insisted)


def complete(config: Json, loaded: Any, reads: Reads) -> tuple[Json, list[str]]:
    """A copy with the fields that the sources ask for and nobody has, and their names.

    Args:
        config: as JSON.
        loaded: the config object that vLLM makes of it, or None.
        reads: what the sources behind the model class say.
    """
    config, added = dict(config), []
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("config"):
            config[key], inside = inner(value, getattr(loaded, key, None), reads, key.startswith(ENCODERS))
            added += inside
    if "hidden_size" in config and layers(config):
        added += filled(config, loaded, reads, TEXT) + demanded(config, loaded, reads) + even(config, loaded, reads)
    added += joined(config, reads.text) + agreed(config)
    return config, [*dict.fromkeys(added)]


def inner(config: Json, loaded: Any, reads: Reads, encodes: bool) -> tuple[Json, list[str]]:
    """`complete` for a nested config, which may be an encoder's."""
    if not encodes:
        return complete(config, loaded, reads)
    config = dict(config)
    return config, filled(config, loaded, reads, ENCODER)


def filled(node: Json, loaded: Any, reads: Reads, table: dict[str, Maker]) -> list[str]:
    """Add to one node; the names of the fields added."""
    added = []
    for field, value in table.items():
        if is_lacking(node, loaded, field) and reads.needs(field, is_null(node, loaded, field)):
            with suppress(KeyError, TypeError, ZeroDivisionError):
                default = value(node, reads.text)
                if default is not None:
                    node[field] = default
                    added.append(field)
    return added


def demanded(node: Json, loaded: Any, reads: Reads) -> list[str]:
    """Give switches the one value that the model class takes; the names of those turned."""
    turned = []
    for name, value in reads.demanded.items():
        if getattr(loaded, name, None) is not value:
            node[name] = value
            turned.append(name)
    return turned


def even(node: Json, loaded: Any, reads: Reads) -> list[str]:
    """Say how wide a head is where the heads do not share the hidden size evenly; the name of the field if added."""
    heads = node.get("num_attention_heads") or 1
    if node["hidden_size"] % heads and "head_dim" in reads.by_name and is_lacking(node, loaded, "head_dim"):
        node["head_dim"] = PLAIN_HEAD
        return ["head_dim"]
    return []


def is_lacking(node: Json, loaded: Any, field: str) -> bool:
    """Whether neither the JSON nor the object made of it has a value; an error of its own is no lack."""
    try:
        return node.get(field) is None and getattr(loaded, field, None) is None
    except Exception:
        return False


def is_null(node: Json, loaded: Any, field: str) -> bool:
    """Whether a field that is lacking is known with the value null."""
    with suppress(Exception):
        return field in node or hasattr(loaded, field)
    return True


def agreed(config: Json) -> list[str]:
    """Let encoders end in the width of the language model beside them; the names of the fields that did not."""
    text = config.get("text_config") or {}
    wide = text.get("hidden_size")
    changed: list[str] = []
    for key, value in config.items():
        is_encoder = key.startswith(ENCODERS) and isinstance(value, dict)
        if is_encoder and wide and value.get("out_hidden_size", wide) != wide:
            value["out_hidden_size"] = wide
            changed = ["out_hidden_size"]
    return changed


def joined(node: Json, text: str) -> list[str]:
    """Turn lists of layer numbers that the text splits at commas into text; the names of those turned."""
    turned = []
    for key, value in node.items():
        is_list = isinstance(value, list | tuple) and key.startswith("moe_layers")
        if is_list and re.search(rf"\b{key}\.(strip\(\)\.)?split\(", text):
            node[key] = ",".join(map(str, value))
            turned.append(key)
    return turned


def layers(node: Json) -> int:
    """Number of layers, 0 if the node does not say."""
    for key in ("num_hidden_layers", "num_layers", "n_layer", "n_layers"):
        count = node.get(key)
        if isinstance(count, int):
            return count
    return 0


def with_additions(source: str, added: list[str]) -> str:
    """Where the config comes from, with what was added."""
    return f"{source} with {', '.join(added)} as its class asks" if added else source
