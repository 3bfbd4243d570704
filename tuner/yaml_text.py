"""YAML as text: reads a `vllm serve --config` file, and writes such a file and manifests.

The only module that knows PyYAML.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

_PLAIN = re.compile(r"(?:--?)?[A-Za-z/](?:[\w./@:+=-]*[\w/])?", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


class Block(str):
    """Text of several lines that is shown as such (`|`)."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Writes every string so that readers of YAML 1.1 and of YAML 1.2 read it as that string.

    PyYAML writes `y`, `1e3` and `0o17` without quotes; other readers in Kubernetes' tools read a boolean and numbers.
    """

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  PyYAML's signature
        """Write no anchors: each part of a manifest is complete."""
        return True


def _string(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    if isinstance(text, Block):
        style = "|"
    elif _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        style = ""
    else:
        style = "'" if text.isascii() and text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)


_Dumper.add_representer(str, _string)
_Dumper.add_representer(Block, _string)


def load_mapping(text: str) -> dict[Any, Any]:
    """The one mapping that `text` holds, read as vLLM reads it (`yaml.safe_load`).

    Raises:
        ValueError: the text is not YAML, or is not a mapping; the message says where, in one line.
    """
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        raise ValueError("it holds no mapping of options to values")  # noqa: TRY004  of the text, not of an argument
    return value


def dump_vllm_config(options: Mapping[str, Any]) -> str:
    """A `--config` file that gives these options, in this order.

    Mappings are written as JSON strings: vLLM before 0.16.0 turns a nested mapping into a Python repr and stops.

    Args:
        options: long option names without dashes, and their values. vLLM before 0.3x ignores `False`; leave it out.
    """
    return dump_documents(
        [{name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in options.items()}]
    )


def dump_documents(documents: Sequence[Mapping[str, Any]]) -> str:
    """One or more documents, keys in the order given, each string on one line unless it is a `Block`.

    All of it is ASCII, so that no terminal's or file's encoding changes it.
    """
    return yaml.dump_all(
        documents,
        Dumper=_Dumper,
        sort_keys=False,
        width=float("inf"),
        explicit_start=len(documents) > 1,
    )
