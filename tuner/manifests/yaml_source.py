"""YAML with positions: every node and where in the file it is written. The only module that knows ruamel.yaml.

Nodes are read, never written: who edits a manifest replaces the text between two offsets, so that comments, order and
quotes of everything else stay as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

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
    """A list; `flow` if it is written in brackets. Positions as in `Scalar`."""

    items: list["Node"]
    flow: bool
    start: int
    stop: int
    line: int


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
            node = next((value for name, value in node.pairs if name == key), None)
        return node


Node = Scalar | Sequence | Mapping


def read_documents(text: str) -> list[Node]:
    """Every document of a YAML file, in order.

    Raises:
        ValueError: the text is no YAML; the message says where, in one line.
    """
    loader = YAML(typ="safe", pure=True)
    loader.max_depth = MAX_NESTING
    loader.composer.warn_double_anchors = False  # YAML 1.2 allows it: an alias is of the last anchor before it
    try:
        nodes = [node for node in loader.compose_all(text) if node is not None]
    except YAMLError as error:
        raise ValueError(f"it is no YAML: {_said(error)}") from None
    except (ValueError, RecursionError, AttributeError, TypeError, IndexError, AssertionError) as error:
        # Tags, escapes and versions that ruamel.yaml 0.19 itself does not expect.
        raise ValueError(f"it is no YAML that can be read: {type(error).__name__}") from None
    converted: dict[int, Node] = {}
    return [_converted(node, converted) for node in nodes]


def walk(node: Node) -> Iterator[Node]:
    """This node and every node below it, each once, however often it is referred to."""
    visited: set[int] = set()
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


def text_of(node: Node | None) -> str | None:
    """What a scalar says; None for anything else."""
    return node.text if isinstance(node, Scalar) else None


def items_of(node: Node | None) -> list[Node]:
    """The items of a sequence; none for anything else."""
    return node.items if isinstance(node, Sequence) else []


def _said(error: YAMLError) -> str:
    """One line of what ruamel.yaml says, with the line."""
    problem = getattr(error, "problem", None) or type(error).__name__
    mark = getattr(error, "problem_mark", None)
    return f"{' '.join(str(problem).split())}" + (f", line {mark.line + 1}" if mark else "")


def _converted(node: Any, converted: dict[int, Node]) -> Node:
    """A node of ruamel.yaml's as one of ours; a node that is referred to again is the same again."""
    if id(node) in converted:
        return converted[id(node)]
    start, stop, line = node.start_mark.index, node.end_mark.index, node.start_mark.line + 1
    if isinstance(node.value, str):
        scalar = converted[id(node)] = Scalar(node.value, node.style or "", start, stop, line)
        return scalar
    if node.id == "sequence":
        # Entered before its items are converted: one of them may refer to it.
        sequence = converted[id(node)] = Sequence([], bool(node.flow_style), start, stop, line)
        sequence.items.extend(_converted(item, converted) for item in node.value)
        return sequence
    mapping = converted[id(node)] = Mapping([], start, stop, line)
    _fill(mapping, [(key, _converted(value, converted)) for key, value in node.value])
    return mapping


def _fill(mapping: Mapping, items: list[tuple[Any, Node]]) -> None:
    """Enter the pairs whose keys are text; those that merge keys bring stand behind the mapping's own."""
    merged: list[tuple[str, Node]] = []
    for key, value in items:
        if _merge(key):
            merged += _merged(value)
        elif isinstance(key.value, str):
            mapping.pairs.append((key.value, value))
    mapping.pairs.extend(merged)


def _merge(key: Any) -> bool:
    return isinstance(key.value, str) and key.value == "<<" and not key.style


def _merged(value: Node) -> list[tuple[str, Node]]:
    """The pairs that a merge key brings; the first mapping of several wins."""
    sources = value.items if isinstance(value, Sequence) else [value]
    pairs: list[tuple[str, Node]] = []
    for source in sources:
        if isinstance(source, Mapping):
            pairs += source.pairs
    return pairs
