"""The committed catalogue: every line can be imported, and decides here what was probed there."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, QWEN, ROOT, tuner

from rules.launch_key import launch_key
from tuner.environment.environment import read_environment
from tuner.model.model import identify
from tuner.verdicts.identity import Subject, base_factors

FILES = sorted((ROOT / "docs" / "catalogue").glob("*.jsonl"))
ENVIRONMENTS = {"current": "vllm-0.32.0-cpu.jsonl", "flag-live": "vllm-0.19.1-cpu.jsonl"}
FEWEST = 40
"""Verdicts of a release; 50 to 67 were reached."""


def lines(file: Path) -> list[dict[str, Any]]:
    """The bundle, line by line."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_there_is_a_bundle_for_each_release() -> None:
    """Two of the CPU and one of a GPU, as the page beside them says."""
    assert [file.name for file in FILES] == [
        "vllm-0.19.1-cpu.jsonl",
        "vllm-0.26.0-cuda.jsonl",
        "vllm-0.32.0-cpu.jsonl",
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_line_can_be_imported(file: Path, tmp_path: Path) -> None:
    """Judged anew each verdict is what the file says; all are shown as imported, with the command behind them."""
    store = ("--store", tmp_path / "verdicts.sqlite")
    told = {line["digest"]: line["entry"]["verdict"]["word"] for line in lines(file)}
    assert len(told) >= FEWEST
    assert tuner("verdicts", "import", file, *store, "--json", code=0).document["imported"]["new"] == len(told)
    listed = tuner("verdicts", "list", *store, code=0).out.splitlines()[1:]
    assert len(listed) == len(told)
    assert all(line.endswith("imported") for line in listed)
    for digest, word in told.items():
        entry = tuner("verdicts", "show", digest, "--json", *store, code=0).document
        assert entry["verdict"]["word"] == word
        assert "--all" in entry["imported"]["command"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_uniform_of_the_catalogue_was_earned(file: Path) -> None:
    """Its plain launch is proved, and one probe made the whole file; ERNIE's experts depend on the input everywhere."""
    entries = [line["entry"] for line in lines(file)]
    plain = launch_key(("MODEL",), {})
    uniform = [entry for entry in entries if entry["verdict"]["word"] == "uniform"]
    assert len(uniform) > 30
    for entry in uniform:
        assert entry["verdict"]["proofs"][plain]["word"] == "proved"
    assert len({entry["key"]["worker"] for entry in entries}) == 1
    words = {entry["key"]["architecture"]: entry["verdict"]["word"] for entry in entries}
    assert words["Ernie4_5_VLMoeForConditionalGeneration"] == "conditional"


@pytest.mark.vllm
@pytest.mark.parametrize(("name", "file"), ENVIRONMENTS.items())
def test_the_real_environment_hits(name: str, file: str, tmp_path: Path) -> None:
    """The versions, the platform and vLLM's files that `make` installs are those of the catalogue."""
    python = ROOT / ".envs" / name / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{name}.")
    bundle = ROOT / "docs" / "catalogue" / file
    worker = base_factors(Subject(identify(str(QWEN)), read_environment(str(python))))["worker"]
    if lines(bundle)[0]["entry"]["key"]["worker"] != worker:
        pytest.skip("The catalogue was made with another probe than this one; `make catalogue` makes it anew.")
    store = ("--store", tmp_path / "verdicts.sqlite")
    tuner("verdicts", "import", bundle, *store, code=0)
    for model, word in ((QWEN, "uniform"), (ERNIE, "conditional")):
        answer = tuner("verdict", model, "--python", python, *store, code=0).out
        assert f"verdict       {word}" in answer
        assert f"imported from {file}" in answer
