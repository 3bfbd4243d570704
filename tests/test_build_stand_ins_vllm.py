"""What stands in for a tokenizer, a processor, an encoder or a kernel while vLLM 0.32.0 builds a model on a CPU.

One process builds all models, from published configs and from those of `examples/architectures`.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MODELS, QWEN, ROOT
from real_environment import python_of

from rules.assumptions import COVERED, IN_PROOF
from tuner.engines.question import WORKER as LAUNCH_WORKER
from tuner.model.shrink import shrink
from tuner.probe.runner import SETTINGS, WORKER
from tuner.verdicts.identity import SHARED_WORKER

MADE = ROOT / "examples" / "architectures"
NEMOTRON = MODELS / "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"
CASES = {
    "InternVLChatModel": (MADE / "made--InternVLChatModel", {"processor_not_made"}),
    "Ovis2_5": (MADE / "made--Ovis2_5", {"processor_not_made"}),
    "DeepseekOCRForCausalLM": (MADE / "made--DeepseekOCRForCausalLM", {"tokenizer_made"}),
    "UnlimitedOCRForCausalLM": (MADE / "made--UnlimitedOCRForCausalLM", {"tokenizer_made", "encoder_left_out"}),
    "NemotronHForCausalLM": (NEMOTRON, {"experts_stubbed"}),
    "MiniMaxM3SparseForConditionalGeneration": (
        MADE / "made--MiniMaxM3SparseForConditionalGeneration",
        {"experts_stubbed"},
    ),
    "KimiLinearForCausalLM": (MADE / "made--KimiLinearForCausalLM", {"kernel_left_out"}),
    "Qwen3MoeForCausalLM": (QWEN, set()),
}
"""Model -> folder of its config, and the kinds of stand-ins that it needs."""
MOST_BYTES = 4 * 2**30
LIMIT_S = 600

pytestmark = pytest.mark.vllm

SCRIPT = """
import json, sys
from pathlib import Path

sys.path[:0] = sys.argv[1].split(":")
from moe_probe_worker import engine
from moe_probe_worker.recorder import registered_layers
from moe_probe_worker.stubs import Stubs
from shared_worker.build_stand_ins import may_hold_moe
from shared_worker.plain_config import ensure_config_class

folder = Path(sys.argv[2])
engine.start(folder)
from vllm.config.model import ModelConfig
from vllm.model_executor.model_loader import utils

def replaced():
    return [ModelConfig._supports_multimodal_inputs, utils.initialize_model]

def build(job):
    before = replaced()
    ensure_config_class(job["config"])
    with Stubs() as stubs:
        config, model = engine.construct(job, stubs)
        engine.fill_weights(model)
        engine.finish_weights(model, config, stubs)
        return {
            "stand_ins": [each["kind"] for each in stubs.assumptions if each["kind"] != "attention_stubbed"],
            "details": [each["detail"] for each in stubs.assumptions],
            "bytes": sum(weight.numel() * weight.element_size() for weight in model.parameters()),
            "layers": len(registered_layers(config)),
            "image": getattr(model, "image_token_id", None),
            "restored": before == replaced(),
        }

answers = {}
for name, job in json.loads((folder / "jobs.json").read_text()).items():
    answers[name] = build(job)
from vllm.model_executor.models import deepencoder, qwen3_moe, qwen3_vl_moe

answers["may hold MoE layers"] = {
    kind.__name__: may_hold_moe(kind)
    for kind in (
        qwen3_moe.Qwen3MoeDecoderLayer,
        qwen3_vl_moe.Qwen3VLMoeForConditionalGeneration,
        deepencoder.DeepCLIPVisionTransformer,
        deepencoder.ImageEncoderViT,
    )
}
(folder / "answers.json").write_text(json.dumps(answers))
"""

TOKENIZER = """
import sys
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

words = models.WordLevel({"<unk>": 0, "<image>": 3}, unk_token="<unk>")
made = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), unk_token="<unk>")
made.save_pretrained(sys.argv[1])
"""


def job(config: dict[str, Any], folder: Path | str = "") -> dict[str, Any]:
    """The worker's job for a config."""
    how = {"model_impl": "auto", "trust_remote_code": False}
    return {"config": shrink(config).config, "folder": str(folder), "side_files": [], **how}


def config_of(folder: Path) -> dict[str, Any]:
    """The config.json of a folder."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return config


def hybrid_of_550_billion() -> dict[str, Any]:
    """NemotronH with sizes like those of its largest model, and its layers named one by one without a count."""
    kinds = ["linear_attention", "moe"] * 48 + ["full_attention", "mlp"] * 6
    sizes = {"hidden_size": 8192, "mamba_num_heads": 256, "moe_intermediate_size": 5120, "moe_latent_size": 2048}
    config = config_of(NEMOTRON) | sizes | {"layers_block_type": kinds, "n_routed_experts": 512}
    return {key: value for key, value in config.items() if key not in {"num_hidden_layers", "hybrid_override_pattern"}}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was built from each config, and with which stand-ins."""
    python, folder = python_of("current"), tmp_path_factory.mktemp("built")
    ocr = config_of(MADE / "made--DeepseekOCRForCausalLM")
    own = folder / "own tokenizer"
    own.mkdir()
    (own / "config.json").write_text(json.dumps(ocr))
    subprocess.run([python, "-c", TOKENIZER, own], check=True, cwd=folder, timeout=LIMIT_S)
    jobs = {name: job(config_of(home), home) for name, (home, _) in CASES.items()}
    jobs |= {"own tokenizer": job(ocr, own), "hybrid of 550 billion": job(hybrid_of_550_billion())}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    (folder / "drive.py").write_text(SCRIPT)
    run = subprocess.run(
        [python, folder / "drive.py", f"{WORKER.parent}:{SHARED_WORKER.parent}:{LAUNCH_WORKER.parent}", folder],
        cwd=folder,
        env={**os.environ, **SETTINGS},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    answers: dict[str, Any] = json.loads((folder / "answers.json").read_text())
    return answers


@pytest.mark.parametrize("name", CASES)
def test_a_model_is_built_with_the_stand_ins_that_it_needs(built: dict[str, Any], name: str) -> None:
    """Its MoE layers are registered, each stand-in is noted, and vLLM's own functions are back in place."""
    answer, (_, kinds) = built[name], CASES[name]
    assert answer["layers"] > 1
    assert set(answer["stand_ins"]) == kinds
    assert answer["restored"]


def test_each_stand_in_is_covered_by_a_rule() -> None:
    """In a probe of the order and in the proof of a launch: else nothing could be judged with it."""
    kinds = set().union(*(kinds for _, kinds in CASES.values()))
    assert kinds <= set(COVERED)
    assert kinds <= set(IN_PROOF)


def test_only_an_encoder_without_moe_layers_is_left_out(built: dict[str, Any]) -> None:
    """A class may hold MoE layers if it names them, by whatever other class; encoders of images do not."""
    assert built["may hold MoE layers"] == {
        "Qwen3MoeDecoderLayer": True,
        "Qwen3VLMoeForConditionalGeneration": True,
        "DeepCLIPVisionTransformer": False,
        "ImageEncoderViT": False,
    }


def test_notes_name_no_folder_of_this_machine(built: dict[str, Any]) -> None:
    """A report is the same wherever it is made."""
    details = " ".join(detail for name in CASES for detail in built[name]["details"])
    assert "/tmp" not in details  # noqa: S108  no file is opened there
    assert str(ROOT) not in details


def test_the_tokenizer_of_the_model_s_folder_is_used(built: dict[str, Any]) -> None:
    """A model with a tokenizer of its own gets that one, and nothing stands in for it."""
    assert built["own tokenizer"]["image"] == 3
    assert "tokenizer_made" not in built["own tokenizer"]["stand_ins"]


@pytest.mark.parametrize("name", [*CASES, "hybrid of 550 billion"])
def test_no_cut_model_takes_more_than_four_gibibytes(built: dict[str, Any], name: str) -> None:
    """Whatever the model's size, its weights fit beside those of others."""
    assert 0 < built[name]["bytes"] <= MOST_BYTES
