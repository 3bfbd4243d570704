"""The hash of vLLM's config, and what each of its parts puts into it.

Each config class hashes itself and keeps the list of what it leaves out inside a function, so its factors are read
while it does: from what it gives to `hash_factors`, or from its local list of them.
"""

import json
import re
import sys
from contextlib import suppress

from vllm_launch_worker.plain import concealed, plain

PAIR = 2
CLASS = re.compile(r"(\w+\.)+_*[A-Z]\w*")


def factors(vllm_config) -> dict:
    """`hash`: of the whole; `parts`: of each part its own `hash` and `factors`, by dotted name of the attribute."""
    whole, seen = traced(vllm_config)
    names = attribute_names(vllm_config)
    parts = {
        names[id(owner)]: {"hash": digest, "factors": by_name(found)}
        for owner, digest, found in seen
        if id(owner) in names
    }
    extra = vllm_config.additional_config
    parts["additional_config"] = {"hash": "", "factors": by_name(extra if isinstance(extra, dict) else {})}
    return {"hash": whole, "parts": parts}


def traced(vllm_config) -> tuple:
    """The hash, and for every `compute_hash` on the way its object, its result and its factors."""
    seen, open_calls = [], []

    def note(frame, event, returned):
        name = frame.f_code.co_name
        if event == "call" and name == "compute_hash":
            open_calls.append([frame.f_locals.get("self"), None])
        elif event == "call" and name == "hash_factors" and open_calls:
            open_calls[-1][1] = dict(frame.f_locals["items"])
        elif event == "return" and name == "compute_hash":
            owner, found = open_calls.pop()
            seen.append((owner, returned, frame.f_locals.get("factors") if found is None else found))

    sys.setprofile(note)
    try:
        return vllm_config.compute_hash(), seen
    finally:
        sys.setprofile(None)


def attribute_names(vllm_config) -> dict:
    """Dotted name of every config below this one that hashes itself, by its id."""
    found = {}
    for name, value in vars(vllm_config).items():
        if hasattr(value, "compute_hash"):
            found[id(value)] = name
            inner = vars(value).items() if hasattr(value, "__dict__") else ()
            found.update({id(part): f"{name}.{key}" for key, part in inner if hasattr(part, "compute_hash")})
    return found


def by_name(found) -> dict:
    """Factors by name, as JSON; a list has its positions for names. A config in JSON, as of transformers, is read."""
    pairs = enumerate(found) if isinstance(found, list) else (found or {}).items()
    return {str(name): concealed(str(name), opened(value)) for name, value in pairs}


def opened(value):
    """The value as plain JSON; text that is a JSON object becomes one, and so do the pairs that vLLM makes of one."""
    if isinstance(value, str) and value.startswith("{"):
        with suppress(ValueError):
            return plain(json.loads(value))
    return mapped(plain(value))


def mapped(value):
    """Lists of pairs as objects: `normalize_value` of vllm/config/utils.py turns mappings and dataclasses into them.

    Of a dataclass it makes its class and its pairs; here the class is one field more.
    """
    if not isinstance(value, list):
        return value
    inner = [mapped(item) for item in value]
    pairs = [item for item in inner if is_pair(item)]
    if inner and len(pairs) == len(inner):
        return dict(pairs)
    if is_pair(inner) and CLASS.fullmatch(inner[0]) and isinstance(inner[1], dict):
        return {"class": inner[0], **inner[1]}
    return inner


def is_pair(value) -> bool:
    """Whether this is a name and something."""
    return isinstance(value, list) and len(value) == PAIR and isinstance(value[0], str)
