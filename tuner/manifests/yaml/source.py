"""YAML with positions: every node and where in the file it is written. The only module that knows ruamel.yaml.

Nodes are read, never written: who edits a manifest replaces the text between two offsets, so that comments, order and
quotes of everything else stay as they are.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tuner.manifests.excerpt import Excerpt
from tuner.untrusted.json_text import MAX_NESTING


@dataclass(frozen=True, eq=False)
class Scalar:
    """A value without parts.

    Attributes:
        text: what it says; numbers and booleans as they are written.
        style: `|`, `>`, `'`, `"`, or empty for a plain one.
        start: offset of its first character, in characters of the file.
        stop: offset behind its last; of a block scalar, behind its last line.
        line: line of its first character, from 1.
    """

    text: str
    style: str
    start: int
    stop: int
    line: int


@dataclass(frozen=True, eq=False)
class Sequence:
    """A list; `flow` if it is written in brackets, and `json` if all of its text is JSON. Positions as in `Scalar`."""

    items: list["Node"]
    flow: bool
    start: int
    stop: int
    line: int
    json: bool = False


@dataclass(frozen=True, eq=False)
class Mapping:
    """Keys and values in the order of the file, merged ones (`<<`) included behind. Positions as in `Scalar`."""

    pairs: list[tuple[str, "Node"]] = field(repr=False)
    start: int
    stop: int
    line: int

    def get(self, *path: str) -> "Node | None":
        """The node behind these keys, one below the other; None if there is none. The first of equal keys counts."""
        node: Node | None = self
        for key in path:
            if not isinstance(node, Mapping):
                return None
            node = node.by_name.get(key)
        return node

    @cached_property
    def by_name(self) -> dict[str, "Node"]:
        """The nodes by their keys; the first of equal keys counts."""
        return dict(reversed(self.pairs))


Node = Scalar | Sequence | Mapping
MAX_PAIRS = 100_000
"""Keys that merge keys (`<<`) may add to the mappings of one text. Real manifests add less than a hundred."""


def yaml_documents(text: str, excerpt: Excerpt | None) -> list[Node]:
    """Every document of a YAML text, in order; arguments and errors are those of `read_documents`."""
    loader = YAML(typ="safe", pure=True)
    loader.max_depth = MAX_NESTING
    loader.composer.warn_double_anchors = False  # YAML 1.2 allows it: an alias is of the last anchor before it
    try:
        nodes = [node for node in loader.compose_all(text) if node is not None]
    except YAMLError as error:
        raise ValueError(f"it is not YAML: {_problem_text(error)}") from None
    except (ValueError, RecursionError, AttributeError, TypeError, IndexError, AssertionError) as error:
        # Tags, escapes and versions that ruamel.yaml 0.19 itself does not expect.
        raise ValueError(f"it is not YAML that can be read: {type(error).__name__}") from None
    converter = _Converter(excerpt)
    return [converter.node(node) for node in nodes]


def walk(node: Node, skipped: Iterable[int] = ()) -> Iterator[Node]:
    """This node and every node below it, each once, however often it is referred to.

    Args:
        node: where to start.
        skipped: `id` of nodes that are left out, with what hangs on them alone.
    """
    visited = set(skipped)
    pending = [node]
    while pending:
        here = pending.pop()
        if id(here) in visited:
            continue
        visited.add(id(here))
        yield here
        if isinstance(here, Sequence):
            pending += reversed(here.items)
        elif isinstance(here, Mapping):
            pending += [value for _, value in reversed(here.pairs)]


def is_switched_off(node: Node) -> bool:
    """Whether a part of a chart's values says that it is not used: `enabled: false`."""
    return isinstance(node, Mapping) and text_of(node.get("enabled")) == "false"


def block_of(text: str, node: Scalar) -> Excerpt | None:
    """The lines of a block scalar (`|`, `>`) as they stand in the file; None for any other, and where they differ.

    Args:
        text: the file.
        node: the scalar.
    """
    start = text.find("\n", node.start, node.stop) + 1
    if node.style not in {"|", ">"} or not start:
        return None
    first = next((line for line in node.text.split("\n") if line.strip()), "")
    written = next((line for line in text[start : node.stop].split("\n") if line.strip()), "").rstrip("\r")
    indent = len(written) - len(written.lstrip(" ")) - (len(first) - len(first.lstrip(" ")))
    excerpt = Excerpt(text, start, node.stop, indent, node.line + 1)
    if node.style == "|" and excerpt.text.rstrip("\n") != node.text.rstrip("\n"):
        return None
    return excerpt


def text_of(node: Node | None) -> str | None:
    """What a scalar says; None for anything else."""
    return node.text if isinstance(node, Scalar) else None


def items_of(node: Node | None) -> list[Node]:
    """The items of a sequence; none for anything else."""
    return node.items if isinstance(node, Sequence) else []


def _problem_text(error: YAMLError) -> str:
    """One line of what ruamel.yaml says, with the line."""
    problem = getattr(error, "problem", None) or type(error).__name__
    mark = getattr(error, "problem_mark", None)
    return f"{' '.join(str(problem).split())}" + (f", line {mark.line + 1}" if mark else "")


class _Converter:
    """Turns nodes of ruamel.yaml into those of this module."""

    def __init__(self, excerpt: Excerpt | None) -> None:
        self._excerpt = excerpt
        self._converted: dict[int, Node] = {}
        self._merged = 0

    def node(self, node: Any) -> Node:
        """A node; one that is referred to again is the same again."""
        if id(node) in self._converted:
            return self._converted[id(node)]
        start, stop, line = self._place(node)
        if isinstance(node.value, str):
            scalar = self._converted[id(node)] = Scalar(node.value, node.style or "", start, stop, line)
            return scalar
        if node.id == "sequence":
            # Entered before its items are converted: one of them may refer to it.
            sequence = self._converted[id(node)] = Sequence([], bool(node.flow_style), start, stop, line)
            sequence.items.extend(self.node(item) for item in node.value)
            return sequence
        mapping = self._converted[id(node)] = Mapping([], start, stop, line)
        self._fill(mapping, [(key, self.node(value)) for key, value in node.value])
        return mapping

    def _place(self, node: Any) -> tuple[int, int, int]:
        start, stop = node.start_mark.index, node.end_mark.index
        if self._excerpt is None:
            return start, stop, node.start_mark.line + 1
        return self._excerpt.offset(start), self._excerpt.end(stop), self._excerpt.line(start)

    def _fill(self, mapping: Mapping, items: list[tuple[Any, Node]]) -> None:
        """Enter the pairs whose keys are text; those that merge keys bring stand behind the mapping's own.

        Raises:
            ValueError: merge keys bring more than `MAX_PAIRS`.
        """
        merged: dict[str, Node] = {}
        for key, value in items:
            if _merge(key):
                for name, node in _merged(value):
                    self._count_merged()
                    merged.setdefault(name, node)
            elif isinstance(key.value, str):
                mapping.pairs.append((key.value, value))
        names = {name for name, _ in mapping.pairs}
        mapping.pairs.extend((name, node) for name, node in merged.items() if name not in names)

    def _count_merged(self) -> None:
        self._merged += 1
        if self._merged > MAX_PAIRS:
            raise ValueError(f"its merge keys make more than {MAX_PAIRS} entries")


def _merge(key: Any) -> bool:
    return isinstance(key.value, str) and key.value == "<<" and not key.style


def _merged(value: Node) -> Iterator[tuple[str, Node]]:
    """The pairs that a merge key brings; of several mappings, the first one's come first."""
    sources = value.items if isinstance(value, Sequence) else [value]
    for source in sources:
        if isinstance(source, Mapping):
            yield from source.pairs
