"""How records are named and written in the store's table, and how they are read back."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from msgspec import convert
from msgspec.structs import asdict

from cache.errors import StoreError
from cache.key import digest, finite
from cache.verdicts.entry import Entry, SignedLine
from cache.verdicts.place import Place
from cache.verdicts.schema import unsealed


def verdict_prefix(architecture: str) -> str:
    """Start of the names of all verdicts of one architecture; it ends with a colon."""
    # A configuration may name anything as its architecture: quoted, it holds no colon and no wildcard.
    return f"verdict:{quote(architecture, safe='', errors='surrogatepass')}:"


def verdict_row(key: Mapping[str, Any]) -> str:
    """Name of a verdict: `verdict:<architecture>:<digest of the key>`."""
    return verdict_prefix(key["architecture"]) + digest(key)


def sources_row(key: Mapping[str, Any]) -> str:
    """Name of a file list: `sources:<digest of the key's factors except sources>`."""
    return "sources:" + digest({name: value for name, value in key.items() if name != "sources"})


def line_row(key_digest: str) -> str:
    """Name of the signed line that an entry came in: `signed-line/<digest of the key>`."""
    return f"signed-line/{key_digest}"  # no colon: `forget` finds a verdict's record by the colon before its digest


def line_record(line: SignedLine, entry: Entry) -> str:
    """The text of the record of a signed line that carries this entry."""
    return encode({"of": entry.content, "line": asdict(line)})


def read_line(value: object, entry: Entry) -> SignedLine | None:
    """The signed line in the text of a row; None if it is damaged, or carries another probe of the entry's key."""
    try:
        record = _decode(value)
        if record.get("of") != entry.content:
            return None
        return convert(record.get("line"), SignedLine)
    except (ValueError, AttributeError):  # msgspec's ValidationError is a ValueError
        return None


def digest_of(row: str) -> str:
    """The digest in a record's name."""
    return row.rpartition(":")[2]


def encode(record: Any) -> str:
    """Write a record as JSON.

    Raises:
        StoreError: it holds something that JSON does not have.
    """
    try:
        return json.dumps(record, allow_nan=False)  # ASCII: half a surrogate pair would not pass SQLite
    except (TypeError, ValueError, RecursionError) as problem:
        raise StoreError(f"The verdict cannot be stored: {problem}.") from problem


def read_entry(place: Place, row: str, value: object) -> Entry:
    """The entry in the text of a row of a store.

    Raises:
        StoreError: the row is damaged; the message names its digest, the hint how to remove it.
    """
    try:
        entry = Entry.from_dict(_decode(value))
        if verdict_row(entry.key) != row:
            raise ValueError("it belongs to another key")  # noqa: TRY301  one place turns damage into advice
    except (StoreError, ValueError) as problem:
        raise _damaged(place, row, problem) from problem
    return entry


def read_files(place: Place, row: str, value: object) -> tuple[str, ...]:
    """The file list in the text of a row of a store.

    Raises:
        StoreError: as `read_entry`.
    """
    try:
        return convert(_decode(value), tuple[str, ...])
    except ValueError as problem:  # msgspec's ValidationError is one
        raise _damaged(place, row, problem) from problem


def read_text(place: Place, row: str, value: object, schema: int) -> object:
    """The text in a row of a store, which is of this schema; what is not text as it is.

    Raises:
        StoreError: as `read_entry`.
    """
    try:
        return unsealed(row, value, schema)
    except ValueError as problem:
        raise _damaged(place, row, problem) from problem


def _decode(value: object) -> Any:
    """Read a stored text. Anything else, such as a pickle planted by a stranger, is a ValueError: nothing runs."""
    if not isinstance(value, bytes):
        raise ValueError("it is not text")  # noqa: TRY004  one class for every damage
    try:
        return json.loads(value.decode(), parse_float=finite, parse_constant=finite)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None


def _damaged(place: Place, row: str, problem: Exception) -> StoreError:
    key_digest = digest_of(row)
    return StoreError(
        f"The record {key_digest} in the verdict store {place.path} is damaged: {str(problem).rstrip('.')}.",
        hint=f"Remove it with `{place.command('verdicts', 'forget', key_digest)}`, then probe the model again.",
    )
