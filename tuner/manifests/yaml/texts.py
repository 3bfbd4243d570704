"""Launches in the texts of a YAML document: scripts, documents with fenced blocks, and whole YAML documents."""

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet

from tuner.manifests.excerpt import Excerpt
from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.yaml.kubernetes import scalar_launches, unread
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Scalar, block_of

_FIRST_OF_YAML = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*(?:---|(?:- +)?[\"']?[\w./-]+[\"']?:(?: |$))", re.MULTILINE)
"""The first line of a YAML document that is a mapping, or a list of mappings."""
_NAMES_LAUNCH = re.compile(r"vllm|engine_kwargs|servingEngineSpec|modelArtifacts|^model:", re.MULTILINE | re.IGNORECASE)
_MAX_DEPTH = 3
"""YAML in YAML in YAML is the deepest that published manifests have."""

Documents = Callable[[str, Excerpt, int], Iterator[ManifestLaunch]]
"""Yields the launches in an excerpt of a file that is YAML, at a depth."""


def text_launches(reading: Reading, documents: Documents, used: AbstractSet[str]) -> Iterator[ManifestLaunch]:
    """The launches in every text that no other reader has read.

    Args:
        reading: the document.
        documents: how to read a text that is YAML itself.
        used: texts of files that launches of the document set name; they are parts of those.
    """
    for node in unread(reading):
        if not isinstance(node, Scalar) or node.text in used:
            continue
        launches = list(_of_yaml(reading, node, documents))
        yield from launches
        if not launches and "vllm" in node.text:
            yield from scalar_launches(reading.text, node, shape="script", composed=reading.composed)


def _of_yaml(reading: Reading, node: Scalar, documents: Documents) -> Iterator[ManifestLaunch]:
    """The launches in a block of text that is YAML; none in other texts."""
    if node.style != "|" or reading.depth >= _MAX_DEPTH or not _NAMES_LAUNCH.search(node.text):
        return
    excerpt = block_of(reading.text, node)
    if excerpt is not None and _FIRST_OF_YAML.match(excerpt.text):
        try:
            yield from documents(reading.text, excerpt, reading.depth + 1)
        except ValueError:  # it only looks like YAML
            return
