"""JSON of somebody else, parsed within bounds of time and memory. Pure."""

import json
from typing import Any

MAX_BYTES = 16 * 2**20
MAX_NESTING = 100
"""Levels; real configurations have fewer than ten."""
MAX_PARTS = 100_000
"""Lists and objects; 16 MiB of nothing else took four minutes and 3.6 GB."""
MAX_VALUES = 1_000_000
MAX_KEY = 1000
"""Characters of a field's name; it is quoted in messages."""


class UnusableError(ValueError):
    """Why a text is not taken, as the end of a sentence that begins with its name: `is not UTF-8: byte 3 is wrong`."""


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in `data`; `Infinity`, which is not JSON, is a number.

    Raises:
        UnusableError: it is not a JSON object, is beyond the bounds, has a number that cannot be read, or has one field
            twice with different values: whoever reads it would choose one of them.
    """
    _require_small(data)
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_constant, object_pairs_hook=_fields)
    except UnicodeDecodeError as error:
        raise UnusableError(f"is not UTF-8: byte {error.start} is wrong") from None
    except json.JSONDecodeError as error:
        raise UnusableError(f"is not JSON: {error.msg}, line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _nested() from None
    except UnusableError:
        raise
    except ValueError as error:  # of thousands of digits
        raise UnusableError(f"has a number that cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise UnusableError("is not a JSON object")
    if deeper_than(MAX_NESTING, value):
        raise _nested()
    return value


def _require_small(data: bytes) -> None:
    """Refuse by counting bytes, which costs nothing; brackets and commas inside of texts count too."""
    if len(data) > MAX_BYTES:
        raise UnusableError(f"is larger than {MAX_BYTES >> 20} MiB")
    if data.count(b"[") + data.count(b"{") > MAX_PARTS:
        raise UnusableError(f"has more than {MAX_PARTS:,} lists and objects")
    if data.count(b",") > MAX_VALUES:
        raise UnusableError(f"has more than {MAX_VALUES:,} values")


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if any(len(name) > MAX_KEY for name in fields):
        raise UnusableError(f"has a field whose name is longer than {MAX_KEY:,} characters")
    if len(fields) != len(pairs):
        twice = next((name for name, value in pairs if value != fields[name]), None)
        if twice is not None:
            raise UnusableError(f"says `{_quoted(twice)}` twice, and not the same")
    return fields


def _quoted(name: str) -> str:
    return ascii(name)[1:-1][:80]


def _constant(word: str) -> float:
    if word == "NaN":
        raise UnusableError(f"has a number that cannot be read: {word}")
    return float(word)


def _nested() -> UnusableError:
    return UnusableError(f"is nested more than {MAX_NESTING} levels deep")


def deeper_than(levels: int, value: Any) -> bool:
    """Whether the objects and lists in a value are nested deeper."""
    if not isinstance(value, dict | list):
        return False
    children = value.values() if isinstance(value, dict) else value
    return bool(children) and (levels == 0 or any(deeper_than(levels - 1, child) for child in children))
