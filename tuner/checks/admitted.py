"""Live pods that asked for a decision, and started without an answer of the service."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.manifests.managed import COMPONENT, HANDLED, LABEL, MANAGED, REQUIRED
from tuner.manifests.yaml import source
from tuner.manifests.yaml.documents import read_documents
from tuner.manifests.yaml.source import Node, items_of, text_of

Ask = Callable[[Mapping[str, Any]], str]
"""Takes a pod, and gives what the service would do with it: a whole sentence."""


@dataclass(frozen=True)
class UnadmittedPod:
    """A pod with our label and without our annotation.

    Attributes:
        name: with its namespace.
        line: where it stands, from 1.
        required: it requires an answer to start.
        answer: what the service would do with it now; a whole sentence.
    """

    name: str
    line: int
    required: bool
    answer: str


def unadmitted_pods(text: str, ask: Ask) -> Iterator[UnadmittedPod]:
    """The pods in a text that the service never saw.

    Args:
        text: what `kubectl get pods` prints as JSON or YAML.
        ask: asks the service.

    Raises:
        ValueError: the text is not YAML.
        TunerError: the service cannot be asked.
    """
    for pod in _pods(text):
        label = text_of(pod.get("metadata", "labels", LABEL))
        own = pod.get("metadata", "labels", COMPONENT) is not None
        annotated = any(pod.get("metadata", "annotations", name) is not None for name in HANDLED)
        if label not in {MANAGED, REQUIRED} or own or annotated:
            continue
        parts = [text_of(pod.get("metadata", part)) for part in ("namespace", "name")]
        name = "/".join(part for part in parts if part) or "without a name"
        yield UnadmittedPod(name, pod.line, label == REQUIRED, ask(_plain(pod)))


def _pods(text: str) -> Iterator[source.Mapping]:
    for document in read_documents(text):
        listed = items_of(document.get("items")) if isinstance(document, source.Mapping) else []
        for node in listed or [document]:
            if isinstance(node, source.Mapping) and text_of(node.get("kind")) == "Pod":
                yield node


def _plain(node: Node) -> Any:
    """A node as a value; numbers and booleans are texts, which no argument list may hold anyway."""
    if isinstance(node, source.Scalar):
        return None if node.text in {"null", "~", ""} and not node.style else node.text
    if isinstance(node, source.Sequence):
        return [_plain(item) for item in node.items]
    return {name: _plain(value) for name, value in node.pairs}
