"""Options that stand as entries of a mapping, as the arguments that a program makes of them. They cannot be edited."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tuner.manifests.launch import Argument
from tuner.manifests.yaml.source import Mapping, Node, Scalar, Sequence

_TRUE = frozenset({"true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"})
_FALSE = frozenset({"false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"})
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9]\d{0,30})")
_FLOAT = re.compile(r"[-+]?\d{1,30}\.\d{0,30}(?:[eE][-+]?\d{1,3})?")
_MAX_NODES = 10_000
"""Parts of one value. A compilation config has about fifty."""


def option_words(options: Mapping, *, negated: bool = False, without: frozenset[str] = frozenset()) -> list[Argument]:
    """The arguments for a mapping of options.

    `true` is the option alone, a list gives it several values, a mapping is its JSON, and null leaves it out.

    Args:
        options: names, with `-` or `_` between their words, and values.
        negated: `false` is the option's `--no-…` form, as where options are set by name in Python; else it leaves the
            option out, as where only a command line is made.
        without: names, with `-` between their words, to leave out.
    """
    words: list[Argument] = []
    for key, value in options.pairs:
        name = key.replace("_", "-")
        if name not in without:
            words += _words(name, value, negated=negated)
    return words


def _words(name: str, value: Node, *, negated: bool) -> Iterator[Argument]:
    line = value.line
    typed, complete = plain_value(value)
    if typed is None and complete:
        return
    if typed is False:
        if negated:
            yield Argument(f"--no-{name}", line)
        return
    yield Argument(f"--{name}", line)
    if not complete:
        yield Argument("", line, unknown=True)
    elif isinstance(typed, list):
        for item, node in zip(typed, value.items if isinstance(value, Sequence) else (), strict=True):
            yield Argument(_text(item, node), node.line)
    elif typed is not True:
        yield Argument(_text(typed, value), line)


def _text(typed: Any, node: Node) -> str:
    """A value as an argument: a number as it is written, a mapping as JSON."""
    return node.text if isinstance(node, Scalar) else json.dumps(typed)


def plain_value(node: Node) -> tuple[Any, bool]:
    """A node as YAML 1.1 types it, and whether all of it was read: not if it is very large or refers to itself."""
    reader = _Reader()
    value = reader.value(node)
    return value, reader.room >= 0


class _Reader:
    """Reads the value of a node, and no more than `_MAX_NODES` parts of it."""

    def __init__(self) -> None:
        self.room = _MAX_NODES
        self._above: set[int] = set()

    def value(self, node: Node) -> Any:
        self.room -= 1
        if self.room < 0:
            return None
        if isinstance(node, Scalar):
            return _typed(node)
        if id(node) in self._above:
            self.room = -1
            return None
        self._above.add(id(node))
        value: Any
        if isinstance(node, Sequence):
            value = [self.value(item) for item in node.items]
        else:
            value = {key: self.value(item) for key, item in node.pairs}
        self._above.discard(id(node))
        return value


def _typed(node: Scalar) -> Any:
    text = node.text
    if node.style:
        return text
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text in _NULL:
        return None
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
