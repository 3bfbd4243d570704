"""JSON with positions, as the nodes of YAML: `kubectl get -o json` prints megabytes, which take YAML minutes."""

import json
import re

from tuner.manifests.yaml.source import Mapping, Node, Scalar, Sequence
from tuner.untrusted.json_text import MAX_NESTING

_BEGIN = re.compile(r"[ \t\r\n]*+[{\[]")
_SPACE = re.compile(r"[ \t\r\n]*+")
_TEXT = re.compile(r'"(?:[^"\\\x00-\x1f]++|\\.)*+"')
_WORD = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null")


def json_document(text: str) -> Node | None:
    """The document of a text that is one JSON object or list; None for every other text.

    One that is nested more than `MAX_NESTING` levels deep is none here.
    """
    if not _BEGIN.match(text):
        return None
    try:
        return _Reader(text).document()
    except ValueError:
        return None


class _Reader:
    """Reads a text from its beginning to its end.

    Args:
        text: the text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0

    def document(self) -> Node:
        """The only value of the text.

        Raises:
            ValueError: it is not JSON.
        """
        node = self._value(0)
        if self._next():
            raise ValueError("something stands behind the document")
        return node

    def _next(self) -> str:
        """The next character that is not a space; empty at the end."""
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _value(self, depth: int) -> Node:
        if depth > MAX_NESTING:
            raise ValueError("it is nested too deeply")
        begin = self._next()
        if begin == "{":
            return self._mapping(depth)
        if begin == "[":
            return self._sequence(depth)
        return self._scalar()

    def _scalar(self) -> Scalar:
        start, line = self._at, self._line_here()
        is_text = self._text.startswith('"', start)
        match = (_TEXT if is_text else _WORD).match(self._text, start)
        if match is None:
            raise ValueError("it is not a value")
        self._at = match.end()
        value = json.loads(match[0]) if is_text else match[0]
        return Scalar(value, '"' if is_text else "", start, self._at, line)

    def _sequence(self, depth: int) -> Sequence:
        start, line = self._at, self._line_here()
        items: list[Node] = []
        self._at += 1
        if self._next() != "]":
            items.append(self._value(depth + 1))
            while self._next() == ",":
                self._at += 1
                items.append(self._value(depth + 1))
        self._end("]")
        return Sequence(items, flow=True, start=start, stop=self._at, line=line, json=True)

    def _mapping(self, depth: int) -> Mapping:
        start, line = self._at, self._line_here()
        pairs: list[tuple[str, Node]] = []
        self._at += 1
        if self._next() != "}":
            pairs.append(self._pair(depth))
            while self._next() == ",":
                self._at += 1
                pairs.append(self._pair(depth))
        self._end("}")
        return Mapping(pairs, start, self._at, line)

    def _pair(self, depth: int) -> tuple[str, Node]:
        if self._next() != '"':
            raise ValueError("a name is not text")
        name = self._scalar().text
        if self._next() != ":":
            raise ValueError("a name has no value")
        self._at += 1
        return name, self._value(depth + 1)

    def _end(self, bracket: str) -> None:
        if self._next() != bracket:
            raise ValueError(f"{bracket} is missing")
        self._at += 1
