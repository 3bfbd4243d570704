"""Config classes for models whose own lies in remote code.

vLLM may have the model class while only the *config* class is remote. Its
fields are plain JSON, so a plain object with the same fields serves, and no
foreign code runs.
"""

from typing import Any

from shared_worker.vllm_types import Json

QUANTIZATION = "quantization_config"
"""A field that vLLM reads as the dict that it is."""


def ensure_config_class(config: Json) -> bool:
    """Register a plain class for `model_type` if neither vLLM nor transformers has one.

    Returns:
        Whether a plain class stands in.
    """
    from vllm.transformers_utils import config as vllm_configs

    model_type = config.get("model_type")
    if not model_type or model_type in vllm_configs._CONFIG_REGISTRY or known_to_transformers(model_type):
        return False
    vllm_configs._CONFIG_REGISTRY[model_type] = plain_class(model_type)
    return True


def known_to_transformers(model_type: str) -> bool:
    """Whether transformers ships a config class for it."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def plain_class(kind: str) -> Any:
    """A config class that keeps every field; nested `*_config` objects become configs too."""
    from transformers import PretrainedConfig

    class PlainConfig(PretrainedConfig):  # type: ignore[misc]  # transformers is not here when types are checked
        model_type = kind

        def __init__(self, **fields: Any) -> None:
            for name, value in fields.items():
                if name.endswith("_config") and name != QUANTIZATION and isinstance(value, dict):
                    fields[name] = nested_config(value)
            super().__init__(**fields)
            # Declared by the base class as properties or defaults in some
            # releases: what the JSON says wins.
            for name, value in fields.items():
                if getattr(self, name, None) is None and value is not None:
                    setattr(self, name, value)

        def __getitem__(self, name: str) -> Any:
            """A field, for code that takes a nested config as it stands in the JSON."""
            return vars(self)[name]

        def __contains__(self, name: str) -> bool:
            return name in vars(self)

        def get(self, name: str, default: Any = None) -> Any:
            """As of a dict."""
            return vars(self).get(name, default)

    return PlainConfig


def nested_config(fields: Any) -> Any:
    """The nested config as its own class if transformers has it, else plain."""
    from transformers import CONFIG_MAPPING

    fields = dict(fields)
    model_type = fields.pop("model_type", "")
    if model_type and known_to_transformers(model_type):
        return CONFIG_MAPPING[model_type](**fields)
    return plain_class(model_type)(**fields)
