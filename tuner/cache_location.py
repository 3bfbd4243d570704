"""Where compile caches go: vLLM's variables, and whose word counts. Pure."""

from collections.abc import Mapping
from pathlib import Path

CACHE_ROOT = "VLLM_CACHE_ROOT"
COMPILERS = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Variable -> its folder below the cache root: caches that vLLM leaves where the compilers put them."""
NO_FACTORS = {CACHE_ROOT, "VLLM_API_KEY", "VLLM_HOST_IP", "VLLM_PORT"}
"""Variables of vLLM's that cannot change what is compiled; all others count in a keyed cache folder."""


def cache_variables(root: str, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with which everything that a start compiles lies below one root.

    vLLM moves Triton's kernels in no release, and Inductor's code from 0.20.0 on only with AOT compilation
    (vllm/compilation/compiler_interface.py and decorators.py). A folder that the launch itself names is left alone.
    """
    inside = {name: str(Path(root, folder)) for name, folder in COMPILERS.items() if not environ.get(name)}
    return {CACHE_ROOT: root, **inside}


def cache_root(environ: Mapping[str, str]) -> tuple[str, str]:
    """Where vLLM keeps caches by itself, and what says so (vllm/envs.py, all releases)."""
    if environ.get(CACHE_ROOT):
        return environ[CACHE_ROOT], f"{CACHE_ROOT} in the environment"
    if environ.get("XDG_CACHE_HOME"):
        return str(Path(environ["XDG_CACHE_HOME"]) / "vllm"), "XDG_CACHE_HOME"
    return str(Path(environ.get("HOME", "~"), ".cache", "vllm")), "vLLM's default"
