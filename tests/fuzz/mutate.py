"""Damage: changes to JSON values and to text, drawn by hypothesis.

Every change is small, so that what is left still reaches the code behind the first check.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from hypothesis import strategies as st

Path = tuple[str | int, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]
Change = Callable[[Draw, Any, Path], None]

NUMBERS = [0, 1, -1, 2, 7, 128, 2**31, 10**19, 10**400, 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan")]
TEXTS = [
    "",
    " ",
    "\0",
    "\ud800",
    "\x1b[31m",
    "ü" * 40,
    "../../x",
    "a" * 5000,
    "true",
    "1,2,3",
    "__class__",
    "{}",
    "a\nb",
]
CONTAINERS: list[Any] = [[], {}, [[]], [{}], {"": None}, [0] * 300, [None, 1, "a"]]
HOSTILE: list[Any] = [None, True, False, *NUMBERS, *TEXTS, *CONTAINERS]
"""Values that stand where others are expected."""
DEEP = 150
"""Levels of a nested value: more than any reader here takes, less than Python's own limit."""
SNIPPETS = [
    "\0",
    "\ufeff",
    "\u2028",
    "\x85",
    "\r",
    "\t",
    "\n",
    '"',
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ": ",
    "- ",
    "#",
    "&a ",
]
SNIPPETS += [
    "*a",
    "<<: ",
    "|",
    ">",
    "$(X)",
    "$X",
    "`",
    "&&",
    ";",
    "--",
    "-cc",
    "NaN",
    "Infinity",
    "1e999",
    "{{",
    "\\u0000",
]
"""What means something to one of the readers."""


def paths(value: Any, here: Path = ()) -> Iterator[Path]:
    """Where everything in a JSON value stands, itself first."""
    yield here
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from paths(child, (*here, name))


Places = tuple[tuple[Path, ...], ...]
"""Places by depth. A depth is drawn first: the few at the top matter as much as the many below."""


def by_depth(found: Iterable[Path]) -> Places:
    """Places in groups of equal depth, none of them empty."""
    ordered = sorted(found, key=len)
    return tuple(tuple(group) for _, group in groupby(ordered, key=len))


def mutated(draw: Draw, value: Any, places: Places, most: int = 3, changes: Sequence[Change] = ()) -> Any:
    """A copy of a JSON value with up to `most` changes.

    Args:
        draw: hypothesis' own.
        value: what to change.
        places: of `paths(value)`, which a caller computes once for many cases.
        most: how many changes at most; one at least.
        changes: of which kinds; default: all.
    """
    whole = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, most))):
        place = (0, *draw(st.sampled_from(draw(st.sampled_from(places)))))
        change = draw(st.sampled_from(changes or CHANGES))
        change(draw, whole, place)
    return whole[0] if whole else None


def parent_of(whole: Any, place: Path) -> Any:
    """The container that holds a place, or None where an earlier change took it away."""
    for name in place[:-1]:
        whole = at(whole, name)
    return whole if has(whole, place[-1]) else None


def at(container: Any, name: str | int) -> Any:
    """One child, or None."""
    return container[name] if has(container, name) else None


def has(container: Any, name: str | int) -> bool:
    """Whether a container has a child of that name or index."""
    if isinstance(container, dict):
        return name in container
    return isinstance(container, list) and isinstance(name, int) and name < len(container)


def on_place(change: Callable[[Draw, Any, str | int], None]) -> Callable[[Draw, Any, Path], None]:
    """A change of one child of a container, as a change of a place."""

    def changed(draw: Draw, whole: Any, place: Path) -> None:
        parent = parent_of(whole, place)
        if parent is not None:
            change(draw, parent, place[-1])

    return changed


def drop(_: Draw, parent: Any, name: Any) -> None:
    """The child is gone."""
    del parent[name]


def replace(draw: Draw, parent: Any, name: Any) -> None:
    """A hostile value stands in its place."""
    parent[name] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))


def exchange(draw: Draw, parent: Any, name: Any) -> None:
    """A neighbour's value stands in its place."""
    names = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
    parent[name] = copy.deepcopy(parent[draw(st.sampled_from(names))])


def shorten(draw: Draw, parent: Any, name: Any) -> None:
    """A list or text loses its end."""
    if isinstance(parent[name], list | str):
        parent[name] = parent[name][: draw(st.integers(0, len(parent[name])))]


def reorder(draw: Draw, parent: Any, name: Any) -> None:
    """The items of a list, or the keys of an object, stand in another order."""
    value = parent[name]
    turn = draw(st.integers(1, 5))
    if isinstance(value, list):
        parent[name] = value[::-1] if turn == 1 else value[turn:] + value[:turn]
    elif isinstance(value, dict):
        parent[name] = dict(reversed(value.items()))


def repeat(draw: Draw, parent: Any, name: Any) -> None:
    """A list comes several times over."""
    if isinstance(parent[name], list) and len(parent[name]) < 200:
        parent[name] = parent[name] * draw(st.integers(2, 4))


def wrap(draw: Draw, parent: Any, name: Any) -> None:
    """The value lies deeper than it should."""
    value = parent[name]
    for _ in range(draw(st.sampled_from([1, 1, 2, DEEP]))):
        value = [value] if isinstance(name, int) else {name: value}
    parent[name] = value


def rename(draw: Draw, parent: Any, name: Any) -> None:
    """The key is another one."""
    if isinstance(parent, dict):
        parent[draw(st.sampled_from(TEXTS))] = parent.pop(name)


def nudge(draw: Draw, parent: Any, name: Any) -> None:
    """A number is a little, or vastly, another one."""
    if type(parent[name]) in {int, float} and abs(parent[name]) < 10**30:
        parent[name] = parent[name] * draw(st.sampled_from([-1, 2, 10, 1000, 10**9])) + draw(st.integers(-2, 2))


CHANGES = [on_place(change) for change in (drop, replace, exchange, shorten, reorder, repeat, wrap, rename, nudge)]


def json_text(value: Any) -> str:
    """As foreign programs write it: NaN, infinities and halves of surrogate pairs included."""
    return json.dumps(value, ensure_ascii=True)


def text_mutated(draw: Draw, text: str, most: int = 3) -> str:
    """The text with up to `most` spans cut out, doubled or moved, and snippets put in."""
    for _ in range(draw(st.integers(1, most))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.sampled_from([0, 1, 2, 8, 40, 400])))
        way = draw(st.sampled_from(["put in", "put in", "replace", "cut out", "double", "cut off", "lines"]))
        snippet = draw(st.sampled_from(SNIPPETS))
        text = WAYS[way](text, start, stop, snippet)
    return text


def _lines_exchanged(text: str, start: int, stop: int, _: str) -> str:
    """A line and the one some places on change places."""
    lines = text.split("\n")
    one, other = start % len(lines), stop % len(lines)
    lines[one], lines[other] = lines[other], lines[one]
    return "\n".join(lines)


WAYS: dict[str, Callable[[str, int, int, str], str]] = {
    "put in": lambda text, start, _, snippet: text[:start] + snippet + text[start:],
    "replace": lambda text, start, stop, snippet: text[:start] + snippet + text[stop:],
    "cut out": lambda text, start, stop, _: text[:start] + text[stop:],
    "double": lambda text, start, stop, _: text[:stop] + text[start:],
    "cut off": lambda text, start, _, __: text[:start],
    "lines": _lines_exchanged,
}


def bytes_mutated(draw: Draw, data: bytes, most: int = 4) -> bytes:
    """The bytes with up to `most` of them changed, or cut off."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(0, most))):
        if changed:
            changed[draw(st.integers(0, len(changed) - 1))] ^= draw(st.integers(1, 255))
    end = draw(st.sampled_from([None, None, None, "cut"]))
    return bytes(changed[: draw(st.integers(0, len(changed)))] if end else changed)
