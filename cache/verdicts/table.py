"""Tables beside the verdicts, in the file of their store: the queue of probes, and the times of signed lines."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from cache.verdicts.advice import real_path, reported
from cache.verdicts.database import bring_up_to_date, connect_to_write, create, patiently, read, require_store

_IS_MADE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"


def read_table(path: Path, name: str, query: str, *values: str) -> list[tuple[Any, ...]]:
    """Rows of one SELECT of a table, texts as bytes; none if the table or the file is missing.

    Raises:
        StoreError: the store cannot be used.
    """
    return read(path, query, *values).rows if read(path, _IS_MADE, name).rows else []


@contextmanager
def change_table(path: Path, make: str) -> Iterator[sqlite3.Connection]:
    """A transaction that is committed and synced at the end, and rolled back on any exception.

    Args:
        path: the file of the store; it is made if it is missing.
        make: the statement that makes the table if it is missing.

    Raises:
        StoreError: the store cannot be written.
    """
    require_store(path)
    with reported(path):
        file = real_path(path)
        create(file)
        with closing(patiently(file, lambda: _begun(path, file, make))) as connection:
            yield connection
            connection.commit()


def _begun(path: Path, file: Path, make: str) -> sqlite3.Connection:
    connection = connect_to_write(file)
    try:
        bring_up_to_date(path, connection)
        connection.text_factory = str
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(make)
    except BaseException:
        connection.close()
        raise
    return connection
