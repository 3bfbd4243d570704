"""The documents of a text of YAML, or of JSON, which is YAML that can be read much faster."""

from functools import lru_cache

from tuner.manifests.excerpt import Excerpt
from tuner.manifests.yaml.json_source import json_document
from tuner.manifests.yaml.source import Node, yaml_documents

MAX_YAML = 4 * 2**20
"""Characters; more would take minutes."""


def read_documents(text: str, excerpt: Excerpt | None = None) -> list[Node]:
    """Every document of a YAML text, in order.

    Args:
        text: a whole file, or the text of an excerpt.
        excerpt: where the text stands in its file, so that positions are those of the file; None: it is a whole file.

    Raises:
        ValueError: the text is not YAML; the message says where, in one line.
    """
    return _file_documents(text) if excerpt is None else yaml_documents(text, excerpt)


@lru_cache(maxsize=1)
def _file_documents(text: str) -> list[Node]:
    """The documents of a whole file, which is parsed once for its launches and for what is not read of it."""
    document = json_document(text)
    if document is not None:
        return [document]
    if len(text) > MAX_YAML:
        raise ValueError(f"it is not JSON, and longer than {MAX_YAML >> 20} MiB")
    return yaml_documents(text, None)
