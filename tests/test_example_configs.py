"""The configs of `examples/architectures/`: each is read, can be cut, and has a source that allows it to be here."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools.evidence.make_registry import counts
from tuner.model.config_size import check_config_size
from tuner.model.shrink import declares_experts, shrink
from tuner.probe.candidates import candidates

EXAMPLES = Path(__file__).parents[1] / "examples"
FOLDER = EXAMPLES / "architectures"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/config.json"))
SOURCES: dict[str, dict[str, str]] = json.loads((FOLDER / "sources.json").read_text(encoding="utf-8"))
LICENCES = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT"}
MAX_BYTES = 16_384
DENSE = {
    "ColQwen3_5",
    "Gemma4UnifiedForConditionalGeneration",
    "Glm4vForConditionalGeneration",
    "GlmOcrForConditionalGeneration",
    "HunYuanDenseV1ForCausalLM",
    "HunYuanVLForConditionalGeneration",
    "MiniCPMV4_6ForConditionalGeneration",
    "MiniCPMV4_7ForConditionalGeneration",
    "OpenPanguVLForConditionalGeneration",
    "PanguEmbeddedForCausalLM",
    "Qwen3_5ForCausalLM",
    "Qwen3_5ForConditionalGeneration",
}
"""Architectures whose published models are dense."""

every_config = pytest.mark.parametrize("name", NAMES)


def config_of(name: str) -> dict[str, Any]:
    """The config in a folder."""
    config: dict[str, Any] = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))
    return config


def architecture_of(path: Path) -> str:
    """The one architecture that a config names."""
    (architecture,) = json.loads(path.read_text(encoding="utf-8"))["architectures"]
    return str(architecture)


def test_every_config_has_a_source_and_every_source_a_config() -> None:
    """No config came here unseen, and no line outlives its config."""
    assert sorted(SOURCES) == NAMES
    assert len(NAMES) > 70


@every_config
def test_the_source_allows_the_config_to_be_here(name: str) -> None:
    """Of a published config: the place in a public repository and a licence from the list. Of a made one: from what."""
    source = SOURCES[name]
    if source["kind"] == "made":
        assert set(source) == {"kind", "from"}
        assert source["from"]
        assert name == f"made--{config_of(name)['architectures'][0]}"
        return
    assert source["kind"] == "published"
    assert re.fullmatch(r"[\w.-]+--[\w.-]+", name)
    assert not name.startswith("made--")
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", source["repository"])
    assert re.fullmatch(r"[0-9a-f]{40}", source["commit"])
    assert source["path"].endswith(".json")
    assert source["licence"] in LICENCES
    assert source["licence_file"]


@every_config
def test_a_config_is_small_and_names_its_model_type(name: str) -> None:
    """The config class is chosen by the model type; nothing in the file says where it comes from."""
    assert (FOLDER / name / "config.json").stat().st_size <= MAX_BYTES
    assert [path.name for path in (FOLDER / name).iterdir()] == ["config.json"]
    config = config_of(name)
    assert isinstance(config["model_type"], str)
    assert config["model_type"]
    assert not {"kind", "made", "source", "from"} & set(config)


@every_config
def test_a_config_can_be_cut(name: str) -> None:
    """The probe cuts every config first, and its experts stay."""
    config = config_of(name)
    check_config_size(config)
    is_moe = config["architectures"][0] not in DENSE
    assert declares_experts(config) is is_moe
    assert declares_experts(shrink(config).config) is is_moe


def test_each_architecture_has_one_config() -> None:
    """Also beside the configs of `examples/models/`, so that the sweep probes each architecture of these once."""
    architectures = [architecture_of(path) for path in FOLDER.glob("*/config.json")]
    assert len(architectures) == len(set(architectures))
    assert not set(architectures) & {architecture_of(path) for path in EXAMPLES.glob("models/*/config.json")}


def test_the_sweep_finds_every_config(tmp_path: Path) -> None:
    """`--configs examples` reads both folders; a class whose language model the config chooses needs experts in it."""
    listed = []
    for name in NAMES:
        architecture = config_of(name)["architectures"][0]
        moe = "static" if architecture in DENSE else "config"
        fields = {"architecture": architecture, "category": "multimodal", "moe": moe, "error": "", "reason": ""}
        listed.append(fields | {"config": None, "source": ""})
    listing = {"environment": {"vllm": "0.32.0"}, "architectures": listed}
    chosen = candidates(listing, EXAMPLES, tmp_path, text_only=False, match=None)
    assert [Path(candidate.folder or "").name for candidate in chosen] == NAMES


def test_verdicts_on_made_configs_have_a_column_of_their_own() -> None:
    """The page of a release does not mix them with the others."""
    results: list[dict[str, Any]] = [
        {"model": {"name": "/x/architectures/made--NVLM_D"}, "verdict": "uniform"},
        {"model": {"name": "/x/architectures/inclusionAI--Ling-plus"}, "verdict": "uniform"},
        {"model": {"name": "/x/configs/0.32.0/NVLM_D"}, "verdict": "uniform"},
        {"model": {"name": "/x/architectures/made--Ovis2_5"}, "error": {"kind": "model"}},
    ]
    summary = {"verdicts": {"uniform": 3}, "failed": {"model": 1}, "needs_config": 2}
    rows = counts(summary | {"wall_seconds": 1.0, "workers": 1, "median_seconds": 1.0}, results)
    assert "| uniform | 2 | 1 |" in rows
    assert "| failed: model | 0 | 1 |" in rows
    assert "| needs a config | 2 |  |" in rows
