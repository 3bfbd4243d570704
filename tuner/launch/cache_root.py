"""Where compile caches go: vLLM's variables, and whose word counts. Pure."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rules.errors import ErrorKind, TunerError

CACHE_ROOT = "VLLM_CACHE_ROOT"
NO_FACTORS = {CACHE_ROOT, "VLLM_API_KEY", "VLLM_HOST_IP", "VLLM_PORT"}
"""Variables of vLLM's that cannot change what is compiled; all others count in a keyed cache folder."""


PROOFS = "tuner-proof"
"""Folder below a cache root that holds one root for each proof."""
_OF_A_PROOF = re.compile(rf"(?P<parent>.*?)/+{PROOFS}/+(?P<name>[0-9a-f]{{16}})/*", re.DOTALL)


def proof_root(root: str, name: str) -> str:
    """The cache root of launches that rest on one proof: code that another launch compiled is never found there.

    Args:
        root: the cache root that the launch would have; of another proof's, the root above it counts.
        name: 16 hexadecimal characters that name the proof.
    """
    inside = _OF_A_PROOF.fullmatch(root)
    return str(Path(inside["parent"] or "/" if inside else root) / PROOFS / name)


def name_of_proof(root: str) -> str:
    """The name of the proof that a cache root belongs to; empty if it belongs to none."""
    inside = _OF_A_PROOF.fullmatch(root)
    return inside["name"] if inside else ""


def cache_root(environ: Mapping[str, str]) -> tuple[str, str]:
    """Where vLLM keeps caches by itself, and what says so (vllm/envs.py, all releases)."""
    if environ.get(CACHE_ROOT):
        return environ[CACHE_ROOT], f"{CACHE_ROOT} in the environment"
    if environ.get("XDG_CACHE_HOME"):
        return str(Path(environ["XDG_CACHE_HOME"]) / "vllm"), "XDG_CACHE_HOME"
    return str(Path(environ.get("HOME", "~"), ".cache", "vllm")), "vLLM's default"


def require_no_tls(arguments: Iterable[str]) -> None:
    """Refuse to warm a cache for a launch with options of TLS: a warm-up asks its server without TLS.

    Raises:
        TunerError: there is such an option (kind `usage`).
    """
    if any(argument.startswith("--ssl-") for argument in arguments):
        raise TunerError(
            "A cache is warmed without TLS.",
            hint="Leave the --ssl options out: they change nothing that is compiled.",
            kind=ErrorKind.USAGE,
        )
