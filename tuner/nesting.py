"""How deep a value of somebody else's may be nested, so that no recursion over it ends in Python's own limit. Pure."""

from typing import Any

MAX_NESTING = 100
"""Levels; real configurations have fewer than ten."""


def deeper_than(levels: int, value: Any) -> bool:
    """Whether the objects and lists in a value are nested deeper."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return bool(children) and (levels == 0 or any(deeper_than(levels - 1, child) for child in children))
