"""YAML as text: what a `vllm serve --config` file says, and how to write one. The only module that knows PyYAML."""

import json
from collections.abc import Mapping
from typing import Any

import yaml


def load_mapping(text: str) -> dict[Any, Any]:
    """The one mapping that `text` holds, read as vLLM reads it (`yaml.safe_load`).

    Raises:
        ValueError: the text is no YAML, or is not a mapping; the message says where, in one line.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping of options to values")  # noqa: TRY004  of the text, not of an argument
    return value


def dump_vllm_config(options: Mapping[str, Any]) -> str:
    """A `--config` file that gives these options, in this order.

    Mappings are written as JSON strings: vLLM before 0.16.0 turns a nested mapping into a Python repr and stops.

    Args:
        options: long option names without dashes to values. `False` says nothing to vLLM before 0.3x; leave it out.
    """
    flat = {name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in options.items()}
    return yaml.safe_dump(flat, sort_keys=False, width=float("inf"))
