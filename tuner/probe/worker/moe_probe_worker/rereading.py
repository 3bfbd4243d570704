"""Changes a generated config so that vLLM can read it.

vLLM reads a config with the class that it has for the model type. Reading may
fail on a config that a config class wrote: some classes write a nested config
under another name than they read it, some reject their own output, and vLLM may
read with another class than the one that wrote.
"""

import copy
import inspect
import re
from contextlib import suppress
from typing import Any

from shared_worker.vllm_types import Json

MAX_TRIES = 4
"""How many times the config is tried. Each error names keys that the next try leaves out."""


def reader(model_type: str) -> Any:
    """The config class that vLLM uses to read this model type, or None."""
    from transformers import CONFIG_MAPPING
    from vllm.transformers_utils.config import _CONFIG_REGISTRY

    for registry in (_CONFIG_REGISTRY, CONFIG_MAPPING):
        with suppress(Exception):
            return registry[model_type]
    return None


def make_readable(config: Json) -> tuple[Json, Any, list[str]]:
    """Leave out the keys that the reading class rejects, and rename nested configs (see `load_renamed`).

    Returns:
        The changed config, the config object made from it, and the keys that were left out. If no try succeeds: the
        config as it was, None, and an empty list.
    """
    cls = reader(config.get("model_type", ""))
    left_out: list[str] = []
    if cls is None:
        return config, None, left_out
    candidate = config
    for _ in range(MAX_TRIES):
        try:
            fitting, loaded = load_renamed(candidate, cls)
        except Exception as error:
            keys = keys_named_in(candidate, str(error))
            if not keys:
                break
            left_out += keys
            candidate = without(candidate, keys)
        else:
            return fitting, loaded, left_out
    return config, None, []


def load_renamed(config: Json, cls: Any) -> tuple[Json, Any]:
    """Rename nested configs to the names that the class reads.

    Returns:
        The config, and the config object made from it.

    Raises:
        Exception: the class cannot read the config.
    """
    loaded = cls.from_dict(copy.deepcopy(config))
    nested_keys = [key for key, value in config.items() if isinstance(value, dict) and "model_type" in value]
    for key in nested_keys:
        is_unread = isinstance(getattr(loaded, key, None), dict)  # the class makes an object of a config that it reads
        name = other_name(cls, config) if is_unread else ""
        if name:
            config = with_key_renamed(config, key, name)
            loaded = cls.from_dict(copy.deepcopy(config))
    return config, loaded


def with_key_renamed(config: Json, key: str, name: str) -> Json:
    """The config with another name for one key, in the same order."""
    result: Json = {}
    for old, value in config.items():
        result[name if old == key else old] = value
    return result


def other_name(cls: Any, config: Json) -> str:
    """The name of the only nested config that the class reads and this config lacks. Empty if none or several."""
    source = ""
    with suppress(OSError, TypeError):
        source = inspect.getsource(cls.__init__)
    names = set(re.findall(r"""kwargs\.(?:pop|get)\(\s*["'](\w+_config)["']""", source)) - set(config)
    names -= {"quantization_config", "generation_config"}
    return names.pop() if len(names) == 1 else ""


def keys_named_in(config: Json, message: str) -> list[str]:
    """Keys that a message names and whose value is a list, in the config and in nested dicts."""
    words = set(re.findall(r"\w+", message))
    keys = []
    nested_keys = []
    for key, value in config.items():
        if isinstance(value, list) and key in words:
            keys.append(key)
        elif isinstance(value, dict):
            nested_keys += keys_named_in(value, message)
    return [*keys, *nested_keys]


def without(config: Json, keys: list[str]) -> Json:
    """A copy of the config without these keys, also in nested dicts."""
    rest: Json = {}
    for key, value in config.items():
        if key not in keys:
            rest[key] = without(value, keys) if isinstance(value, dict) else value
    return rest
