"""Prints what vLLM itself makes of a config: its factors, and the name of the folder for FlashInfer's autotune.

Run by a real environment's Python, with the folder of a model. The second pair is of the config as it is once the KV
cache is made.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tuner/engines/worker"), str(ROOT / "tuner/processes/worker")]

from vllm.engine.arg_utils import EngineArgs  # noqa: E402  behind the path
from vllm.model_executor.warmup.flashinfer_autotune_cache import flashinfer_autotune_cache_hash  # noqa: E402

from vllm_launch_worker import configs  # noqa: E402

config = EngineArgs(model=sys.argv[1], skip_tokenizer_init=True, load_format="dummy", max_model_len=256)
vllm_config = config.create_engine_config()
pairs = []
for layout in (None, "LBHNC"):
    vllm_config.cache_config.kv_cache_layout = layout
    name = flashinfer_autotune_cache_hash(SimpleNamespace(vllm_config=vllm_config))
    pairs.append({"config": configs.factors(vllm_config), "name": name})
sys.stdout.write(f"{json.dumps(pairs)}\n")
