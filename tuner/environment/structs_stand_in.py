"""Stands in for msgspec where only the standard library is at hand: in the script of `tuner env --script`.

It does what the modules of that script use: a struct is a dataclass, and becomes plain JSON values.
"""

import dataclasses
from enum import Enum
from typing import Any, NoReturn


class ValidationError(ValueError):
    """What `convert` raises elsewhere."""


class Meta:
    """A bound on a type, which only `convert` would check."""

    def __init__(self, **_: object) -> None:
        """Take any bound."""


class Struct:
    """The base of a class with fields."""

    def __init_subclass__(cls, *, frozen: bool = False) -> None:
        """Make the class a dataclass."""
        dataclasses.dataclass(frozen=frozen)(cls)


replace = dataclasses.replace


def convert(*_: object) -> NoReturn:
    """The script reads no document.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError


def to_builtins(value: Any) -> Any:
    """A struct, and what is in it, as JSON values; of an enumeration the value."""
    if isinstance(value, Struct):
        return {name: to_builtins(part) for name, part in vars(value).items()}
    if isinstance(value, Enum):
        return value.value
    return [to_builtins(part) for part in value] if isinstance(value, (list, tuple)) else value
