"""The hash of vLLM's config, and the factors from which each part of the config computes its own hash.

Each config class has a method `compute_hash`, and only this method knows which fields it leaves out. So a profiler
reads the factors while the method runs: from the argument of `hash_factors`, or from the local list `factors`.
"""

import json
import re
import sys
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple

from shared_worker.vllm_types import VllmConfig
from vllm_launch_worker.plain import conceal, plain

PAIR = 2
"""The length of a list that stands for a name and its value."""
CLASS = re.compile(r"(\w+\.)+_*[A-Z]\w*")
"""The dotted path of a class."""


class HashCall(NamedTuple):
    """One call of `compute_hash`.

    Attributes:
        owner: the config whose method was called.
        digest: the result.
        factors: the hashed values, as a mapping or a list. None if they could not be read.
    """

    owner: Any
    digest: str
    factors: Any


def factors(vllm_config: VllmConfig) -> dict[str, Any]:
    """`hash`: the hash of the whole config. `parts`: dotted name of each part -> its own `hash` and `factors`."""
    digest, calls = hash_and_calls(vllm_config)
    names = attribute_names(vllm_config)
    parts: dict[str, dict[str, Any]] = {}
    for call in calls:
        if id(call.owner) in names:
            parts[names[id(call.owner)]] = {"hash": call.digest, "factors": by_name(call.factors)}
    extra = vllm_config.additional_config
    parts["additional_config"] = {"hash": "", "factors": by_name(extra if isinstance(extra, dict) else {})}
    return {"hash": digest, "parts": parts}


def hash_and_calls(vllm_config: VllmConfig) -> tuple[str, list[HashCall]]:
    """The hash of the config, and all calls of `compute_hash` that it made."""
    calls: list[HashCall] = []
    open_calls: list[list[Any]] = []  # the config and, once they are read, the factors of each call that still runs

    def note(frame: FrameType, event: str, result: Any) -> None:
        name = frame.f_code.co_name
        if event == "call" and name == "compute_hash":
            open_calls.append([frame.f_locals.get("self"), None])
        elif event == "call" and name == "hash_factors" and open_calls:
            open_calls[-1][1] = dict(frame.f_locals["items"])
        elif event == "return" and name == "compute_hash":
            owner, items = open_calls.pop()
            if items is None:
                items = frame.f_locals.get("factors")
            calls.append(HashCall(owner, result, items))

    sys.setprofile(note)
    try:
        return vllm_config.compute_hash(), calls
    finally:
        sys.setprofile(None)


def attribute_names(vllm_config: VllmConfig) -> dict[int, str]:
    """`id` of each part of the config that has `compute_hash` -> its dotted name."""
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
    """Name -> factor, as JSON values. In a list the position is the name. Secrets become digests."""
    pairs = enumerate(items) if isinstance(items, list) else (items or {}).items()
    return {str(name): conceal(str(name), as_json(value)) for name, value in pairs}


def as_json(value: Any) -> Any:
    """The value as plain JSON.

    A string that holds a JSON object is parsed. Lists of pairs become objects (see `pairs_as_objects`).
    """
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):
            return plain(json.loads(value))
    return pairs_as_objects(plain(value))


def pairs_as_objects(value: Any) -> Any:
    """The value with lists of pairs turned into objects.

    vLLM turns a mapping into a list of pairs, and a dataclass into a list of its class name and its pairs
    (`normalize_value` in vllm/config/utils.py). Here the class name becomes the field `class`.
    """
    if not isinstance(value, list):
        return value
    inner = [pairs_as_objects(item) for item in value]
    if inner and all(map(is_pair, inner)):
        return dict(inner)
    if is_pair(inner) and CLASS.fullmatch(inner[0]) and isinstance(inner[1], dict):
        return {"class": inner[0], **inner[1]}
    return inner


def is_pair(value: Any) -> bool:
    """Whether a value is a list of a name and a value."""
    return isinstance(value, list) and len(value) == PAIR and isinstance(value[0], str)
