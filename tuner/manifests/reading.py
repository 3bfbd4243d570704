"""What the readers of YAML documents share while they read one document."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.yaml_source import Node


@dataclass
class Reading:
    """One YAML document while its launches are read.

    Attributes:
        text: the file it stands in.
        document: the document.
        config_maps: for each ConfigMap of the document set, by name, the texts that it holds, by key.
        composed: Docker Compose reads the texts of the document first.
        depth: in how many other texts the document stands.
        done: the `id` of the nodes that a reader has read, with all that is below them. Later readers pass them by.
    """

    text: str
    document: Node
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    composed: bool = False
    depth: int = 0
    done: set[int] = field(default_factory=set)

    def mark(self, *nodes: Node | None) -> None:
        """Say that these nodes are read; None is passed by."""
        self.done.update(id(node) for node in nodes if node is not None)

    def is_done(self, node: Node) -> bool:
        """Whether a node itself was marked."""
        return id(node) in self.done


Reader = Callable[[Reading], Iterator[ManifestLaunch]]
"""Yields the launches of one kind of document, and none for documents of another kind."""
