"""What the probe says of plugins that fail in real vLLM, and of models with files beside config.json."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import QWEN, ROOT, Answer, model_like, tuner_process

from cache.verdicts.store import VerdictStore

pytestmark = pytest.mark.vllm
POOLING = [
    {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def plugin(folder: Path, name: str, source: str) -> Path:
    """A general plugin in a folder for PYTHONPATH."""
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[vllm.general_plugins]\n{name} = {name}:register\n")
    (folder / f"{name}.py").write_text(source)
    return folder


def probed(folder: Path, *models: Path, path: Path | None = None) -> Answer:
    """Probe in 0.19.1; skip where it is not installed."""
    python = ROOT / ".envs" / "flag-live" / "bin" / "python"
    if not python.exists():
        pytest.skip("No serving environment .envs/flag-live; `make setup-flag-live` creates it.")
    options = ("--python", python, "--store", folder / "store.sqlite", "--json")
    env = {"HOME": str(folder)} | ({"PYTHONPATH": str(path)} if path else {})
    return tuner_process("probe", *options, *models, cwd=folder, env=env)


@pytest.mark.parametrize(
    ("source", "kind", "said", "line"),
    [
        ("\nfrom vllm.no_such import Name\n", "plugin", "ModuleNotFoundError: No module named 'vllm.no_such'", 2),
        ("def register():\n    raise ValueError('other release')\n", "environment", "ValueError: other release", 2),
    ],
    ids=["import", "register"],
)
def test_a_plugin_that_fails_is_named_with_its_own_error(
    tmp_path: Path, source: str, kind: str, said: str, line: int
) -> None:
    """What vLLM logs and swallows, and what ends it: each with the file and line in the plugin."""
    path = plugin(tmp_path / "plugins", "failing", source)
    model = model_like(QWEN, tmp_path / "model", architectures=["PluginForCausalLM"])
    answer = probed(tmp_path, model, path=path)
    error: dict[str, Any] = answer.document["error"]
    assert (answer.code, error["kind"]) == (1, kind)
    assert "plugin failing" in error["message"]
    assert said in error["message"]
    assert f"{path / 'failing.py'}:{line}" in error["message"] + error["hint"]


def test_the_folder_is_read_as_vllm_reads_it(tmp_path: Path) -> None:
    """With modules.json vLLM wraps the class, and that is what was built; the other file makes it inconclusive."""
    embedding, joint = (model_like(QWEN, tmp_path / name) for name in ("embedding", "joint"))
    (embedding / "modules.json").write_text(json.dumps(POOLING))
    (embedding / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "NVFP4"}}))
    (joint / "joint_head_config.json").write_text("{}")
    results = probed(tmp_path, embedding, joint).document["results"]
    assert [result.get("error") for result in results] == [None, None]
    entries = VerdictStore(tmp_path / "store.sqlite").of_architecture("Qwen3MoeForCausalLM")
    classes = {entry.report["model_class"].rpartition(".")[2] for entry in entries}
    assert classes == {"ModelForEmbedding", "Qwen3MoeForCausalLM"}
    assert results[1]["verdict"] == "inconclusive"
    assert any(reason["fields"].get("file") == "joint_head_config.json" for reason in results[1]["reasons"])
