"""What the readers of YAML documents share while they read one document."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.yaml.source import Node

MAX_WORDS = 100_000
"""Words of commands, volumes and ports in one document, and arguments of all launches of one file.

Aliases make many of few."""


@dataclass
class Reading:
    """One YAML document while its launches are read.

    Attributes:
        text: the file it stands in.
        document: the document.
        config_maps: for each ConfigMap of the document set, by name, the texts that it holds, by key.
        composed: Docker Compose reads the texts of the document first.
        depth: in how many other texts the document stands.
        words: how many words of commands, volumes and ports were read so far.
        done: the `id` of the nodes that a reader has read, with all that is below them. Later readers pass them by.
    """

    text: str
    document: Node
    config_maps: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    composed: bool = False
    depth: int = 0
    words: int = 0
    done: set[int] = field(default_factory=set)

    def count(self, words: int) -> None:
        """Say that so many words of commands, volumes and ports are read.

        Raises:
            ValueError: they are more than `MAX_WORDS` now.
        """
        self.words += words
        if self.words > MAX_WORDS:
            raise ValueError(f"its commands, volumes and ports make more than {MAX_WORDS} words")

    def mark(self, *nodes: Node | None) -> None:
        """Say that these nodes are read; None is passed by."""
        self.done.update(id(node) for node in nodes if node is not None)

    def is_done(self, node: Node) -> bool:
        """Whether a node itself was marked."""
        return id(node) in self.done


Reader = Callable[[Reading], Iterator[ManifestLaunch]]
"""Yields the launches of one kind of document, and none for documents of another kind."""
