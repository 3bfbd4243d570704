"""Test support: folders of graphs as vLLM's piecewise backend leaves them, made of a launch's real factors.

`REAL` are `cache_key_factors.json` as `VllmBackend.__call__` of both releases wrote them, each under the name of its
folder. vLLM does so on GPUs, and none was at hand: it was called on a CPU, with the config of a launch of Qwen3-30B-A3B
set to vLLM's own backend, VLLM_USE_AOT_COMPILE=0, and a graph of one layer, of which it compiled nothing. The folders
made here have the same form, and hold the variables and hashes of the documents in `samples/factors/`; their names
follow from that. The hash of the traced files, index and graph are made up.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from factors_samples import changed, factors

REAL = sorted((Path(__file__).parents[1] / "samples" / "hashed").glob("*/*.json"))
CODE = "c" * 64
GRAPH = "artifact_compile_range_1_8192_subgraph_0"


def sha256(text: str) -> str:
    """In hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def compiled(environment: str, *, aot: bool = True) -> dict[str, Any]:
    """An environment's document with vLLM's own backend, as a GPU has it, and the hash of its variables as they are.

    Without `aot`, as with VLLM_USE_AOT_COMPILE=0.
    """
    document = changed(factors(environment), 3, "compiles", "mode")
    if not aot:
        document["variables"]["values"]["VLLM_USE_AOT_COMPILE"] = document["compiles"]["aot"] = False
        document["variables"]["values"]["VLLM_USE_MEGA_AOT_ARTIFACT"] = document["compiles"]["mega"] = False
        document["keys"].update(aot=[], parts={}, unknown="This launch uses no ahead-of-time artifacts.")
    return rehashed(document)


def rehashed(document: dict[str, Any]) -> dict[str, Any]:
    """The document, its hash of the variables computed from their values."""
    document["variables"]["hash"] = sha256(json.dumps(document["variables"]["values"], sort_keys=True))
    return document


def with_variable(document: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """The document of the same launch with one variable more, or another value of one."""
    return rehashed(changed(document, value, "variables", "values", name))


def key_factors(document: Mapping[str, Any], code: str = CODE) -> dict[str, Any]:
    """What vLLM writes beside the graphs of this launch."""
    return {
        "env": document["variables"]["values"],
        "config_hash": document["config"]["hash"],
        "code_hash": code,
        "compiler_hash": document["keys"]["graphs"]["compiler_hash"],
    }


def name_of(told: Mapping[str, Any]) -> str:
    """The name that follows from it."""
    hashes = [told[name] for name in ("config_hash", "code_hash", "compiler_hash")]
    return sha256(str([sha256(json.dumps(told["env"], sort_keys=True)), *hashes]))[:10]


def graphs_folder(
    root: Path, told: Mapping[str, Any], *, name: str = "", places: Iterable[str] = ("0_0/backbone",)
) -> str:
    """Write a whole folder of graphs with these factors; its path below the root.

    Args:
        root: the cache root.
        told: the factors.
        name: of the folder, if it is not theirs.
        places: ranks and prefixes that it has graphs of.
    """
    entry = f"torch_compile_cache/{name or name_of(told)}"
    for place in places:
        folder = root / entry / f"rank_{place}"
        folder.mkdir(parents=True)
        (folder / "cache_key_factors.json").write_text(json.dumps(told, indent=2, sort_keys=True), encoding="utf-8")
        index = {((1, 8192), 0, "inductor_standalone"): {"graph_handle": (GRAPH, str(folder / GRAPH))}}
        (folder / "vllm_compile_cache.py").write_text(repr(index), encoding="utf-8")
        (folder / GRAPH).write_bytes(b"never read")
    return entry
