"""The hash of vLLM's config, and the factors that each of its parts puts into it.

Each config class hashes itself, and only a function inside it knows what it leaves out. So its factors are read while
it hashes: from the argument of `hash_factors`, or from its local list `factors`.
"""

import json
import re
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple

from shared_worker.vllm_types import VllmConfig
from vllm_launch_worker.plain import concealed, plain

PAIR = 2
CLASS = re.compile(r"(\w+\.)+_*[A-Z]\w*")


class HashCall(NamedTuple):
    """One call of `compute_hash`.

    Attributes:
        owner: the config that hashed itself.
        digest: the result.
        factors: what went into it, as a mapping or a list; None if vLLM did not tell.
    """

    owner: Any
    digest: str
    factors: Any


def factors(vllm_config: VllmConfig) -> dict[str, Any]:
    """`hash`: of the whole config; `parts`: dotted name of each part -> its own `hash` and `factors`."""
    digest, calls = traced(vllm_config)
    names = attribute_names(vllm_config)
    parts: dict[str, dict[str, Any]] = {}
    for call in calls:
        if id(call.owner) in names:
            parts[names[id(call.owner)]] = {"hash": call.digest, "factors": by_name(call.factors)}
    extra = vllm_config.additional_config
    parts["additional_config"] = {"hash": "", "factors": by_name(extra if isinstance(extra, dict) else {})}
    return {"hash": digest, "parts": parts}


def traced(vllm_config: VllmConfig) -> tuple[str, list[HashCall]]:
    """The hash of the config, and every call of `compute_hash` on the way to it."""
    calls: list[HashCall] = []
    open_calls: list[list[Any]] = []

    def note(frame: FrameType, event: str, result: Any) -> None:
        name = frame.f_code.co_name
        if event == "call" and name == "compute_hash":
            open_calls.append([frame.f_locals.get("self"), None])
        elif event == "call" and name == "hash_factors" and open_calls:
            open_calls[-1][1] = dict(frame.f_locals["items"])
        elif event == "return" and name == "compute_hash":
            owner, items = open_calls.pop()
            calls.append(HashCall(owner, result, frame.f_locals.get("factors") if items is None else items))

    sys.setprofile(note)
    try:
        return vllm_config.compute_hash(), calls
    finally:
        sys.setprofile(None)


def attribute_names(vllm_config: VllmConfig) -> dict[int, str]:
    """Id of every config below this one that hashes itself -> its dotted name."""
    names: dict[int, str] = {}
    for name, value in vars(vllm_config).items():
        if not hasattr(value, "compute_hash"):
            continue
        names[id(value)] = name
        for key, part in getattr(value, "__dict__", {}).items():
            if hasattr(part, "compute_hash"):
                names[id(part)] = f"{name}.{key}"
    return names


def by_name(items: Any) -> dict[str, Any]:
    """Factors by name, as JSON; in a list the position is the name. Text that holds a config in JSON is parsed."""
    pairs = enumerate(items) if isinstance(items, list) else (items or {}).items()
    return {str(name): concealed(str(name), opened(value)) for name, value in pairs}


def opened(value: Any) -> Any:
    """The value as plain JSON. Text that holds a JSON object becomes one; so do the pairs that vLLM makes of one."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):
            return plain(json.loads(value))
    return mapped(plain(value))


def mapped(value: Any) -> Any:
    """Lists of pairs as objects: `normalize_value` of vllm/config/utils.py turns mappings and dataclasses into lists.

    It turns a dataclass into its class and its pairs. Here the class becomes one more field.
    """
    if not isinstance(value, list):
        return value
    inner = [mapped(item) for item in value]
    if inner and all(map(is_pair, inner)):
        return dict(inner)
    if is_pair(inner) and CLASS.fullmatch(inner[0]) and isinstance(inner[1], dict):
        return {"class": inner[0], **inner[1]}
    return inner


def is_pair(value: Any) -> bool:
    """Whether this is a list of a name and a value."""
    return isinstance(value, list) and len(value) == PAIR and isinstance(value[0], str)
