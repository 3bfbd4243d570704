"""Entries, and scripts that use a store in a process of their own."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from cache.verdicts.row import sources_row, verdict_row
from cache.verdicts.schema import sealed
from cache.verdicts.store import Entry


def sample(number: int = 0, architecture: str = "MixtralForCausalLM", *, padding: int = 2000, **factors: Any) -> Entry:
    """A valid entry; another number makes another key with the same file list. Padding makes its report longer."""
    key = {"architecture": architecture, "number": number, "sources": "d" * 64, **factors}
    return Entry(
        key=key,
        sources={"vllm/model_executor/models/mixtral.py": "a" * 64, "vllm/layer.py": "b" * 64},
        report={"result": "ok", "passes": [[1, 2], [1, 2]], "padding": "x" * padding},
        verdict={"word": "uniform", "reasons": [{"code": "order_kept"}]},
        rules="c" * 64,
        probed_at="2026-11-22T10:00:00+00:00",
    )


def old_store(path: Path, entries: list[Entry]) -> None:
    """A store as the first releases wrote it, of schema 1: each record is its JSON text."""
    rows = [("schema", "1")]
    rows += [(verdict_row(entry.key), json.dumps(entry.to_dict())) for entry in entries]
    rows += {(sources_row(entry.key), json.dumps(sorted(entry.sources))) for entry in entries}
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute('CREATE TABLE IF NOT EXISTS "verdicts" (key TEXT PRIMARY KEY, value BLOB)')
        connection.executemany("INSERT INTO verdicts VALUES (?, ?)", rows)


def script(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> list[str]:
    """Run Python code in a process that shares nothing with this one, and return the lines it printed.

    It has `sample`, `StoreError`, `VerdictStore` and `Path`. Words on stderr, such as a thread's traceback, fail.
    """
    names = "import sys\nfrom pathlib import Path\nfrom cache.errors import StoreError\n"
    names += "from cache.verdicts.store import VerdictStore\nfrom cache_samples import sample\n"
    command = [*prefix, sys.executable, "-c", names + code, *map(str, arguments)]
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, cwd="/", env=environment()
    )
    assert (process.returncode, process.stderr) == (0, ""), process.stderr
    return process.stdout.splitlines()


def storm(folder: Path, *arguments: str) -> dict[str, Any]:
    """The counts of a storm, which ends with an error if anything is lost or damaged."""
    command = [sys.executable, Path(__file__).with_name("store_storm.py"), *arguments[:1], folder, *arguments[1:]]
    process = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment())
    assert (process.returncode, process.stderr) == (0, ""), process.stderr
    counts: dict[str, Any] = json.loads(process.stdout)
    return counts


def environment() -> dict[str, str]:
    """The environment of `script`: this folder is importable, and nothing is written into it."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONDONTWRITEBYTECODE": "1"}


def execute(path: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run one statement on the file behind the store's back, committed."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, values).fetchall()


def rewrite(path: Path, digest: str, **fields: Any) -> None:
    """Change fields of a stored entry behind the store's back, as somebody who knows its checksum might."""
    ((name, value),) = execute(path, "SELECT key, value FROM verdicts WHERE key LIKE ?", f"verdict:%{digest}")
    record = json.loads(value.partition(" ")[2]) | fields
    plant(path, name, json.dumps(record))


def plant(path: Path, row: str, text: str) -> None:
    """Put a text in the place of a record, under a checksum that is right."""
    execute(path, "UPDATE verdicts SET value = ? WHERE key = ?", sealed(row, text), row)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {entry.name: entry.read_bytes() for entry in folder.iterdir()}
