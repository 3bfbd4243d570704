"""The defaults of a config class in the form of a published config.json, and the sources of modules as text."""

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
"""Keys that are left out: the launch chooses data types, and what transformers derives for single layers it derives
again from the layers that are left."""
THROUGH_TRANSFORMERS = "vllm.model_executor.models.transformers"


def published(cls: Any, **settings: Any) -> Json:
    """What `cls(**settings)` would be saved as; an encoder's config that is unset is that of its class."""
    from transformers import PretrainedConfig

    config: Json = plain(bare(cls(**settings).to_dict(), PretrainedConfig().to_dict()))
    for key, inner in getattr(cls, "sub_configs", {}).items():
        if key.startswith("vision") and config.get(key) is None and getattr(inner, "model_type", ""):
            with suppress(Exception):
                config[key] = plain(bare(inner().to_dict(), PretrainedConfig().to_dict()))
    return config


def bare(config: Json, base: Json) -> Json:
    """The config without what is private and what every config has by default, inside too.

    Some config classes refuse such keys; those that are saved as a model's do not have them.
    """
    own: Json = {}
    for key, value in config.items():
        inner = bare(value, base) if isinstance(value, dict) else value
        is_default = key in base and base[key] == inner and type(base[key]) is type(inner)
        if not is_default and not str(key).startswith("_"):
            own[key] = inner
    return own


def plain(value: Any) -> Any:
    """The value as JSON; what has no place there is left out."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items() if key not in CHOSEN_LATER and fits(item)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value if fits(item)]
    return value


def fits(value: Any) -> bool:
    """Whether JSON has a place for the value."""
    if isinstance(value, float):
        return not math.isnan(value)  # published configs have Infinity
    return value is None or isinstance(value, bool | int | str | dict | list | tuple)


@functools.cache
def text_of(module: str) -> str:
    """The module's source, empty if there is none."""
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return text_in(file)


def text_in(file: str) -> str:
    """A source file's text, empty if there is none."""
    with suppress(OSError):
        return Path(file).read_text(encoding="utf-8") if file.endswith(".py") else ""
    return ""


def text_of_transformers(module: str, loaded: Any) -> str:
    """The source of the model in transformers, for a class of vLLM's that runs it from there."""
    if loaded is None or not module.startswith(THROUGH_TRANSFORMERS):
        return ""
    with suppress(OSError, TypeError):
        return text_in(re.sub(r"configuration_(\w+\.py)$", r"modeling_\1", inspect.getfile(type(loaded))))
    return ""
