"""A config cut small still shows every layer kind, still fits together, and says what was cut."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.assumptions import COVERED
from rules.errors import TunerError
from tuner.model.config_size import MAX_WORK, check_config_size
from tuner.model.shrink import (
    EXPERT_COUNTS,
    EXPERTS_PER_TOKEN,
    INNER_WIDTHS,
    declares_experts,
    shrink,
    special_tokens,
    text_nodes,
)
from tuner.model.shrink_layers import LAYER_INTERVALS, layer_key

Config = dict[str, Any]
FILES = sorted((Path(__file__).parents[1] / "examples" / "models").glob("*/config.json"))
CONFIGS: dict[str, Config] = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
DENSE = {"meta-llama--Meta-Llama-3.1-8B"}
LAYERS = "num_hidden_layers"

every_model = pytest.mark.parametrize("name", CONFIGS)


def pairs(config: Config) -> list[tuple[Config, Config]]:
    """Each node that has layers, as published and cut."""
    before = list(text_nodes(config))
    after = list(text_nodes(shrink(without_quantization(config)).config))
    return [(old, new) for old, new in zip(before, after, strict=True) if LAYERS in old]


def without_quantization(config: Config) -> Config:
    """The config without quantisation, so that its nodes and those of its cut match one by one."""
    return {
        key: without_quantization(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if key not in {"quantization_config", "compression_config"}
    }


def mixtral(**changes: Any) -> Config:
    """A plain MoE config with some keys changed."""
    return copy.deepcopy(CONFIGS["mistralai--Mixtral-8x7B-v0.1"]) | changes


def numbers(value: Any) -> list[int]:
    """The integers in a value or a list."""
    return [item for item in (value if isinstance(value, list) else [value]) if type(item) is int]


def per_layer(node: Config) -> dict[str, Any]:
    """Values with one item a layer: lists, and texts that are patterns."""
    total = node[LAYERS]
    lists = {key: value for key, value in node.items() if isinstance(value, list) and len(value) == total}
    return lists | {key: value for key, value in node.items() if "pattern" in key and len(value) == total}


# ---- published configs


def test_every_example_is_here() -> None:
    """The promises below are kept for seventeen published models, one of them dense."""
    assert len(CONFIGS) == 17
    assert {name for name, config in CONFIGS.items() if not declares_experts(config)} == DENSE


@every_model
def test_every_combination_of_layer_kinds_is_kept(name: str) -> None:
    """Each combination of per-layer values that the model has stands in the kept layers, which are a prefix."""
    for old, new in pairs(CONFIGS[name]):
        lists = per_layer(old)
        whole = list(zip(*lists.values(), strict=True))
        kept = list(zip(*(new[key] for key in lists), strict=True))
        assert kept == whole[: len(kept)]
        assert set(kept) == set(whole)
        assert len(kept) in {0, new[LAYERS]}


@every_model
def test_two_moe_layers_and_two_periods_are_kept(name: str) -> None:
    """Order needs two: at least four layers remain, two periods of every interval, and three behind dense ones."""
    for old, new in pairs(CONFIGS[name]):
        assert 4 <= new[LAYERS] <= old[LAYERS]
        for key in LAYER_INTERVALS:
            assert all(new[LAYERS] >= 2 * interval for interval in numbers(old.get(key, [])))
        assert all(new[LAYERS] >= dense + 3 for dense in numbers(new.get("first_k_dense_replace", [])))


@every_model
def test_the_cut_is_small(name: str) -> None:
    """What is built has few layers, eight or so experts and narrow ones: seconds, not minutes."""
    for _, new in pairs(CONFIGS[name]):
        assert new[LAYERS] <= 16
        assert new["hidden_size"] <= 1024
        assert all(count <= 16 for key in EXPERT_COUNTS for count in numbers(new.get(key)))
        assert all(width <= 256 for key in INNER_WIDTHS for width in numbers(new.get(key)))


@every_model
def test_what_divided_still_divides(name: str) -> None:
    """Heads by key-value heads, hidden size by heads where that is the head's size, experts by groups."""
    for old, new in pairs(CONFIGS[name]):
        heads, kv_heads = new["num_attention_heads"], new["num_key_value_heads"]
        assert heads >= kv_heads >= 1
        assert heads % kv_heads == 0
        assert old["num_attention_heads"] // old["num_key_value_heads"] == heads // kv_heads
        if not (old.get("head_dim") or old.get("qk_nope_head_dim")):
            assert new["hidden_size"] * old["num_attention_heads"] == old["hidden_size"] * heads
        experts = [count for key in EXPERT_COUNTS for count in numbers(new.get(key))]
        assert all(count % (new.get("n_group") or 1) == 0 for count in experts)
        assert all(numbers(new.get(key, 1))[0] <= min(experts, default=1) for key in EXPERTS_PER_TOKEN if new.get(key))


@every_model
def test_special_tokens_stay_in_the_vocabulary(name: str) -> None:
    """Every token id that the config names and its vocabulary had can still be fed."""
    small = shrink(CONFIGS[name])
    for old, new in pairs(CONFIGS[name]):
        if "vocab_size" in old:
            assert all(token < new["vocab_size"] for token in small.special_tokens if token < old["vocab_size"])
            assert new["vocab_size"] <= old["vocab_size"]


@every_model
def test_quantisation_is_dropped_at_every_level(name: str) -> None:
    """No quantisation is left anywhere outside encoders, and the report says if there was any."""
    small = shrink(CONFIGS[name])
    assert not [node for node in text_nodes(small.config) if "quantization_config" in node]
    had = any("quantization_config" in node for node in text_nodes(CONFIGS[name]))
    assert had == any(entry["kind"] == "quantization_dropped" for entry in small.assumptions)


def test_kimi_is_unquantised_inside_too() -> None:
    """Kimi K2.5 has its quantisation in the text config: it is dropped there."""
    config = CONFIGS["moonshotai--Kimi-K2.5"]
    assert "quantization_config" in config["text_config"]
    both = shrink(config | {"quantization_config": {"quant_method": "fp8"}})
    assert "quantization_config" not in both.config
    assert "quantization_config" not in both.config["text_config"]
    assert [entry for entry in both.assumptions if entry["kind"] == "quantization_dropped"] == [
        {"kind": "quantization_dropped", "detail": "quantization_config, quantization_config"}
    ]


@every_model
def test_the_input_is_not_changed(name: str) -> None:
    """The caller's config stays as it was, at every level."""
    config = copy.deepcopy(CONFIGS[name])
    shrink(config)
    assert config == CONFIGS[name]


@every_model
def test_every_change_is_an_assumption(name: str) -> None:
    """Each key whose value differs is named under a kind, each kind once, and every kind is covered by a rule."""
    small = shrink(CONFIGS[name])
    kinds = [entry["kind"] for entry in small.assumptions]
    assert len(kinds) == len(set(kinds))
    assert set(kinds) <= set(COVERED)
    details = " ".join(entry["detail"] for entry in small.assumptions).replace(",", "").split()
    for old, new in pairs(CONFIGS[name]):
        assert old.keys() - new.keys() <= {"quantization_config"}
        changed = {key for key, value in old.items() if new.get(key) != value}
        assert {key for key in changed if not isinstance(old[key], dict)} <= set(details)


@every_model
def test_cutting_a_cut_changes_nothing_more(name: str) -> None:
    """The cut is a fixed point: there is nothing left to assume."""
    small = shrink(CONFIGS[name])
    assert shrink(small.config).assumptions == ()
    assert shrink(small.config).config == small.config


@every_model
def test_experts_remain_experts(name: str) -> None:
    """A model that declares experts still does after the cut, and a dense one still does not."""
    assert declares_experts(shrink(CONFIGS[name]).config) == declares_experts(CONFIGS[name])


# ---- kinds of change, one by one


def assumed(config: Config) -> dict[str, str]:
    """Detail by kind of what cutting this config assumed."""
    return {entry["kind"]: entry["detail"] for entry in shrink(config).assumptions}


def test_details_name_the_sizes() -> None:
    """The report says from what to what: layers, experts, widths, positions."""
    found = assumed(mixtral(max_position_embeddings=10_485_760))
    assert found["layers_shrunk"] == "num_hidden_layers 32 -> 4"
    assert "num_local_experts" not in found.get("experts_shrunk", "")  # it has eight
    assert "intermediate_size 14336 -> 256" in found["widths_shrunk"]
    assert "vocab_size 32000 -> 1024" in found["widths_shrunk"]
    assert found["positions_shrunk"] == "max_position_embeddings 10485760 -> 262144"


@pytest.mark.parametrize("wrapped", [False, True])
def test_encoders_keep_a_few_layers(wrapped: bool) -> None:
    """No pass runs them; beside the model and inside a nested config, with whatever name their depth has."""
    inner = {"vision_config": {"depth": 27, "hidden_size": 1152}, "audio_config": {"encoder_layers": 32, "d_model": 64}}
    small = shrink(mixtral(thinker_config=inner) if wrapped else mixtral(**inner))
    found = small.config["thinker_config"] if wrapped else small.config
    assert found["vision_config"] == {"depth": 4, "hidden_size": 1152}
    assert found["audio_config"] == {"encoder_layers": 4, "d_model": 64}
    details = [one["detail"] for one in small.assumptions if one["kind"] == "encoders_shrunk"]
    assert details == ["depth 27 -> 4, encoder_layers 32 -> 4"]
    assert small.deep is not None
    assert (small.deep["thinker_config"] if wrapped else small.deep)["vision_config"]["depth"] == 4


def test_ordinary_positions_are_kept() -> None:
    """Only a rotary table that takes half a minute to fill is cut."""
    assert "positions_shrunk" not in assumed(mixtral(max_position_embeddings=262_144))


def test_a_layer_kind_in_an_index_list_is_kept() -> None:
    """A list of layer indices makes kinds as a per-layer list does: a lone dense layer far up is still there."""
    small = shrink(mixtral(mlp_only_layers=[9])).config
    assert small[LAYERS] > 9
    assert small["mlp_only_layers"] == [9]
    assert shrink(mixtral(mlp_only_layers=[0, 2, 30])).config["mlp_only_layers"] == [0, 2]


def test_a_per_layer_list_is_no_list_of_indices() -> None:
    """A list with one number a layer is cut at its end; its numbers are not taken for layer indices."""
    small = shrink(mixtral(experts_in_layers=[64] * 32)).config
    assert small["experts_in_layers"] == [64] * small[LAYERS]


def test_layer_numbers_may_be_text() -> None:
    """Numbers with commas between them are a list of layers as well, and stay text."""
    config = mixtral(moe_layers_enum="4,5,6,7,8,9,10,11")
    small = shrink(config).config
    assert small[LAYERS] >= 6
    assert small["moe_layers_enum"] == ",".join(str(index) for index in range(4, small[LAYERS]))


def test_overrides_of_cut_layers_go_with_them() -> None:
    """What is said of a single layer by its number makes it a kind of its own, and is dropped with the layer."""
    wide = {"head_dim": 512}
    small = shrink(mixtral(per_layer_config={"5": wide, "11": wide, "17": wide})).config
    assert small[LAYERS] == 7
    assert small["per_layer_config"] == {"5": wide}


def test_whole_groups_of_layers_are_kept() -> None:
    """A config class that computes kinds from the size of a group finds the ones that are left."""
    kinds = ["full" if index % 5 == 4 else "linear" for index in range(32)]
    small = shrink(mixtral(layer_group_size=5, layer_types=kinds)).config
    assert (small[LAYERS], small["layer_types"]) == (10, kinds[:10])


def test_heads_of_a_state_space_still_fill_the_hidden_size() -> None:
    """Where their widths add up to a multiple of the hidden size, they do so after the cut."""
    config = mixtral(mamba_expand=2, mamba_n_heads=128, mamba_d_head=64)
    small = shrink(config).config
    assert 2 * small["hidden_size"] == small["mamba_n_heads"] * small["mamba_d_head"]
    assert "mamba_n_heads 128 -> " in assumed(config)["widths_shrunk"]


def test_heads_of_a_state_space_that_fill_nothing_are_cut_to_its_groups() -> None:
    """Each group keeps one head at least; heads that the groups do not divide stay."""
    config = mixtral(expand=2, mamba_num_heads=256, mamba_head_dim=64, n_groups=8)
    assert shrink(config).config["mamba_num_heads"] == 8
    assert shrink(config | {"n_groups": 3}).config["mamba_num_heads"] == 256


def test_heads_of_linear_attention_are_cut_together() -> None:
    """As many value heads belong to each key head as before."""
    small = shrink(mixtral(linear_num_key_heads=16, linear_num_value_heads=48)).config
    assert (small["linear_num_key_heads"], small["linear_num_value_heads"]) == (4, 12)
    assert (
        "linear_num_value_heads 48 -> 12"
        in assumed(mixtral(linear_num_key_heads=16, linear_num_value_heads=48))["widths_shrunk"]
    )


def test_a_list_of_layer_kinds_is_a_layer_count() -> None:
    """A hybrid of 550 billion parameters names its layers one by one and no count: layers and widths are cut."""
    kinds = ["linear_attention", "moe"] * 48 + ["full_attention", "mlp"] * 6
    config = {
        "architectures": ["NemotronHForCausalLM"],
        "layers_block_type": kinds,
        "hidden_size": 8192,
        "head_dim": 128,
        "num_attention_heads": 64,
        "num_key_value_heads": 2,
        "expand": 2,
        "mamba_num_heads": 256,
        "mamba_head_dim": 64,
        "n_groups": 8,
        "n_routed_experts": 512,
        "num_experts_per_tok": 22,
        "moe_intermediate_size": 5120,
        "moe_latent_size": 2048,
        "moe_shared_expert_intermediate_size": 10_240,
        "vocab_size": 131_072,
    }
    small = shrink(config)
    assert small.config["layers_block_type"] == kinds[:99]
    assert small.config["n_routed_experts"] == 8
    for key in ("hidden_size", "moe_latent_size", "moe_intermediate_size", "moe_shared_expert_intermediate_size"):
        assert small.config[key] <= 512
    assert small.config["mamba_num_heads"] * small.config["mamba_head_dim"] == 1024
    assert small.config["vocab_size"] == 1024
    assert small.deep is not None
    assert small.deep["layers_block_type"] == kinds
    assert {"layers_shrunk", "experts_shrunk", "widths_shrunk"} <= {entry["kind"] for entry in small.assumptions}


def test_what_a_part_of_a_layer_says_is_cut_too() -> None:
    """Experts and widths in an object inside (DBRX), or in one object a layer (Nemotron Puzzle)."""
    blocks = [
        {"block_type": "moe", "n_routed_experts": 64 + index % 2, "moe_intermediate_size": 2048} for index in range(32)
    ]
    config = mixtral(ffn_config={"ffn_hidden_size": 10_752, "moe_num_experts": 16}, block_configs=blocks)
    small = shrink(config).config
    assert small["ffn_config"] == {"ffn_hidden_size": 256, "moe_num_experts": 8}
    assert len(small["block_configs"]) == small[LAYERS]
    assert all(
        block["n_routed_experts"] == 8 and block["moe_intermediate_size"] == 256 for block in small["block_configs"]
    )
    assert "ffn_config" in assumed(config)["widths_shrunk"]


def test_tables_of_a_vocabulary_are_cut() -> None:
    """A table that is filled up, and one for groups of tokens, are as long as the vocabulary at most."""
    small = shrink(mixtral(padded_vocab_size=32_064, ngram_vocab_size_base=20_000_000)).config
    assert (small["padded_vocab_size"], small["ngram_vocab_size_base"]) == (1024, 1024)


def test_text_as_long_as_there_are_layers_is_kept_whole() -> None:
    """A name with as many letters as layers is not a pattern."""
    config = mixtral(num_hidden_layers=8, torch_dtype="bfloat16")
    small = shrink(config).config
    assert (small[LAYERS], small["torch_dtype"]) == (4, "bfloat16")


def test_a_pattern_is_cut_with_its_layers() -> None:
    """A text with one letter a layer keeps a prefix that shows every letter."""
    small = shrink(mixtral(num_hidden_layers=12, hybrid_override_pattern="MMMMMEMMMMMM")).config
    assert small["hybrid_override_pattern"] == "MMMMMEMMMMMM"[: small[LAYERS]]
    assert "E" in small["hybrid_override_pattern"]


@pytest.mark.parametrize(("experts", "groups"), [(96, 3), (256, 8), (60, 5), (8, 1), (64, 16), (7, 7)])
def test_experts_divide_by_any_number_of_groups(experts: int, groups: int) -> None:
    """Grouped routing still works: two experts a group at least where there were, and as many in each."""
    small = shrink(mixtral(num_local_experts=experts, n_group=groups)).config
    assert small["num_local_experts"] % groups == 0
    assert small["num_local_experts"] >= min(experts, 2 * groups)


def test_heads_given_layer_by_layer_are_left_alone() -> None:
    """Heads that differ by layer are not scaled: nothing says what would still fit."""
    config = mixtral(num_attention_heads=[32] * 32, num_key_value_heads=[8] * 32, hidden_size=1024)
    small = shrink(config).config
    assert (small["num_attention_heads"], small["hidden_size"]) == ([32] * small[LAYERS], 1024)


@pytest.mark.parametrize("value", [None, 0])
def test_a_model_without_attention_keeps_its_width(value: int | None) -> None:
    """Without attention heads the hidden size has nothing to follow."""
    assert shrink(mixtral(num_attention_heads=value)).config["hidden_size"] == 4096


def test_a_layer_count_of_null_is_no_layer_count() -> None:
    """Where the usual key is null the next one counts."""
    small = shrink(mixtral(num_hidden_layers=None, n_layer=30)).config
    assert (small[LAYERS], small["n_layer"]) == (None, 4)


def test_special_tokens_are_found_everywhere() -> None:
    """Ids in lists and nested configs are found, sorted, each once; what is not an id is not."""
    config = {
        "eos_token_id": [7, 3],
        "pad_token_id": None,
        "vision_config": {"image_token_id": 9, "patch_size": 14},
        "image_token_index": 3,
        "unused_id": -1,
        "is_id": True,
        "name_id": "5",
    }
    assert special_tokens(config) == (3, 7, 9)


def test_encoders_follow_the_width_of_the_text_model() -> None:
    """A vision config that names the text model's width names the cut one, and keeps its own widths."""
    vision = {"out_hidden_size": 4096, "hidden_size": 4096, "hidden_sizes": [4096], "depth": 3}
    config = mixtral(vision_config=vision)
    small = shrink(config).config
    followed = small["vision_config"]
    assert followed == vision | {"out_hidden_size": small["hidden_size"]}


# ---- absurd configs


ABSURD = {
    LAYERS: [0, -1, 10**9, "32", 4.5, 4.0, True, False, [], [4], {}, [[4]], "", float("nan")],
    "num_local_experts": [-1, 10**9, "8", 8.0, True, [], ["8"], [8, None], {}],
    "num_experts_per_tok": [-2, 10**9, "2", 0.5, False, {}],
    "hidden_size": [0, -4096, 10**12, "4096", 4096.0, True, [4096], {}],
    "vocab_size": [0, -1, 10**12, "32000", 1e5, True, [32000], {}],
    "num_attention_heads": [-1, 10**9, "32", 32.0, True, [], [32, "x"], {}],
    "num_key_value_heads": [-8, 10**9, "8", 8.5, False, [], {}],
    "intermediate_size": [-1, 10**12, "14336", 1.5, True, [], {}],
    "n_group": [-1, 10**9, "4", 1.5, True, {}],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ABSURD.items() for value in values])
def test_an_absurd_size_is_refused_with_a_sentence(key: str, value: object) -> None:
    """A size that no model has is the config's fault, said in one sentence that names key and value."""
    with pytest.raises(TunerError) as caught:
        shrink(mixtral(**{key: value}))
    assert caught.value.kind == "model"
    assert f"{key} = " in caught.value.message
    assert "which is not a number from" in caught.value.message
    assert caught.value.hint


def keys(config: Config) -> Iterator[str]:
    """Every key of a config, nested ones included."""
    for key, value in config.items():
        yield key
        if isinstance(value, dict):
            yield from keys(value)


READ = sorted({*keys(CONFIGS["moonshotai--Kimi-K2.5"]), *EXPERT_COUNTS, *EXPERTS_PER_TOKEN, *INNER_WIDTHS, *ABSURD})
READ += [*LAYER_INTERVALS, "n_layer", "first_k_dense_replace", "moe_layer_end_index", "moe_layer_start_index"]
READ += ["mlp_only_layers", "layer_types", "hybrid_override_pattern", "vision_config", "quantization_config"]
INTEGERS = st.integers(-2, 70) | st.sampled_from([256, 4096, 10**5, 10**7, 10**9, 2**63, 10**30])
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats() | st.text(max_size=40)
VALUES = st.recursive(
    SCALARS | st.lists(INTEGERS, min_size=28, max_size=33),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.sampled_from(READ), inner, max_size=5),
    max_leaves=20,
)


@settings(max_examples=100, deadline=5000)
@given(st.sampled_from(sorted(CONFIGS)), st.dictionaries(st.sampled_from(READ), VALUES, min_size=1, max_size=5))
def test_any_config_is_cut_or_refused(name: str, changes: Config) -> None:
    """Whatever a config says, cutting it ends within seconds with a smaller one or a `TunerError`."""
    config = CONFIGS[name]
    inner = config.get("text_config")
    changed = config | ({"text_config": inner | changes} if inner else changes)
    before = repr(changed)
    declares_experts(changed)
    try:
        assert {entry["kind"] for entry in shrink(changed).assumptions} <= set(COVERED)
    except TunerError as error:
        assert error.kind == "model"  # noqa: PT017  either outcome is right
    assert repr(changed) == before


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(READ), VALUES, max_size=8))
def test_a_config_of_any_shape_is_cut_or_refused(config: Config) -> None:
    """A config that describes no model at all is nobody's traceback either."""
    with suppress(TunerError):
        shrink(config)


def test_a_config_at_every_limit_is_cut_in_time() -> None:
    """Ten thousand layers of ten thousand kinds take seconds at most: the search is linear."""
    lists = {f"kind_{index}": list(range(10_000)) for index in range(5)}
    small = shrink(mixtral(num_hidden_layers=10_000, moe_layer_freq=list(range(1, 9_000)), **lists)).config
    assert small[LAYERS] == 10_000


HUNDREDS = {
    "lists": {f"kind_{index}_layers": [index] for index in range(300)},
    "parts": {f"kind_{index}_config": {"num_hidden_layers": 10_000, "x_layers": [9_999]} for index in range(300)},
    "overrides": {f"per_layer_{index}": {"1": 2} for index in range(300)},
}
"""Fields of a config of some ten thousand bytes that took from seconds to minutes to cut."""


@pytest.mark.parametrize("keys", HUNDREDS)
def test_a_config_of_too_many_layers_in_too_many_fields_is_refused(keys: str) -> None:
    """Before it is cut, which would take minutes: the work is layers times fields."""
    with pytest.raises(TunerError, match="pairs of a layer and a field, and at most 1,000,000") as caught:
        check_config_size(mixtral(num_hidden_layers=10_000, **HUNDREDS[keys]))
    assert caught.value.kind == "model"


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_published_configs_are_far_from_the_bound(name: str) -> None:
    """Ten times the layers and ten times the fields would still be cut."""
    check_config_size(CONFIGS[name])
    assert sum(len(node) * node.get(layer_key(node), 0) for node in text_nodes(CONFIGS[name])) * 100 < MAX_WORK
