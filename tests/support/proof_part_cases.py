"""Runs inside a serving environment: every part of the proof on planted cases, in one process.

Usage: `python proof_part_cases.py FOLDER`, an empty folder. Prints one JSON object: group -> case -> answer.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tuner" / "processes" / "worker"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tuner" / "engines" / "worker"))
os.environ.update(VLLM_USE_AOT_COMPILE="0", VLLM_DISABLE_COMPILE_CACHE="1", HF_HUB_OFFLINE="1")
os.environ["VLLM_CACHE_ROOT"] = os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(sys.argv[1]).resolve() / "caches")

import proof_origin_cases as origin
import proof_setting_cases as setting
from proof_outer_models import MOST_TOKENS
from vllm.engine.arg_utils import EngineArgs

from vllm_launch_worker import launch
from vllm_launch_worker.proof import groups
from vllm_launch_worker.proof.origin import Origins

MODEL = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "hidden_size": 64,
    "head_dim": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "intermediate_size": 64,
    "vocab_size": 128,
    "max_position_embeddings": 64,
    "torch_dtype": "bfloat16",
}


def config_of(folder: Path):  # noqa: ANN201  a class of vLLM's
    """The config of a small launch; its model is never built."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
    launch.inspect_in_process()
    sizes = {"max_num_batched_tokens": MOST_TOKENS, "max_num_seqs": 4, "max_model_len": 32}
    return EngineArgs(model=str(folder), skip_tokenizer_init=True, **sizes).create_engine_config()


def main() -> None:
    """Every case."""
    folder = Path(sys.argv[1]).resolve()
    config = config_of(folder / "model")
    groups.join(config, (0, 0, 0))
    config.compilation_config.fast_moe_cold_start = False
    origins = Origins()
    cases = {
        "patches": lambda: origin.patch_answers(origins),
        "origins": lambda: origin.origin_answers(folder, origins),
        "reads": lambda: origin.read_answers(config),
        "stores": lambda: origin.store_answers(folder),
        "regions": lambda: setting.region_answers(config),
        "settings": lambda: setting.setting_answers(config),
        "counter": lambda: setting.counter_answers(config),
        "guards": lambda: setting.guard_answers(config),
        "hook": lambda: setting.hook_answers(config, origins),
        "outside": lambda: setting.outer_answers(config, origins),
        "built": lambda: setting.built_answers(folder, config, origins),
        "configs": lambda: setting.config_answers(folder, config, origins),
        "stored": lambda: setting.stored_answers(folder, config, origins),
        "none": lambda: setting.none_answers(folder, config, origins),
    }
    answers = {group: ask() for group, ask in cases.items()}
    print(json.dumps(answers))  # noqa: T201  the answer


if __name__ == "__main__":
    main()
