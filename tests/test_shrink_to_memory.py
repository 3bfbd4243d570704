"""A model for the arms of a launch keeps its widths, its experts and its quantisation as far as the memory allows."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tuner.model.quantization import drawn_bytes
from tuner.model.shrink import EXPERT_COUNTS, EXPERTS_PER_TOKEN, INNER_WIDTHS, shrink, text_nodes
from tuner.model.shrink_layers import layer_key, numbers
from tuner.model.shrink_to_memory import shrink_to_memory, weight_bytes

Config = dict[str, Any]
FILES = sorted((Path(__file__).parents[1] / "examples" / "models").glob("*/config.json"))
CONFIGS: dict[str, Config] = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
GIB = 2**30
ROOM = 10**15
"""Bytes into which every model fits."""
WIDTHS = ("hidden_size", "vocab_size", "num_attention_heads", "num_key_value_heads", *INNER_WIDTHS)
every_model = pytest.mark.parametrize("name", CONFIGS)
PUBLISHED = {
    "Qwen--Qwen3-30B-A3B": 30.5,
    "mistralai--Mixtral-8x7B-v0.1": 46.7,
    "meta-llama--Meta-Llama-3.1-8B": 8.03,
    "MiniMaxAI--MiniMax-M2.5": 229.0,
    "openai--gpt-oss-120b": 116.8,
    "deepseek-ai--DeepSeek-V3": 671.0,
    "zai-org--GLM-5.1": 744.0,
}
"""Billions of weights, as the models' cards say."""


def sizes(config: Config, keys: tuple[str, ...]) -> list[Any]:
    """These sizes of all parts with layers."""
    return [[node.get(key) for key in keys] for node in text_nodes(config) if layer_key(node)]


def expert_counts(config: Config) -> list[int]:
    """All numbers of experts, of lists too."""
    values = [node.get(key) for node in text_nodes(config) for key in EXPERT_COUNTS]
    return [number for value in values for number in numbers(value) if number > 1]


@every_model
def test_with_room_the_layers_alone_are_cut(name: str) -> None:
    """Widths, experts and vocabulary are those of the real model, and so is a quantisation that can be made up."""
    config = CONFIGS[name]
    fitted = shrink_to_memory(config, ROOM, layers=True)
    keys = (*WIDTHS, *EXPERT_COUNTS, *EXPERTS_PER_TOKEN)
    assert sizes(fitted.config, keys) == sizes(config, keys)
    assert sizes(fitted.config, ("num_hidden_layers",)) == sizes(shrink(config).config, ("num_hidden_layers",))
    assert {entry["kind"] for entry in fitted.assumptions} <= {
        "layers_shrunk",
        "positions_shrunk",
        "encoders_shrunk",
    }
    assert fitted.is_quantised == (drawn_bytes(config) is not None)


@every_model
@pytest.mark.parametrize("gib", [60, 25, 10, 4, 0.01])
def test_experts_are_halved_before_widths_are_cut(name: str, gib: float) -> None:
    """What comes out fits, or it is what the order probe builds; each token keeps a choice of experts."""
    config = copy.deepcopy(CONFIGS[name])
    fitted = shrink_to_memory(config, int(gib * GIB), layers=True)
    assert config == CONFIGS[name]
    if sizes(fitted.config, WIDTHS) != sizes(config, WIDTHS):
        assert fitted.config == shrink(config).config
        return
    assert fitted.estimate <= gib * GIB
    for whole, part in zip(expert_counts(config), expert_counts(fitted.config), strict=True):
        assert part * 2 ** (whole // part).bit_length() == whole * 2
    for node in text_nodes(fitted.config):
        groups = max([1, *numbers(node.get("n_group"))])
        chosen = max([1, *(number for key in EXPERTS_PER_TOKEN for number in numbers(node.get(key)))])
        assert all(count > chosen and count % groups == 0 for count in expert_counts(node))


@every_model
def test_an_unknown_memory_cuts_everything(name: str) -> None:
    """Nothing is tried that may not fit."""
    fitted = shrink_to_memory(CONFIGS[name], None, layers=True)
    assert (fitted.config, fitted.is_quantised) == (shrink(CONFIGS[name]).config, False)


def test_code_that_asks_for_layers_by_number_keeps_them() -> None:
    """All layers stay, in full width where they fit and in small width where not."""
    config = CONFIGS["Qwen--Qwen3-30B-A3B"]
    wide = shrink_to_memory(config, ROOM, layers=False).config
    narrow = shrink_to_memory(config, GIB, layers=False).config
    assert (wide["num_hidden_layers"], wide["hidden_size"]) == (48, 2048)
    assert (narrow["num_hidden_layers"], narrow["hidden_size"]) == (48, 512)


@pytest.mark.parametrize(("name", "billions"), PUBLISHED.items())
def test_the_estimate_is_near_what_is_published(name: str, billions: float) -> None:
    """Of the whole model: at least the published number of weights, and at most a quarter more."""
    config = CONFIGS[name]
    bytes_of_one = drawn_bytes(config) or 4.0
    estimate = weight_bytes(config) / 1e9 / bytes_of_one
    assert 0.98 * billions <= estimate <= 1.25 * billions


GROUP = {"weights": {"num_bits": 4, "type": "int"}}


@pytest.mark.parametrize(
    ("quantization", "is_drawn"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, True),
        ({"quant_method": "mxfp4"}, True),
        ({"quant_method": "awq", "bits": 4, "zero_point": True}, True),
        ({"quant_method": "awq", "bits": 8}, False),
        ({"quant_method": "gptq", "bits": 4, "desc_act": False}, True),
        ({"quant_method": "gptq", "bits": 4, "desc_act": True}, False),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}, False),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, True),
        ({"quant_method": "modelopt", "quant_algo": "W4A8"}, False),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g": GROUP}}, True),
        ({"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": {"g": GROUP}}, False),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {}}, False),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"g": [GROUP]}}, False),
        ({"quant_method": "bitsandbytes"}, False),
        ({"quant_method": ["fp8"]}, False),
        ("fp8", False),
    ],
)
def test_a_format_that_cannot_be_made_up_is_dropped(quantization: Any, *, is_drawn: bool) -> None:
    """The finding then says so."""
    config = {**CONFIGS["mistralai--Mixtral-8x7B-v0.1"], "quantization_config": quantization}
    fitted = shrink_to_memory(config, ROOM, layers=True)
    assert (fitted.is_quantised, "quantization_config" in fitted.config) == (is_drawn, is_drawn)
    assert any(entry["kind"] == "quantization_dropped" for entry in fitted.assumptions) != is_drawn


def test_a_quantisation_that_no_engine_takes_is_dropped_on_demand() -> None:
    """As where the first engine did not start with it."""
    fitted = shrink_to_memory(CONFIGS["openai--gpt-oss-120b"], ROOM, layers=True, keeps_quantization=False)
    assert "quantization_config" not in fitted.config
    assert not fitted.is_quantised
