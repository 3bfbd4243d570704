"""`tuner probe --all` in a real vLLM: its registry, configurations that nobody wrote, and models of a plugin."""

from pathlib import Path
from typing import Any

import pytest
from fake_environment import QWEN, ROOT, Answer, model_like, tuner_process

pytestmark = pytest.mark.vllm

KERNEL = "hc_pre_fused_cpu"
"""Of DeepSeek V4; vLLM 0.32.0 has it in its library for processors with `avx512_bf16` alone (platforms/cpu.py)."""


@pytest.fixture
def python() -> Path:
    """The interpreter of `.envs/current`; skip where it is not installed."""
    found = ROOT / ".envs" / "current" / "bin" / "python"
    if not found.exists():
        pytest.skip("No serving environment .envs/current; `make setup` creates it.")
    return found


def swept(python: Path, home: Path, *options: object, code: int) -> Answer:
    """Probe a part of the registry, with the zoo as a plugin."""
    store = home / "store" / "verdicts.sqlite"
    variables = {"PYTHONPATH": str(ROOT / "tests" / "zoo"), "HOME": str(home)}
    limit = ("--time-limit", 400)
    args = ("probe", "--python", python, "--store", store, "--json", *limit, *options)
    return tuner_process(*args, cwd=home, env=variables, code=code)


def verdicts(document: Any) -> dict[str, str]:
    """What came of each architecture."""
    return {
        result["candidate"]["architecture"]: result.get("verdict") or result["error"]["message"]
        for result in document["results"]
    }


def test_a_registered_architecture_is_probed_once(python: Path, tmp_path: Path) -> None:
    """Its configuration is made up from its defaults, the verdict is that of the real model, and it is remembered."""
    document = swept(python, tmp_path, "--match", "MixtralForCausalLM", code=0).document
    assert verdicts(document) == {"MixtralForCausalLM": "uniform"}
    (found,) = document["results"]
    assert found["candidate"]["source"]
    assert Path(found["model"]["name"]).is_relative_to(tmp_path / "store")
    again = swept(python, tmp_path, "--match", "MixtralForCausalLM", code=0).document
    assert again["summary"]["stored_before"] == 1
    assert again["summary"]["median_seconds"] is None


@pytest.mark.thorough
def test_what_only_the_probe_would_trip_over_does_not_cost_a_scenario(python: Path, tmp_path: Path) -> None:
    """LongCat adds its zero experts after those that the probe leaves out; DeepSeek V4 refuses embeddings alone.

    Their plain launches are not proved: Dynamo does not trace the one, and the made-up config of the other lacks a
    field. Where the processor has no kernel for a part of DeepSeek V4, what stands in for it does not fit.
    """
    has_kernel = "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    document = swept(python, tmp_path, "--match", "[DL]*[Vs][4h]ForCausalLM", code=3).document
    assert set(verdicts(document).values()) == {"inconclusive"}
    results = {result["candidate"]["architecture"]: result for result in document["results"]}
    for name, runs in {"LongcatFlashForCausalLM": True, "DeepseekV4ForCausalLM": has_kernel}.items():
        statuses = {scenario["status"] for scenario in results[name]["evidence"]["scenarios"]}
        assert (statuses <= {"ran", "not_applicable"}) is runs
        assert any(reason["condition"] == 0 for reason in results[name]["reasons"])
    replaced = [one["detail"] for one in results["DeepseekV4ForCausalLM"]["evidence"]["assumptions"]]
    assert any(KERNEL in detail for detail in replaced) is not has_kernel


@pytest.mark.thorough
def test_architectures_of_a_plugin_with_configurations_of_the_users(python: Path, tmp_path: Path) -> None:
    """Two workers; the user's configurations go first, and the special token of one of them is tried.

    Nothing names the other model's token, and a plugin's code is not proved.
    """
    names = ("HiddenTokenSwitchForCausalLM", "TokenSwitchForCausalLM")
    for name in names:
        model_like(QWEN, tmp_path / "mine" / name, architectures=[name], skip_token_id=99)
    options = ("--match", "*TokenSwitchForCausalLM", "--configs", tmp_path / "mine", "--workers", 2)
    document = swept(python, tmp_path, *options, code=3).document
    assert verdicts(document) == dict(zip(names, ("inconclusive", "conditional"), strict=True))
    assert {result["candidate"]["source"] for result in document["results"]} == {"folder"}
    assert document["summary"]["workers"] == 2
