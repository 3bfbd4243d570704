"""Further kinds of pass, and the model under other serving settings, in real vLLM.

One worker-like process an environment runs the base scenarios of each model, then its variants, then the base
again: what a variant changes in vLLM's state must be restored.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MODELS, QWEN, ROOT, model_like

from tuner.probe.runner import SETTINGS, WORKER
from tuner.probe.shrink import declares_experts, shrink

DEEPSEEK = MODELS / "deepseek-ai--DeepSeek-V3"
GEMMA = MODELS / "google--gemma-4-26B-A4B"
LIMIT_S = 1200
STAGES = ("pipeline_first", "pipeline_middle", "pipeline_last")
OTHERS = (
    "speculative_draft",
    "expert_parallel",
    "eplb",
    "lora",
    "quantized",
    "transformers",
    "kv_sharing_fast_prefill",
)
ORDER = [*STAGES, *OTHERS]

pytestmark = pytest.mark.vllm

SCRIPT = """
import json, sys
from pathlib import Path

sys.path.insert(0, sys.argv[1])
from moe_probe_worker import engine, variants
from moe_probe_worker.scenarios import scenarios
from moe_probe_worker.stubs import Stubs

FAST = "kv_sharing_fast_prefill"
folder = Path(sys.argv[2])
facts = engine.start(folder)

def base(job, largest):
    with Stubs() as stubs:
        built = variants.Built(job, {}, stubs)
        passes = built.passes()
        planned = [one for one in scenarios(*passes.inputs(job["special_tokens"])) if len(one.ids) <= largest]
        ran = [passes.run(scenario) for scenario in planned]
        return {
            "registered": list(passes.recorder.layers),
            "longest": passes.longest(),
            "furthest": max(max(scenario.positions) for scenario in planned),
            "scenarios": ran,
            "used": stubs.used,
        }

found = {}
for job in json.loads((folder / "jobs.json").read_text()):
    if job["folder"] == "sharing":
        found["sharing"] = {"variants": [variants.observed(FAST, variants.VARIANTS[FAST], job)]}
        continue
    first = base(job, engine.MAX_TOKENS)
    seen = variants.observe_variants(job)
    found[job["folder"]] = {"base": first, "variants": seen, "again": base(job, 17)}
(folder / "found.json").write_text(json.dumps(found))
"""


def job(model: Path) -> dict[str, Any]:
    """The worker's job for a model, as the runner would write it."""
    config = json.loads((model / "config.json").read_text())
    small = shrink(config)
    return {
        "config": small.config,
        "folder": model.name,
        "special_tokens": list(small.special_tokens),
        "declares_experts": declares_experts(config),
        "model_impl": "auto",
        "trust_remote_code": False,
        "quantized": small.quantized,
    }


@pytest.fixture(scope="module", params=["current", "flag-live"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one environment shows of each model."""
    python = ROOT / ".envs" / request.param / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{request.param}.")
    folder = tmp_path_factory.mktemp(request.param)
    text = json.loads((GEMMA / "config.json").read_text())["text_config"]
    sharing = model_like(GEMMA, folder / "sharing", text_config={**text, "num_kv_shared_layers": 1})
    (folder / "jobs.json").write_text(json.dumps([job(model) for model in (QWEN, DEEPSEEK, sharing)]))
    (folder / "drive.py").write_text(SCRIPT)
    run = subprocess.run(
        [python, folder / "drive.py", WORKER.parent, folder],
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


def variant(found: dict[str, Any], model: Path, name: str) -> dict[str, Any]:
    """The entry of a variant."""
    (entry,) = [entry for entry in found[model.name]["variants"] if entry["name"] == name]
    return dict(entry)


def orders(entry: dict[str, Any], *, drafts: bool = False) -> list[list[str]]:
    """The MoE calls of each pass, of the draft or of the model itself."""
    chosen = [one for one in entry["scenarios"] if one["name"].startswith("draft_step") == drafts]
    assert chosen
    assert {one["status"] for one in chosen} == {"ran"}, [one for one in chosen if one["status"] != "ran"]
    return [order for one in chosen for order in one["passes"]]


@pytest.mark.parametrize("model", [QWEN, DEEPSEEK], ids=lambda one: one.name)
def test_every_variant_is_accounted_for(found: dict[str, Any], model: Path) -> None:
    """Each setting ran, failed or does not apply, and what did not run says why."""
    entries = found[model.name]["variants"]
    assert [entry["name"] for entry in entries] == ORDER
    for entry in entries:
        assert entry["status"] in {"ran", "failed", "not_applicable"}
        assert entry["status"] == "ran" or entry["detail"]
        assert bool(entry["scenarios"]) == (entry["status"] == "ran")


@pytest.mark.parametrize("model", [QWEN, DEEPSEEK], ids=lambda one: one.name)
def test_the_base_probe_is_unharmed(found: dict[str, Any], model: Path) -> None:
    """The same model shows the same before and after its variants."""
    before, after = found[model.name]["base"], found[model.name]["again"]
    assert after["registered"] == before["registered"]
    assert after["longest"] == before["longest"]
    assert after["scenarios"] == [entry for entry in before["scenarios"] if entry["tokens"] <= 17] != []


@pytest.mark.parametrize("model", [QWEN, DEEPSEEK], ids=lambda one: one.name)
def test_further_passes(found: dict[str, Any], model: Path) -> None:
    """Far positions, large and padded batches, an idle rank, and 32 equal passes: each runs every layer in order."""
    base = found[model.name]["base"]
    entries = {entry["name"]: entry for entry in base["scenarios"]}
    assert {entry["status"] for entry in base["scenarios"]} == {"ran"}
    assert base["furthest"] == base["longest"] - 1 > 40_000
    assert entries["batch_limit"]["tokens"] >= 2048
    assert {"tokens_255", "tokens_256", "tokens_257", "padded_decode", "padded_prefill"} <= set(entries)
    assert entries["data_parallel_idle"]["tokens"] == 1
    equal = [entries[name] for name in ("repeated_decode", "repeated_prefill")]
    assert [entry["contexts"] for entry in equal] == [16, 16]
    repeated = [order for entry in equal for order in entry["passes"]]
    assert all(order == base["registered"] for order in (*repeated, *orders(base)))
    assert "experts_skipped" in {item["kind"] for item in base["used"]}


@pytest.mark.parametrize("model", [QWEN, DEEPSEEK], ids=lambda one: one.name)
def test_stages_register_disjoint_parts(found: dict[str, Any], model: Path) -> None:
    """Together they are the model; each runs its own layers in its own order, and nothing else."""
    stages = [variant(found, model, name) for name in STAGES]
    assert [stage["status"] for stage in stages] == ["ran"] * 3
    whole = found[model.name]["base"]["registered"]
    assert [layer for stage in stages for layer in stage["registered"]] == whole
    assert max(len(stage["registered"]) for stage in stages) < len(whole)
    for stage in stages:
        assert all(order == stage["registered"] for order in orders(stage))


def test_a_draft_shares_the_list_and_is_no_prefix_of_it(found: dict[str, Any]) -> None:
    """The target's passes begin the list; a draft pass begins with the draft's own layer, which stands at its end."""
    entry = variant(found, DEEPSEEK, "speculative_draft")
    assert entry["status"] == "ran", entry["detail"]
    target = found[DEEPSEEK.name]["base"]["registered"]
    assert entry["registered"][: len(target)] == target
    drafted = entry["registered"][len(target) :]
    assert len(drafted) == 1
    assert all(order == target for order in orders(entry))
    steps = [one["name"] for one in entry["scenarios"] if one["name"].startswith("draft_step")]
    assert steps == ["draft_step_0", "draft_step_1"]
    assert orders(entry, drafts=True) == [drafted, drafted]


def test_a_model_without_draft_says_so(found: dict[str, Any]) -> None:
    """Qwen3-MoE comes without draft layers."""
    entry = variant(found, QWEN, "speculative_draft")
    assert (entry["status"], entry["registered"]) == ("not_applicable", [])
    assert "Qwen3MoeForCausalLM" in entry["detail"]


def test_calls_behind_lora_are_seen(found: dict[str, Any]) -> None:
    """The adapter of experts calls the layer it wraps by another way than its hooks."""
    entry = variant(found, QWEN, "lora")
    if "'NoneType' object is not callable" in entry["detail"]:
        pytest.skip("This vLLM has no LoRA kernels for experts on a CPU; a GPU would run them.")
    assert entry["status"] == "ran", entry["detail"]
    assert entry["registered"] == found[QWEN.name]["base"]["registered"]
    assert all(order == entry["registered"] for order in orders(entry))


@pytest.mark.parametrize("model", [QWEN, DEEPSEEK], ids=lambda one: one.name)
def test_one_rank_of_two_with_spread_experts(found: dict[str, Any], model: Path) -> None:
    """It runs every layer; balancing them is refused on a CPU, in vLLM's own words."""
    entry = variant(found, model, "expert_parallel")
    assert entry["status"] == "ran", entry["detail"]
    assert all(order == entry["registered"] != [] for order in orders(entry))
    balanced = variant(found, model, "eplb")
    assert balanced["status"] == "failed"
    assert "CUDA" in balanced["detail"]


@pytest.mark.parametrize("model", [QWEN, DEEPSEEK], ids=lambda one: one.name)
def test_the_transformers_implementation(found: dict[str, Any], model: Path) -> None:
    """Its experts are vLLM's layer too, and are recorded."""
    entry = variant(found, model, "transformers")
    assert entry["status"] == "ran", entry["detail"]
    assert "TransformersMoE" in entry["detail"]
    assert len(entry["registered"]) == len(found[model.name]["base"]["registered"])
    assert all(order == entry["registered"] for order in orders(entry))


def test_fast_prefill_needs_a_shared_cache(found: dict[str, Any]) -> None:
    """Qwen3 shares none; a Gemma whose last layer does runs every layer, that one on fewer tokens."""
    assert variant(found, QWEN, "kv_sharing_fast_prefill")["status"] == "not_applicable"
    entry = variant(found, Path("sharing"), "kv_sharing_fast_prefill")
    if "AmbiguousGlobalPerLayerAttributeError" in entry["detail"]:
        pytest.skip("This vLLM cannot read a Gemma 4 configuration with the transformers beside it.")
    assert entry["status"] == "ran", entry["detail"]
    assert len(entry["registered"]) >= 4
    assert all(order == entry["registered"] for order in orders(entry))
