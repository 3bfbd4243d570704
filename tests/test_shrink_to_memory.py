"""A config cut as little as memory allows keeps its widths, and fits."""

import json
from pathlib import Path
from typing import Any

import pytest

from tuner.model.shrink import EXPERT_COUNTS, EXPERTS_PER_TOKEN, INNER_WIDTHS, is_quantised, shrink, text_nodes
from tuner.model.shrink_layers import layer_key, numbers
from tuner.model.shrink_to_memory import shrink_to_memory, weights_size

Config = dict[str, Any]
GIB = 2**30
FILES = sorted((Path(__file__).parents[1] / "examples" / "models").glob("*/config.json"))
CONFIGS: dict[str, Config] = {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in FILES}
QWEN = "Qwen--Qwen3-30B-A3B"

every_model = pytest.mark.parametrize("name", CONFIGS)


@every_model
def test_widths_stay(name: str) -> None:
    """With 17 GiB every published model keeps each width and its experts for each token; it is not quantised."""
    config = CONFIGS[name]
    small = shrink_to_memory(config, 17 * GIB).config
    assert not is_quantised(small)
    for before, after in zip(text_nodes(config), text_nodes(small), strict=True):
        for key in ("hidden_size", "num_attention_heads", "num_key_value_heads", *INNER_WIDTHS, *EXPERTS_PER_TOKEN):
            assert after.get(key) == before.get(key), key


@every_model
@pytest.mark.parametrize("limit", [12, 4])
def test_the_weights_fit(name: str, limit: int) -> None:
    """What is left is not above the limit, and has as many layers as the smallest cut."""
    config = CONFIGS[name]
    small = shrink_to_memory(config, limit * GIB).config
    size = weights_size(small)
    assert size is not None
    assert size <= limit * GIB
    for least, after in zip(text_nodes(shrink(config).config), text_nodes(small), strict=False):
        assert [after.get(layer_key(after) or "")] == [least.get(layer_key(least) or "")]


@every_model
@pytest.mark.parametrize("limit", [12, 4])
def test_a_token_has_experts_to_choose_from(name: str, limit: int) -> None:
    """At least twice as many as it uses, and as many in each group."""
    for node in text_nodes(shrink_to_memory(CONFIGS[name], limit * GIB).config):
        experts = [count for key in EXPERT_COUNTS for count in numbers(node.get(key))]
        chosen = [count for key in EXPERTS_PER_TOKEN for count in numbers(node.get(key))]
        groups = max([1, *numbers(node.get("n_group"))])
        assert all(count % groups == 0 for count in experts)
        assert not (experts and chosen) or min(experts) >= 2 * max(chosen)


def test_what_fits_is_not_cut() -> None:
    """Of a model that fits with its first layers, nothing else is cut, and each cut is named."""
    small = shrink_to_memory(CONFIGS[QWEN], 12 * GIB)
    assert [assumption["detail"] for assumption in small.assumptions] == ["num_hidden_layers 48 -> 4"]
    assert small.config == CONFIGS[QWEN] | {"num_hidden_layers": 4}


def test_experts_are_halved_before_widths_are_cut() -> None:
    """Half of the experts where that is enough; the smallest model where nothing is."""
    assert shrink_to_memory(CONFIGS[QWEN], 4 * GIB).config["num_experts"] == 64
    assert shrink_to_memory(CONFIGS[QWEN], 3 * GIB).config["num_experts"] == 32
    assert shrink_to_memory(CONFIGS[QWEN], GIB) == shrink(CONFIGS[QWEN])


@pytest.mark.parametrize(
    ("name", "published"),
    [(QWEN, 61.1e9), ("mistralai--Mixtral-8x7B-v0.1", 93.4e9)],
)
def test_the_size_is_near_that_of_the_published_weights(name: str, published: float) -> None:
    """Bytes of the files on the hub. The estimate is at most a tenth above, and not below."""
    size = weights_size(CONFIGS[name])
    assert size is not None
    assert 1 <= size / published < 1.1


@pytest.mark.parametrize("key", ["hidden_size", "vocab_size", "moe_intermediate_size"])
def test_a_config_without_sizes_is_cut_as_far_as_possible(key: str) -> None:
    """Nothing is guessed: without a size the model might not fit."""
    config = {name: value for name, value in CONFIGS[QWEN].items() if name not in {key, "intermediate_size"}}
    assert shrink_to_memory(config, 12 * GIB) == shrink(config)
