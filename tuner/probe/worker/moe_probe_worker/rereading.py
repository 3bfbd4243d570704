"""Whether a made config can be read again, by the class with which vLLM reads its model type.

Writing a config object and reading it are not always inverse: some classes take
a nested config under another name than they keep it, refuse what they write, or
are not those with which vLLM reads.
"""

import copy
import inspect
import re
from contextlib import suppress
from typing import Any

from shared_worker.vllm_types import Json

MOST = 4
"""Complaints that are heeded."""


def reader(model_type: str) -> Any:
    """The class with which vLLM reads this model type, or None."""
    from transformers import CONFIG_MAPPING
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    for registry in (_CONFIG_REGISTRY, CONFIG_MAPPING):
        with suppress(Exception):
            return registry[model_type]
    return None


def readable(config: Json) -> tuple[Json, Any, list[str]]:
    """The config without what its reader complains of, the object made of it or None, and the keys left out."""
    cls = reader(config.get("model_type", ""))
    left_out: list[str] = []
    if cls is None:
        return config, None, left_out
    candidate = config
    for _ in range(MOST):
        try:
            fitting, loaded = renamed(candidate, cls)
        except Exception as error:
            keys = complained_of(candidate, str(error))
            if not keys:
                break
            left_out += keys
            candidate = without(candidate, keys)
        else:
            return fitting, loaded, left_out
    return config, None, []


def renamed(config: Json, cls: Any) -> tuple[Json, Any]:
    """The config with its nested ones under the names that the class takes, and the object made of it."""
    loaded = cls.from_dict(copy.deepcopy(config))
    for key in [key for key, value in config.items() if isinstance(value, dict) and "model_type" in value]:
        if isinstance(getattr(loaded, key, None), dict) and (name := other_name(cls, config)):
            config = {name if old == key else old: value for old, value in config.items()}
            loaded = cls.from_dict(copy.deepcopy(config))
    return config, loaded


def other_name(cls: Any, config: Json) -> str:
    """A nested config that the class takes and this one lacks; empty unless there is one alone."""
    source = ""
    with suppress(OSError, TypeError):
        source = inspect.getsource(cls.__init__)
    names = set(re.findall(r"""kwargs\.(?:pop|get)\(\s*["'](\w+_config)["']""", source)) - set(config)
    names -= {"quantization_config", "generation_config"}
    return names.pop() if len(names) == 1 else ""


def complained_of(config: Json, message: str) -> list[str]:
    """Keys of lists that a message names, in the config or those inside."""
    words = set(re.findall(r"\w+", message))
    own = []
    inside = []
    for key, value in config.items():
        if isinstance(value, list) and key in words:
            own.append(key)
        elif isinstance(value, dict):
            inside += complained_of(value, message)
    return [*own, *inside]


def without(config: Json, keys: list[str]) -> Json:
    """The config without these keys, inside too."""
    rest: Json = {}
    for key, value in config.items():
        if key not in keys:
            rest[key] = without(value, keys) if isinstance(value, dict) else value
    return rest
