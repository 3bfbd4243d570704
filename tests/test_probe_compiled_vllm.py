"""Eager against compiled in real vLLM: models of `compiled_zoo`, whose compiled order is known, and a real one.

One worker-like process an environment compares all models one after the other, so that each also shows that the one
before left nothing behind.
"""

import json
import os
import subprocess
from typing import Any

import pytest
from fake_environment import QWEN, ROOT
from msgspec import convert

from rules.report import Compiled
from tuner.model.shrink import shrink
from tuner.probe.runner import SETTINGS, WORKER
from tuner.verdicts.identity import SHARED_WORKER

LIMIT_S = 1200
SMALL = {
    "hidden_size": 256,
    "moe_intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 1024,
}
TRUTH = {
    "Plain": "stable",
    "ConstantBranch": "stable",
    "DecodeSkip": "frozen",
    "LargeBatchSkip": "frozen",
    "RareBatchSkip": "frozen",
    "Alternating": "frozen",
    "FirstPassSkip": "frozen",
    "TokenSkip": "failed",
    "NotDecorated": "not_applicable",
    "NeverCalled": "not_applicable",
}
"""Model of the zoo -> what compiling does to its order."""
PIECEWISE = ("Plain", "DecodeSkip")
"""Models compared once more through vLLM's own backend, which a GPU uses: it splits the graph at attention."""

pytestmark = pytest.mark.vllm

SCRIPT = """
import json, os, sys
from pathlib import Path

sys.path[:0] = sys.argv[1].split(":")
import torch
from moe_probe_worker import compiled, engine
from moe_probe_worker.passes import Passes
from moe_probe_worker.recorder import Recorder, registered_layers
from moe_probe_worker.scenarios import scenarios
from moe_probe_worker.stubs import Stubs

folder = Path(sys.argv[2])
engine.start(folder)
from torch._dynamo.utils import counters
from vllm.compilation.counter import compilation_counter
from vllm.config import CompilationMode

plainly = engine.configure

def piecewise(*args, **settings):
    config = plainly(*args, **settings)
    if "compilation_config" in settings:
        config.compilation_config.mode = CompilationMode.VLLM_COMPILE
        config.compilation_config.splitting_ops, config.compilation_config.compile_sizes = None, []
        config.compilation_config.set_splitting_ops_for_v1("naive", 1)
    return config

def state():
    hooks = torch._dynamo.convert_frame._bytecode_hooks
    backends = torch._dynamo.eval_frame.cached_backends
    files = sorted(name for name in os.listdir(folder) if not name.startswith("model-"))
    return [len(hooks), len(backends), vars(compilation_counter).copy(), dict(os.environ), files]

def probe(job):
    with Stubs() as stubs:
        config, model = engine.construct(job, stubs)
        engine.fill_weights(model)
        engine.finish_weights(model, config, stubs)
        passes = Passes(model, config, Recorder(registered_layers(config)), stubs)
        passes.computed = ()
        planned = [one for one in scenarios(*passes.inputs([])) if len(one.ids) <= 200 or one.name == "batch_limit"]
        before = {one.name: passes.run(one) for one in planned}
        traced, kept = counters["stats"]["unique_graphs"], state()
        entry = compiled.observe_compiled(job, passes, planned, before)
        return {
            "compile": entry,
            "base": before,
            "again": {one.name: passes.run(one) for one in planned},
            "traced": counters["stats"]["unique_graphs"] - traced,
            "clean": [one for one in zip(kept, state()) if one[0] != one[1]][:2],
        }

found = {}
for name, job in json.loads((folder / "jobs.json").read_text()).items():
    engine.configure = piecewise if name.startswith("piecewise") else plainly
    found[name] = probe(job)
(folder / "found.json").write_text(json.dumps(found, default=str))
"""


def job(**changes: Any) -> dict[str, Any]:
    """The worker's job for a model like Qwen3."""
    small = shrink({**json.loads((QWEN / "config.json").read_text()), **changes})
    how = {"model_impl": "auto", "trust_remote_code": False}
    return {"config": small.config, "folder": "", "side_files": [], **how}


def jobs() -> dict[str, Any]:
    """Every model; a plain one comes again last, after those that froze or failed."""
    zoo = {name: job(architectures=[f"{name}ForCausalLM"], **SMALL) for name in TRUTH}
    split = {f"piecewise {name}": zoo[name] for name in PIECEWISE}
    return {**zoo, **split, "Qwen3": job(**SMALL), "Plain again": zoo["Plain"]}


@pytest.fixture(scope="module", params=["current", "flag-live"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one environment shows of each model."""
    python = ROOT / ".envs" / request.param / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{request.param}.")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "jobs.json").write_text(json.dumps(jobs()))
    (folder / "drive.py").write_text(SCRIPT)
    plugin = {"PYTHONPATH": str(ROOT / "tests" / "compiled_zoo"), "VLLM_CACHE_ROOT": str(folder / "cache")}
    run = subprocess.run(
        [python, folder / "drive.py", f"{WORKER.parent}:{SHARED_WORKER.parent}", folder],
        cwd=folder,
        env={**os.environ, **SETTINGS, **plugin},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    answer: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return answer


def word(entry: dict[str, Any]) -> str:
    """What the entry shows, once the report accepts it."""
    compiled = convert(entry, Compiled)
    if compiled.status != "ran":
        return compiled.status
    assert compiled.scenarios
    return "stable" if all(scenario.eager == scenario.compiled for scenario in compiled.scenarios) else "frozen"


@pytest.mark.parametrize("model", TRUTH)
def test_compiling_does_what_is_known(found: dict[str, Any], model: str) -> None:
    """A branch that is decided while tracing is frozen, a constant one is not; what did not run is not stable."""
    assert word(found[model]["compile"]) == TRUTH[model], found[model]["compile"]


@pytest.mark.parametrize("model", ["Qwen3", "Plain again"])
def test_real_classes_are_stable(found: dict[str, Any], model: str) -> None:
    """Qwen3-MoE of vLLM runs the same layers compiled, and so does a plain model after all others."""
    entry = found[model]["compile"]
    assert word(entry) == "stable", entry
    names = {scenario["name"] for scenario in entry["scenarios"]}
    assert {"decode_1", "prefill_short", "mixed_batch", "repeated_decode"} <= names, names
    assert all(order for scenario in entry["scenarios"] for order in scenario["compiled"])


def test_a_frozen_branch_shows_where(found: dict[str, Any]) -> None:
    """Eager leaves the layer out of a decode step, compiled it does not; a prefill agrees."""
    scenarios = {scenario["name"]: scenario for scenario in found["DecodeSkip"]["compile"]["scenarios"]}
    decode, prefill = scenarios["decode_1"], scenarios["prefill_short"]
    (eager,), (compiled,) = decode["eager"], decode["compiled"]
    assert [name for name in compiled if name not in eager] == [compiled[1]]
    assert prefill["eager"] == prefill["compiled"] == [compiled]


@pytest.mark.parametrize("model", PIECEWISE)
def test_the_backend_of_a_gpu_shows_the_same(found: dict[str, Any], model: str) -> None:
    """The mode and backend of a launch on a GPU, which split the graph, give the same orders."""
    entry = found[f"piecewise {model}"]["compile"]
    assert "VLLM_COMPILE" in entry["detail"]
    assert entry["scenarios"] == found[model]["compile"]["scenarios"]


@pytest.mark.parametrize(("model", "said"), [("TokenSkip", "first call"), ("NotDecorated", "does not compile")])
def test_what_did_not_run_says_why(found: dict[str, Any], model: str, said: str) -> None:
    """A model that vLLM cannot trace fails in vLLM's words; one that it does not compile is not applicable."""
    entry = found[model]["compile"]
    assert entry["scenarios"] == []
    assert said in entry["detail"]


@pytest.mark.parametrize("model", ["Plain", "DecodeSkip", "Alternating", "FirstPassSkip", "Qwen3"])
def test_the_model_is_traced_once(found: dict[str, Any], model: str) -> None:
    """Batches of many sizes ran one trace: no guard was left that could have made another."""
    assert found[model]["traced"] == 1


@pytest.mark.parametrize("model", list(jobs()))
def test_nothing_is_left_behind(found: dict[str, Any], model: str) -> None:
    """Hooks, backends, counters, variables and files are as before, and the base model runs as before."""
    shown = found[model]
    assert shown["clean"] == []
    if model not in {"Alternating", "FirstPassSkip"}:  # these change from pass to pass
        assert shown["again"] == shown["base"]
