"""The two text files that vLLM leaves beside compiled graphs, read as text: never imported, never evaluated. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cache.key import finite

FACTORS = "cache_key_factors.json"
"""What the key was made of: `env`, `config_hash`, `code_hash`, `compiler_hash` (vllm/compilation/backends.py, 0.14.1 to
0.33.0). The hashes name neither the model nor the GPU; `env` has vLLM's variables in clear, secrets up to 0.28."""
INDEX = "vllm_compile_cache.py"
"""Which artifact holds which graph, as `pprint` writes a dict (as above)."""
MAX_BYTES = 4 << 20
"""Neither file is larger; a larger one has another origin."""


def parse_factors(data: bytes) -> Mapping[str, Any] | None:
    """The factors; None if this is not such a file."""
    try:
        factors = json.loads(data, parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        return None
    if not isinstance(factors, dict) or not isinstance(factors.get("env"), dict):
        return None
    return factors


def env_hash(env: Mapping[str, Any]) -> str:
    """What vLLM makes of the variables (`hash_factors` of vllm/config/utils.py, the same in 0.19.1, 0.26.0, 0.32.0)."""
    return hashlib.sha256(json.dumps(env, sort_keys=True).encode()).hexdigest()


def folder_name(factors: Mapping[str, Any]) -> str:
    """The folder that these factors lead to (`VllmBackend.__call__` of vllm/compilation/backends.py, as above)."""
    hashes = [str(factors.get(name, "")) for name in ("config_hash", "code_hash", "compiler_hash")]
    return hashlib.sha256(str([env_hash(factors["env"]), *hashes]).encode()).hexdigest()[:10]


def artifacts_named(index: bytes) -> frozenset[str] | None:
    """The artifacts that an index names; None if it is cut, for vLLM writes it in place.

    An index of the older adaptor names no artifacts: its graphs lie in Inductor's own cache.
    """
    if not index.strip().startswith(b"{") or not index.strip().endswith(b"}"):
        return None
    return frozenset(map(bytes.decode, re.findall(rb"'(artifact_\w+)'", index)))


def paths_named(index: bytes) -> frozenset[str]:
    """The absolute paths in an index: where releases through 0.31.0 look for its graphs, and nowhere else."""
    return frozenset(path.decode(errors="replace") for path in re.findall(rb"'(/[^'\x00-\x1f]+)'", index))
