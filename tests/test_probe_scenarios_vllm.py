"""The kinds of pass, and the model with every layer, in real vLLM.

One worker-like process an environment runs the scenarios of each model, then the model with every layer, then some
scenarios again: what the second model changes in vLLM's state must be restored.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MODELS, QWEN, ROOT

from tuner.model.shrink import shrink
from tuner.probe.runner import SETTINGS, WORKER
from tuner.verdicts.identity import SHARED_WORKER

DEEPSEEK = MODELS / "deepseek-ai--DeepSeek-V3"
LIMIT_S = 1200
DEPTHS = {QWEN: 48, DEEPSEEK: 58}
"""Model -> MoE layers of its published config."""

pytestmark = pytest.mark.vllm

SCRIPT = """
import json, sys
from pathlib import Path

sys.path[:0] = sys.argv[1].split(":")
from moe_probe_worker import depth, engine
from moe_probe_worker.passes import Passes, run_all
from moe_probe_worker.recorder import Recorder, registered_layers
from moe_probe_worker.scenarios import scenarios
from moe_probe_worker.stubs import Stubs

folder = Path(sys.argv[2])
engine.start(folder)

def base(job, largest):
    with Stubs() as stubs:
        config, model = engine.construct(job, stubs)
        engine.fill_weights(model)
        engine.finish_weights(model, config, stubs)
        passes = Passes(model, config, Recorder(registered_layers(config)), stubs)
        passes.computed = ()
        planned = scenarios(*passes.inputs(job["special_tokens"]))
        planned = [scenario for scenario in planned if len(scenario.ids) <= largest]
        return {
            "registered": list(passes.recorder.layers),
            "longest": passes.longest(),
            "furthest": max(max(scenario.positions) for scenario in planned),
            "scenarios": run_all(passes, planned),
            "used": stubs.assumptions,
        }

found = {}
for job in json.loads((folder / "jobs.json").read_text()):
    first = base(job, engine.MAX_TOKENS)
    left = {**first, "scenarios": [{"passes": [first["registered"][::-1]]}]}
    found[job["folder"]] = {
        "base": first,
        "whole": depth.observe_whole(job, first),
        "uncut": depth.observe_whole({**job, "deep": None}, first),
        "unsafe": depth.observe_whole(job, left),
        "broken": depth.observe_whole({**job, "deep": {**job["deep"], "architectures": ["NoSuchForCausalLM"]}}, first),
        "again": base(job, 17),
    }
(folder / "found.json").write_text(json.dumps(found))
"""


def job(model: Path) -> dict[str, Any]:
    """The worker's job for a model, as the runner would write it."""
    small = shrink(json.loads((model / "config.json").read_text()))
    return {
        "config": small.config,
        "deep": small.deep,
        "folder": model.name,
        "special_tokens": list(small.special_tokens),
        "model_impl": "auto",
        "trust_remote_code": False,
        "side_files": [],
    }


@pytest.fixture(scope="module", params=["current", "flag-live"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one environment shows of each model."""
    python = ROOT / ".envs" / request.param / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{request.param}.")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "jobs.json").write_text(json.dumps([job(model) for model in DEPTHS]))
    (folder / "drive.py").write_text(SCRIPT)
    run = subprocess.run(
        [python, folder / "drive.py", f"{WORKER.parent}:{SHARED_WORKER.parent}", folder],
        cwd=folder,
        env={**os.environ, **SETTINGS, "VLLM_CACHE_ROOT": str(folder / "cache")},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    answer: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return answer


def orders(entry: dict[str, Any]) -> list[list[str]]:
    """The MoE calls of each pass; every scenario ran."""
    assert entry["scenarios"]
    assert {scenario["status"] for scenario in entry["scenarios"]} == {"ran"}
    return [order for scenario in entry["scenarios"] for order in scenario["passes"]]


every_model = pytest.mark.parametrize("model", DEPTHS, ids=lambda model: model.name)


@every_model
def test_the_base_probe_is_unharmed(found: dict[str, Any], model: Path) -> None:
    """The same model shows the same before and after the one with every layer."""
    before, after = found[model.name]["base"], found[model.name]["again"]
    assert after["registered"] == before["registered"]
    assert after["longest"] == before["longest"]
    assert after["scenarios"] == [entry for entry in before["scenarios"] if entry["tokens"] <= 17] != []


@every_model
def test_further_passes(found: dict[str, Any], model: Path) -> None:
    """Far positions, large and padded batches, an idle rank, and 32 equal passes: each runs every layer in order."""
    base = found[model.name]["base"]
    entries = {entry["name"]: entry for entry in base["scenarios"]}
    assert base["furthest"] == base["longest"] - 1 > 40_000
    assert entries["batch_limit"]["tokens"] >= 2048
    assert {"tokens_255", "tokens_256", "tokens_257", "padded_decode", "padded_prefill"} <= set(entries)
    assert entries["data_parallel_idle"]["tokens"] == 1
    equal = [entries[name] for name in ("repeated_decode", "repeated_prefill")]
    assert [entry["contexts"] for entry in equal] == [16, 16]
    repeated = [order for entry in equal for order in entry["passes"]]
    assert all(order == base["registered"] for order in (*repeated, *orders(base)))
    assert "experts_skipped" in {item["kind"] for item in base["used"]}


@every_model
def test_the_model_with_every_layer_runs(found: dict[str, Any], model: Path) -> None:
    """It registers every MoE layer of the published config, and decode and prefill run them in order."""
    whole = found[model.name]["whole"]
    assert whole["status"] == "ran", whole["detail"]
    assert len(whole["registered"]) == DEPTHS[model] > len(found[model.name]["base"]["registered"])
    assert {"decode_1", "prefill_short"} <= {scenario["name"] for scenario in whole["scenarios"]}
    assert all(order == whole["registered"] for order in orders(whole))


@every_model
def test_a_model_with_every_layer_that_was_not_run_says_why(found: dict[str, Any], model: Path) -> None:
    """Nothing was cut; the cut model left the order already; the whole one cannot be built: three different answers."""
    shown = found[model.name]
    assert shown["uncut"] is None
    assert (shown["unsafe"]["status"], shown["unsafe"]["scenarios"]) == ("not_applicable", [])
    assert shown["unsafe"]["detail"] == "The cut model left the registered order already."
    assert (shown["broken"]["status"], shown["broken"]["registered"]) == ("failed", [])
    assert "Error" in shown["broken"]["detail"]
