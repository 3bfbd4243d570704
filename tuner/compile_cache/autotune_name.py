"""The name of the folder in which vLLM looks for what FlashInfer's autotune measured, from a document of factors. Pure.

Nothing is asked anew: the document has the hash of each part of the config. What is put together here is checked first
by the hash of the whole config, which the document has, too.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cache.compiled.factors import env_hash
from rules.autotune import Naming, autotune_of

_LATE = ("mamba_block_size", "kv_cache_layout")
"""Fields of the cache config that 0.32.0 and later leave out (`_normalize_cache_config_for_hash`)."""
_PARTS = (
    "model_config",
    "cache_config",
    "parallel_config",
    "scheduler_config",
    "device_config",
    "load_config",
    "offload_config",
    "attention_config",
    "engram_config",
    "lora_config",
    "speculative_config",
    "structured_outputs_config",
    "profiler_config",
    "observability_config",
    "compilation_config",
    "kernel_config",
    "kv_transfer_config",
    "ec_transfer_config",
    "aux_output_config",
)
"""In the order of `VllmConfig.compute_hash` (vllm/config/vllm.py, 0.30.0 to 0.33.0)."""
_LEFT_OUT = {"structured_outputs_config", "aux_output_config"}
"""Parts that add nothing where they are absent; any other adds the word None."""


def autotune_name(factors: Mapping[str, Any]) -> str | None:
    """The 64 hexadecimal digits; None where they cannot be computed from this document.

    vLLM computes them late, when it has made the KV cache. What it changed in its config since then is not in the
    document.

    Args:
        factors: a whole document (`tuner.compile_cache.factors`).
    """
    span = autotune_of(factors["system"]["vllm"])
    naming = span.naming if span else None
    if naming is Naming.FACTORS:
        return None if factors["compiles"]["mega"] else _sha256(str([factors["variables"]["hash"], _whole(factors)]))
    if naming is Naming.CONFIG:
        return _of_config(factors, _hashes(factors))
    if naming is Naming.LATE_CONFIG:
        return _of_config(factors, _normal_hashes(factors))
    return None


def _whole(factors: Mapping[str, Any]) -> str:
    return str(factors["config"]["hash"])


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _of_config(factors: Mapping[str, Any], hashes: Mapping[str, str] | None) -> str | None:
    """The name that these hashes of parts lead to; None unless the document's own lead to its hash of the whole."""
    if hashes is None or _config_hash([factors["system"]["vllm"], *_row(factors, _hashes(factors))]) != _whole(factors):
        return None
    return _sha256(_config_hash(_row(factors, hashes)))


def _config_hash(row: list[str]) -> str:
    """As `VllmConfig.compute_hash` ends."""
    return hashlib.md5(str([row]).encode(), usedforsecurity=False).hexdigest()[:10]


def _hashes(factors: Mapping[str, Any]) -> dict[str, str]:
    """Part -> its hash."""
    return {name: part["hash"] for name, part in factors["config"]["parts"].items() if part.get("hash")}


def _row(factors: Mapping[str, Any], hashes: Mapping[str, str]) -> list[str]:
    """What is hashed, without the release."""
    row = []
    for name in _PARTS:
        if name in hashes:
            row.append(hashes[name])
        elif name not in _LEFT_OUT:
            row.append("None")
    extra = factors["config"]["parts"].get("additional_config", {}).get("factors")
    text = json.dumps(extra, sort_keys=True).encode()
    row.append(hashlib.md5(text, usedforsecurity=False).hexdigest() if extra else "None")
    return row


def _normal_hashes(factors: Mapping[str, Any]) -> dict[str, str] | None:
    """The hashes with the cache config's as 0.32.0 computes it; None where its factors do not lead to its own."""
    hashes = _hashes(factors)
    cache = factors["config"]["parts"].get("cache_config", {}).get("factors") or {}
    if not any(cache.get(name) is not None for name in _LATE):
        return hashes
    if env_hash(cache) != hashes.get("cache_config"):
        return None
    return {**hashes, "cache_config": env_hash({**cache, **dict.fromkeys(_LATE)})}
