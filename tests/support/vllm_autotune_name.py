"""Prints what vLLM itself makes of a config: its factors, and the name of the folder for FlashInfer's autotune.

Run by a real environment's Python, with the folder of a model. `late`: the config as it is once the KV cache is made.
`older`: the name that 0.25.0 to 0.29.0 give it, by the function that they call and that this release has still; mega
artifacts are off.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tuner/engines/worker"), str(ROOT / "tuner/processes/worker")]

os.environ["VLLM_USE_MEGA_AOT_ARTIFACT"] = "0"

from vllm.compilation.caching import aot_compile_hash_factors  # noqa: E402  behind the path
from vllm.engine.arg_utils import EngineArgs  # noqa: E402  behind the path
from vllm.model_executor.warmup.flashinfer_autotune_cache import flashinfer_autotune_cache_hash  # noqa: E402

from vllm_launch_worker import configs, variables  # noqa: E402

config = EngineArgs(model=sys.argv[1], skip_tokenizer_init=True, load_format="dummy", max_model_len=256)
vllm_config = config.create_engine_config()
answer = {}
for moment, layout in (("early", None), ("late", "LBHNC")):
    vllm_config.cache_config.kv_cache_layout = layout
    parts = aot_compile_hash_factors(vllm_config)
    answer[moment] = {
        "config": configs.factors(vllm_config),
        "variables": variables.factors(),
        "name": flashinfer_autotune_cache_hash(SimpleNamespace(vllm_config=vllm_config)),
        "older": hashlib.sha256(str(parts).encode()).hexdigest(),
    }
sys.stdout.write(f"{json.dumps(answer)}\n")
