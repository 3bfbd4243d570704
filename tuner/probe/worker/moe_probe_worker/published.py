"""Gives the defaults of a config class in the form of a published config.json, and the source text of modules."""

import functools
import inspect
import math
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared_worker.vllm_types import Json

CHOSEN_LATER = ("dtype", "torch_dtype", "transformers_version", "per_layer_config")
"""Keys that are left out. The launch chooses data types, and transformers computes `per_layer_config` again from the
layers that remain."""
THROUGH_TRANSFORMERS = "vllm.model_executor.models.transformers"
"""The module of vLLM's classes that run a model from transformers."""


def published(cls: Any, **settings: Any) -> Json:
    """The JSON of `cls(**settings)`, as a config.json would have it. A vision config that is null gets its defaults.

    Raises:
        Exception: what the class raised.
    """
    from transformers import PretrainedConfig

    config: Json = as_json(without_base(cls(**settings).to_dict(), PretrainedConfig().to_dict()))
    for key, inner in getattr(cls, "sub_configs", {}).items():
        if key.startswith("vision") and config.get(key) is None and getattr(inner, "model_type", ""):
            with suppress(Exception):
                config[key] = as_json(without_base(inner().to_dict(), PretrainedConfig().to_dict()))
    return config


def without_base(config: Json, base: Json) -> Json:
    """The config without private keys and without the defaults in `base`, also in nested dicts.

    Published configs do not have such keys, and some config classes refuse them.
    """
    own: Json = {}
    for key, value in config.items():
        inner = without_base(value, base) if isinstance(value, dict) else value
        is_default = key in base and base[key] == inner and type(base[key]) is type(inner)
        if not is_default and not str(key).startswith("_"):
            own[key] = inner
    return own


def as_json(value: Any) -> Any:
    """The value as JSON. Parts that JSON cannot hold are left out."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items() if key not in CHOSEN_LATER and is_json(item)}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value if is_json(item)]
    return value


def is_json(value: Any) -> bool:
    """Whether JSON can hold the value itself. Its parts are not checked."""
    if isinstance(value, float):
        return not math.isnan(value)  # published configs have Infinity
    return value is None or isinstance(value, bool | int | str | dict | list | tuple)


@functools.cache
def text_of(module: str) -> str:
    """The source text of a loaded module. Empty if it has none."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return text_in(file)


def text_in(file: str) -> str:
    """The text of a Python file. Empty if it cannot be read, or is another kind of file."""
    with suppress(OSError):
        return Path(file).read_text(encoding="utf-8") if file.endswith(".py") else ""
    return ""


def text_of_transformers(module: str, loaded: Any) -> str:
    """The source text of the model in transformers, if a vLLM class runs it from there. Else empty.

    Args:
        module: the module of the vLLM class.
        loaded: the config object, or None.
    """
    if loaded is None or not module.startswith(THROUGH_TRANSFORMERS):
        return ""
    with suppress(OSError, TypeError):
        return text_in(re.sub(r"configuration_(\w+\.py)$", r"modeling_\1", inspect.getfile(type(loaded))))
    return ""
