"""Where compile caches go: vLLM's variables, and whose word counts. Pure."""

from collections.abc import Mapping
from pathlib import Path

CACHE_ROOT = "VLLM_CACHE_ROOT"
NO_FACTORS = {CACHE_ROOT, "VLLM_API_KEY", "VLLM_HOST_IP", "VLLM_PORT"}
"""Variables of vLLM's that cannot change what is compiled; all others count in a keyed cache folder."""


def cache_root(environ: Mapping[str, str]) -> tuple[str, str]:
    """Where vLLM keeps caches by itself, and what says so (vllm/envs.py, all releases)."""
    if environ.get(CACHE_ROOT):
        return environ[CACHE_ROOT], f"{CACHE_ROOT} in the environment"
    if environ.get("XDG_CACHE_HOME"):
        return str(Path(environ["XDG_CACHE_HOME"]) / "vllm"), "XDG_CACHE_HOME"
    return str(Path(environ.get("HOME", "~"), ".cache", "vllm")), "vLLM's default"
