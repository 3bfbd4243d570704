"""Trees of FlashInfer's autotune, built by hand: copies of the layout, no files of a real FlashInfer.

Names of folders and files are as in vllm/model_executor/warmup/flashinfer_autotune_cache.py and kernel_warmup.py of
0.26.0 and 0.32.0, keys of the content as `AutoTuner.save_configs` of FlashInfer 0.6.18 writes them.
"""

import json
from pathlib import Path
from typing import Any

FLASHINFER, ARCHITECTURE = "0.6.18", "90a"
NAME = "c0e08888381a68086d35ad68ac110e90f879325c8377dda2c95c298d78a1f399"
TREE = f"flashinfer_autotune_cache/{FLASHINFER}/{ARCHITECTURE}/{NAME}"
SHARED = "autotune_configs.json"
"""The file of 0.25.0 to 0.31.0."""
GPU = "NVIDIA H100 80GB HBM3"
METADATA = {
    "flashinfer_version": FLASHINFER,
    "cuda_version": "13.0",
    "cublas_version": "13.1.0.3",
    "cudnn_version": "91900",
    "cudnn_frontend_version": "1.18.0",
    "gpu": GPU,
}


def of_rank(number: int, replica: int = 0) -> str:
    """The name of a rank's file, as 0.32.0 and 0.33.0 write it."""
    return f"autotune_configs_dp{replica}_rank{number}.json"


def tuned(kernels: int = 3, **metadata: Any) -> bytes:
    """The content of a file with that many kernels."""
    content: dict[str, Any] = {"_metadata": METADATA | metadata}
    for number in range(kernels):
        content[f"('trtllm_fp4_block_scale_moe', 'MoERunner', {number})"] = ["MoERunner", [8, number]]
    content["_generation"] = "0" * 64
    return json.dumps(content, indent=2).encode()


def tree_in(root: Path, files: dict[str, bytes], path: str = TREE) -> Path:
    """A tree with these files below a cache root; nobody else may write it."""
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)
    return folder


def ranked(count: int, **metadata: Any) -> dict[str, bytes]:
    """The files of that many ranks, all alike."""
    return {of_rank(number): tuned(**metadata) for number in range(count)}
