"""Test support: real documents of factors, and the same with one thing changed.

The documents in `samples/factors/` are what the worker wrote in the two real environments, with most of the source
files and of Inductor's settings left out, and with paths of a made-up machine.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import structs

from cache.compiled.warm_record import WarmRecord

FOLDER = Path(__file__).parents[1] / "samples" / "factors"
OLD, NEW = "flag-live", "current"
"""vLLM 0.19.1, whose artifacts lack the compiled code, and 0.32.0, whose mega artifacts hold it."""
BOTH = (OLD, NEW)


def factors(environment: str) -> dict[str, Any]:
    """The document of an environment: a Qwen3-MoE of three layers on a CPU."""
    document: dict[str, Any] = json.loads((FOLDER / f"{environment}.json").read_text(encoding="utf-8"))
    return document


def changed(document: Mapping[str, Any], value: Any, *path: str) -> dict[str, Any]:
    """A copy in which one value is another; the hashes around it stay, as nothing here computes them."""
    copied = copy.deepcopy(dict(document))
    inner = copied
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return copied


def key_of(document: Mapping[str, Any]) -> str:
    """The folder's name of the one compiled module."""
    (entry,) = document["keys"]["aot"]
    return str(entry["key"])


def warm_record(document: Mapping[str, Any], **changes: Any) -> WarmRecord:
    """A record of the warm-up that this document describes."""
    record = WarmRecord(
        digest="a" * 64,
        made_at="2026-11-20T10:00:00Z",
        model="/models/tiny",
        architecture="Qwen3MoeForCausalLM",
        vllm=document["system"]["vllm"],
        torch=document["system"]["torch"],
        platform="cpu",
        gpu=None,
        args=("/models/tiny",),
        entries=(),
        size=1,
        factors=document,
    )
    return structs.replace(record, **changes)
