"""The numbered shapes that a store's records have had, and the step from each to the next.

1: a record is its JSON text.
2: before the text stands its checksum. A disk may give back bytes that were never written, and a page of another
   record can make valid JSON: without a checksum that would be a verdict.
3: an entry may have an `origin`. A release of schema 2 would take such an entry for damage.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping

SCHEMA = 3
"""Version of the records that this release writes; a file of a higher one is refused."""

TABLE = "verdicts"
"""Name of the one table: sqlitedict's layout, `key TEXT PRIMARY KEY, value BLOB`."""

_CHECKSUM = 64  # hexadecimal characters


def sealed(row: str, text: str) -> str:
    """The value under the name `row`: the checksum of both, a blank, the text."""
    return f"{_checksum(row, text.encode())} {text}"


def unsealed(row: str, value: object, schema: int) -> object:
    """The text in a value of a file of this schema, as bytes; what is not text is left to the reader.

    Raises:
        ValueError: the checksum is not that of the name and the text.
    """
    if schema == 1 or not isinstance(value, bytes):
        return value
    head, text = value[:_CHECKSUM], value[_CHECKSUM + 1 :]
    if value[_CHECKSUM : _CHECKSUM + 1] != b" " or head != _checksum(row, text).encode():
        raise ValueError("its checksum is not that of its contents")
    return text


def schema_of(connection: sqlite3.Connection) -> int | None:
    """The schema that a database says it has; None: it is not a verdict store.

    Raises:
        sqlite3.Error: it cannot be read.
    """
    tables = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (TABLE,)).fetchall()
    rows = connection.execute(f"SELECT value FROM {TABLE} WHERE key = 'schema'").fetchall() if tables else []  # noqa: S608  a constant
    number = _number(rows[0][0]) if rows else None
    return number if number is not None and number >= 1 else None


def make(connection: sqlite3.Connection) -> None:
    """Make the table of an empty store, as sqlitedict would, in a transaction that the caller ends."""
    connection.execute(f'CREATE TABLE "{TABLE}" (key TEXT PRIMARY KEY, value BLOB)')
    _say(connection)


def upgrade(connection: sqlite3.Connection, stored_schema: int) -> None:
    """Bring a store of an older schema to this release's, in a transaction that the caller has begun and ends.

    Raises:
        sqlite3.Error: it cannot be written; nothing is changed once the caller has rolled back.
    """
    for number in range(stored_schema, SCHEMA):
        _STEPS[number](connection)
    if stored_schema < SCHEMA:
        _say(connection)


def _checksum(row: str, text: bytes) -> str:
    return hashlib.sha256(row.encode("utf-8", "surrogatepass") + b"\n" + text).hexdigest()


def _number(value: object) -> int | None:
    try:
        number = json.loads(value) if isinstance(value, bytes) else None
    except ValueError:
        return None
    return number if type(number) is int else None


def _say(connection: sqlite3.Connection) -> None:
    connection.execute(f"INSERT OR REPLACE INTO {TABLE} VALUES ('schema', ?)", (str(SCHEMA),))  # noqa: S608  a constant


def _add_checksums(connection: sqlite3.Connection) -> None:
    """From 1 to 2. What is not text stays as it is: under the new schema, too, it is a damaged record."""
    connection.create_function("sealed_value", 2, _sealed_value, deterministic=True)
    connection.execute(
        f"UPDATE {TABLE} SET value = coalesce(sealed_value(CAST(key AS BLOB), CAST(value AS BLOB)), value) "  # noqa: S608  a constant
        "WHERE key <> 'schema' AND typeof(value) = 'text'"
    )


def _sealed_value(row: bytes, value: bytes) -> str | None:
    try:
        return sealed(row.decode(), value.decode())
    except UnicodeDecodeError:
        return None


def _keep(_: sqlite3.Connection) -> None:
    """From 2 to 3: a record of the earlier schema is one of the later, without an origin."""


_STEPS: Mapping[int, Callable[[sqlite3.Connection], None]] = {1: _add_checksums, 2: _keep}
"""Schema -> what makes the next one of it."""
