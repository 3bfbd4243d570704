"""What real vLLM registers: which architectures hold MoE layers, and which get a config without any download."""

from pathlib import Path
from typing import Any

import pytest
from fake_environment import ROOT

from rules.errors import TunerError
from tuner.model.shrink import declares_experts
from tuner.probe.candidates import Candidate, candidates
from tuner.probe.runner import list_registry

ENVIRONMENTS = {"current": "setup", "flag-live": "setup-flag-live"}
"""Serving environment -> the target that makes it."""
MAX_SECONDS = 120
"""For the listing alone; 8 to 26 s were measured, the latter on two very busy cores."""

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def listing(request: pytest.FixtureRequest) -> Any:
    """The registry of one environment, with the models of `tests/zoo` as a plugin."""
    python = ROOT / ".envs" / request.param / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{request.param}; `make {ENVIRONMENTS[request.param]}` creates it.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "tests" / "zoo"))
        return list_registry(str(python), lambda *_: None)


@pytest.fixture(scope="module")
def entries(listing: Any) -> dict[str, Any]:
    """Its entries by architecture."""
    return {entry["architecture"]: entry for entry in listing["architectures"]}


@pytest.fixture(scope="module")
def found(listing: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    """The candidates by architecture, without configurations of the user's."""
    home = tmp_path_factory.mktemp("home")
    return {one.architecture: one for one in candidates(listing, None, home, text_only=False, match=None)}


def count(entries: dict[str, Any], moe: str) -> int:
    """How many of vLLM's own architectures are of a kind."""
    return sum(entry["moe"] == moe and entry["category"] != "plugin" for entry in entries.values())


def test_the_numbers_are_those_of_the_hand_read_list(listing: Any, entries: dict[str, Any]) -> None:
    """84 architectures of 0.19.1 lead to a MoE layer, as reading its sources showed.

    Of the eight that name their inner model, three share the dense one's class with a MoE model: GLM-4V and GLM-OCR
    choose among names, one of them MoE, and a reader counted them with those whose config chooses.
    """
    numbers = {"0.19.1": (84, 8, 44), "0.32.0": (131, 9, 45)}
    version = listing["environment"]["vllm"].partition("+")[0]
    assert (count(entries, "static"), count(entries, "literal"), count(entries, "config")) == numbers[version]
    assert listing["seconds"] < MAX_SECONDS


@pytest.mark.parametrize(
    "name",
    [
        "MixtralForCausalLM",
        "Qwen3MoeForCausalLM",
        "DeepseekV2ForCausalLM",
        "DeepseekV3ForCausalLM",
        "GptOssForCausalLM",
        "GraniteMoeHybridForCausalLM",
        "JambaForCausalLM",
        "Llama4ForCausalLM",
        "NemotronHForCausalLM",
        "OlmoeForCausalLM",
        "Ernie4_5_VLMoeForConditionalGeneration",
        "Qwen3VLMoeForConditionalGeneration",
    ],
)
def test_well_known_models_are_moe_and_have_a_config(
    entries: dict[str, Any], found: dict[str, Candidate], name: str
) -> None:
    """Their class leads to MoE layers, and a config class of their own has experts by default."""
    assert (entries[name]["moe"], entries[name]["error"]) == ("static", "")
    assert declares_experts(entries[name]["config"])
    assert entries[name]["config"]["architectures"] == [name]
    assert Path(found[name].folder or "", "config.json").is_file()


@pytest.mark.parametrize(
    "name", ["LlamaForCausalLM", "Qwen3ForCausalLM", "MambaForCausalLM", "BertModel", "WhisperForConditionalGeneration"]
)
def test_dense_models_have_no_moe_layer(entries: dict[str, Any], found: dict[str, Candidate], name: str) -> None:
    """They are listed without a config, and are not candidates."""
    assert (entries[name]["moe"], entries[name]["config"]) == ("none", None)
    assert name not in found


@pytest.mark.parametrize("name", ["KimiVLForConditionalGeneration", "KimiK25ForConditionalGeneration"])
def test_a_wrapper_that_names_its_model_is_literal(entries: dict[str, Any], name: str) -> None:
    """The name in its code is that of a MoE class."""
    assert (entries[name]["moe"], entries[name]["category"]) == ("literal", "multimodal")


def test_a_wrapper_whose_config_names_the_model_needs_one(found: dict[str, Candidate]) -> None:
    """Its default language model is dense, and so says nothing."""
    one = found["InternVLChatModel"]
    assert (one.moe, one.folder) == ("config", None)
    assert "chosen by the config" in one.reason


def test_a_class_is_asked_for_experts_where_its_defaults_leave_them_off(found: dict[str, Candidate]) -> None:
    """What was asked for stands in the source."""
    assert found["Gemma4ForCausalLM"].source.startswith("transformers Gemma4TextConfig(num_experts=8, top_k_experts=2)")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("Glm4MoeForCausalLM", {"head_dim": 128}),
        ("Glm4MoeLiteForCausalLM", {"first_k_dense_replace": 1}),
        ("Lfm2MoeForCausalLM", {"layer_types": ["full_attention"] * 32}),
        ("MiniMaxM2ForCausalLM", {"rotary_dim": 128, "scoring_func": "sigmoid"}),
    ],
)
def test_what_the_class_reads_is_added(
    entries: dict[str, Any], found: dict[str, Candidate], name: str, fields: dict[str, Any]
) -> None:
    """Fields that its config class does not have, and published configs do, stand in the config and in the source."""
    assert {field: entries[name]["config"].get(field) for field in fields} == fields
    added = found[name].source.partition(" with ")[2]
    assert set(fields) <= set(added.removesuffix(" as its class asks").split(", "))


@pytest.mark.parametrize("name", ["MixtralForCausalLM", "OlmoeForCausalLM", "Qwen3MoeForCausalLM"])
def test_nothing_is_added_to_a_whole_config(found: dict[str, Candidate], name: str) -> None:
    """Where the defaults have all that the class reads, the source is the config class alone."""
    assert " with " not in found[name].source


def keys(config: dict[str, Any]) -> set[str]:
    """Every key of a config, nested ones included."""
    inside = [keys(value) for value in config.values() if isinstance(value, dict)]
    return set(config).union(*inside)


def test_configs_are_as_published(entries: dict[str, Any]) -> None:
    """Nothing private is in them, nor what transformers derives for single layers; classes may refuse the one."""
    made = [entry["config"] for entry in entries.values() if entry["config"]]
    assert len(made) > 60
    assert not [key for config in made for key in keys(config) if key.startswith("_") or key == "per_layer_config"]


def test_nested_configs_stand_under_the_name_that_is_read(entries: dict[str, Any]) -> None:
    """A class that keeps its language model's config under another name than it takes gets it under the latter."""
    config = entries["DeepseekVLV2ForCausalLM"]["config"]
    assert "text_config" not in config
    assert declares_experts(config["language_config"])


def test_a_language_model_that_only_the_config_names_is_named(entries: dict[str, Any]) -> None:
    """Published configs of such wrappers name it."""
    config = entries["Step3VLForConditionalGeneration"]["config"]
    assert config["text_config"]["architectures"] == ["Step3TextForCausalLM"]


def test_drafts_say_why(entries: dict[str, Any], found: dict[str, Candidate]) -> None:
    """A draft that holds MoE layers is listed, never with a folder."""
    drafts = [one for one in found.values() if one.category == "speculative decoding"]
    assert len(drafts) > 10
    assert {(one.folder, one.reason) for one in drafts} == {(None, "runs only beside its target")}
    assert entries["DeepSeekMTPModel"]["moe"] == "static"


def test_plugins_are_listed(entries: dict[str, Any], found: dict[str, Candidate]) -> None:
    """A model that only a plugin registers is found through its module, with the config of what it is made of."""
    name = "PlainForCausalLM"
    assert (entries[name]["category"], entries[name]["module"], entries[name]["moe"]) == ("plugin", "zoo", "static")
    assert found[name].source == "transformers Qwen3MoeConfig: Qwen3MoeModel is used by this class"


def test_a_class_that_does_not_import_stops_nothing(entries: dict[str, Any]) -> None:
    """The CPU build lacks libraries that some model files import: each says so, and the rest is listed."""
    broken = [entry for entry in entries.values() if entry["error"]]
    assert broken
    assert len(broken) < 25
    assert all(entry["error"].partition(":")[0].endswith("Error") for entry in broken)


def test_most_text_models_have_a_config(found: dict[str, Candidate]) -> None:
    """Those without have a config class in remote code only."""
    text = [one for one in found.values() if one.category == "text generation"]
    assert sum(one.folder is not None for one in text) > 0.7 * len(text)
    assert all(bool(one.reason) == (one.folder is None) for one in found.values())


def test_an_interpreter_without_vllm_is_told(tmp_path: Path) -> None:
    """As in any probe."""
    with pytest.raises(TunerError, match="does not start") as failure:
        list_registry(str(tmp_path / "python"), lambda *_: None)
    assert failure.value.kind == "environment"
