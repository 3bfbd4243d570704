"""The vLLM launches in one file, whatever kind of manifest it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath

from tuner.manifests.compose import images_of_texts, is_compose
from tuner.manifests.docker import dockerfile_launches
from tuner.manifests.files import MARKDOWN_SUFFIXES, YAML_SUFFIXES, is_dockerfile
from tuner.manifests.helm import helm_launches, runtime_launch
from tuner.manifests.kserve import kserve_launches
from tuner.manifests.kubernetes import kind_of, kubernetes_launches, scalar_launches
from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.markdown import markdown_launches
from tuner.manifests.shell import shell_launches
from tuner.manifests.yaml_source import Mapping, Node, Scalar, Sequence, read_documents

_ARGUMENT_KEYS = frozenset({"command", "args", "extraArgs"})
"""Keys whose lists are read as arguments."""


def launches_in(name: str, text: str) -> list[ManifestLaunch]:
    """Every launch in a file, in the order of its lines.

    A file whose name is not that of YAML, Markdown or a Dockerfile is read as shell text.

    Args:
        name: the file's name, which decides how it is read.
        text: its content.

    Raises:
        ValueError: the name says YAML, and the text is not YAML; the message says where.
    """
    suffix = PurePath(name).suffix
    if suffix in YAML_SUFFIXES or suffix == ".json":
        launches: list[ManifestLaunch] = []
        for document in read_documents(text):
            launches.extend(_in_document(text, document))
    elif suffix in MARKDOWN_SUFFIXES:
        launches = list(markdown_launches(text))
    elif is_dockerfile(name):
        launches = list(dockerfile_launches(text))
    else:
        launches = list(shell_launches(text))
    return sorted(launches, key=lambda launch: launch.line)


def _in_document(text: str, document: Node) -> Iterator[ManifestLaunch]:
    if isinstance(document, Mapping) and kind_of(document):
        kserve = kserve_launches(document)
        yield from kubernetes_launches(text, document) if kserve is None else kserve
        runtime = runtime_launch(document) if kind_of(document) == "VLLMRuntime" else None
        yield from [runtime] if runtime else []
    else:
        yield from helm_launches(text, document)
        if is_compose(document):
            yield from _in_compose(text, document)
            return
    for scalar in _texts(document):
        yield from scalar_launches(text, scalar, shape="script")


def _in_compose(text: str, document: Node) -> Iterator[ManifestLaunch]:
    """The launches in the texts of a Compose file; a text that services share is a launch in each of their images."""
    images = images_of_texts(document)
    for scalar in _texts(document):
        for launch in scalar_launches(text, scalar, shape="script", composed=True):
            users = images.get(id(scalar), []) if launch.image is None else []
            for image in users:
                yield replace(launch, image=image.text, image_line=image.line, may_build_image=True)
            if not users:
                yield launch


def _texts(document: Node) -> Iterator[Scalar]:
    """Every text below a node that may hold a script and is not read as arguments: each once."""
    visited: set[int] = set()
    pending = [document]
    while pending:
        node = pending.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, Scalar) and "vllm" in node.text:
            yield node
        pending += _children(node)


def _children(node: Node) -> list[Node]:
    """The nodes in a node, without lists that are read as arguments."""
    if isinstance(node, Sequence):
        return node.items
    if isinstance(node, Mapping):
        return [value for key, value in node.pairs if key not in _ARGUMENT_KEYS or not isinstance(value, Sequence)]
    return []
