"""Config classes for models whose own config class is in remote code.

vLLM may have the class of a model, but not the class of its config. The fields of a config are plain JSON. So a plain
object with the same fields can replace it, and the remote code does not run.
"""

from typing import Any

from shared_worker.vllm_types import Json

QUANTIZATION = "quantization_config"
"""A field that stays a dict, because vLLM reads it as a dict."""


def ensure_config_class(config: Json) -> bool:
    """Register a plain class for the `model_type` of a config, if vLLM and transformers do not have one.

    Returns:
        Whether a plain class was registered.
    """
    from vllm.transformers_utils import config as vllm_configs

    model_type = config.get("model_type")
    if not model_type or model_type in vllm_configs._CONFIG_REGISTRY or is_in_transformers(model_type):
        return False
    vllm_configs._CONFIG_REGISTRY[model_type] = plain_class(model_type)
    return True


def is_in_transformers(model_type: str) -> bool:
    """Whether transformers has a config class for this model type."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def plain_class(kind: str) -> Any:
    """A config class that keeps every field. Nested objects whose name ends with `_config` become configs, too."""
    from transformers import PretrainedConfig

    class PlainConfig(PretrainedConfig):  # type: ignore[misc]  # transformers is not here when types are checked
        model_type = kind

        def __init__(self, **fields: Any) -> None:
            for name, value in fields.items():
                if name.endswith("_config") and name != QUANTIZATION and isinstance(value, dict):
                    fields[name] = nested_config(value)
            super().__init__(**fields)
            # In some releases the base class has properties or defaults for
            # some fields. The value from the JSON replaces them.
            for name, value in fields.items():
                if getattr(self, name, None) is None and value is not None:
                    setattr(self, name, value)

        def __getitem__(self, name: str) -> Any:
            """A field, for code that reads a nested config as a dict."""
            return vars(self)[name]

        def __contains__(self, name: str) -> bool:
            return name in vars(self)

        def get(self, name: str, default: Any = None) -> Any:
            """A field or the default, as `dict.get`."""
            return vars(self).get(name, default)

    return PlainConfig


def nested_config(fields: Any) -> Any:
    """The nested config as an object of transformers' class for its model type, or else of a plain class."""
    from transformers import CONFIG_MAPPING

    fields = dict(fields)
    model_type = fields.pop("model_type", "")
    if model_type and is_in_transformers(model_type):
        return CONFIG_MAPPING[model_type](**fields)
    return plain_class(model_type)(**fields)
