"""What sqlitedict does by itself, it does not do here: each trap is shown, and shown to be closed."""

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlitedict
from cache_samples import environment, execute, sample

from cache import filesystem
from cache.errors import StoreError
from cache.verdicts.store import VerdictStore


@pytest.fixture(params=["ext4", "nfs4"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> VerdictStore:
    """A store with one entry, with each of the journals."""
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "mountinfo")
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / / rw - {request.param} x rw\n")
    store = VerdictStore(tmp_path / "verdicts.sqlite")
    store.put(sample(1))
    return store


def never(*_: object, **__: object) -> None:
    """Stand where pickle would be called."""
    raise AssertionError("pickle was called")


def test_no_pickle_is_written_or_read(store: VerdictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself sqlitedict pickles every value, and unpickles whatever it finds."""
    with closing(sqlitedict.SqliteDict(str(store.path.with_name("plain")), "verdicts")) as plain:
        plain["a"] = "b"
        plain.commit()
    ((value,),) = execute(store.path.with_name("plain"), "SELECT value FROM verdicts")
    assert pickle.loads(value) == "b"  # noqa: S301  our own
    for module in (sqlitedict, pickle):
        for name in ("dumps", "loads"):
            monkeypatch.setattr(module, name, never)
    store.put(sample(2))
    store.merge([sample(3)], lambda *_: True)
    store.forget(sample(1).digest)
    assert {entry.key["number"] for entry in store.entries()} == {2, 3}
    assert {type(value) for (value,) in execute(store.path, "SELECT value FROM verdicts")} == {str}


def test_every_write_is_synced(store: VerdictStore) -> None:
    """By itself sqlitedict turns synchronous writes off: a commit would be lost with the power."""
    with store._writing() as table:
        assert table.conn.select_one("PRAGMA synchronous") == (3,)  # EXTRA
        assert table.conn.select_one("PRAGMA busy_timeout") == (30_000,)
    with closing(sqlitedict.SqliteDict(str(store.path.with_name("plain")))) as plain:
        assert plain.conn.select_one("PRAGMA synchronous") == (0,)


def test_a_commit_reaches_the_disk(store: VerdictStore) -> None:
    """The system is asked to sync before `put` returns, as strace sees it."""
    if subprocess.run(["sh", "-c", "strace -V"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs strace")
    code = "import sys\nfrom pathlib import Path\n"
    code += "from cache.verdicts.store import VerdictStore\nfrom cache_samples import sample\n"
    code += "VerdictStore(Path(sys.argv[1])).put(sample(2))\nimport os\nos.write(1, b'returned')"
    command = ["strace", "-f", "-e", "trace=fsync,fdatasync,write", sys.executable, "-c", code, store.path]
    process = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    if "Operation not permitted" in process.stderr:
        pytest.skip("needs leave to trace")
    before, returned, _ = process.stderr.partition('"returned"')
    assert returned, process.stderr[-300:]
    assert "sync(" in before


def test_a_write_is_one_transaction(store: VerdictStore) -> None:
    """Nobody sees the first record of a put before the last; an exception leaves none of them."""
    seen = []

    def wanted(*_: object) -> bool:
        seen.append(execute(store.path, "SELECT count(*) FROM verdicts"))
        if len(seen) == 3:
            raise ZeroDivisionError
        return True

    with pytest.raises(ZeroDivisionError):
        store.merge([sample(2), sample(3), sample(4)], wanted)
    assert seen[0] == seen[1] == seen[2]
    assert list(store.entries()) == [sample(1)]


def test_its_thread_ends_with_the_write(store: VerdictStore) -> None:
    """By itself every handle keeps a thread and the file until it is closed."""
    before, handles = threading.active_count(), open_files(store.path)
    for number in range(5):
        store.put(sample(number))
    with pytest.raises(ZeroDivisionError), store._writing():
        raise ZeroDivisionError
    assert (threading.active_count(), open_files(store.path)) == (before, handles)


def open_files(path: Path) -> int:
    """How many handles of this process are at a store or its logs."""
    handles = [handle for handle in Path("/proc/self/fd").iterdir() if handle.is_symlink()]
    return sum(str(handle.readlink()).startswith(str(path)) for handle in handles)


def test_it_says_nothing_by_itself(
    store: VerdictStore, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """By itself sqlitedict logs a traceback for each error that it also raises."""
    execute(store.path, "CREATE TRIGGER no BEFORE INSERT ON verdicts BEGIN SELECT RAISE(ABORT, 'no'); END")
    with caplog.at_level(logging.DEBUG), pytest.raises(StoreError):
        store.put(sample(2))
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    assert capfd.readouterr().err == ""


EXCLUSIVE = """
import sqlite3, sys, time
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN EXCLUSIVE")
print(flush=True)
time.sleep(6)
other.execute("COMMIT")
"""


def test_it_waits_longer_than_five_seconds(store: VerdictStore) -> None:
    """By itself sqlitedict gives up after five, and does so while it opens the file without a word to its caller."""
    command = [sys.executable, "-c", EXCLUSIVE, store.path]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        started = time.monotonic()
        store.put(sample(2))
        assert time.monotonic() - started > 5
    assert store.get(sample(2).key) == sample(2)


def test_a_look_up_keeps_the_locks_of_a_write(store: VerdictStore) -> None:
    """POSIX takes every lock away when a process closes any handle of a file: nothing but SQLite may open it."""
    seen: list[Any] = []

    def wanted(*_: object) -> bool:
        seen.append(locks(store.path))
        assert store.get(sample(1).key) == sample(1)
        assert store.find(sample(1).digest) == sample(1)
        seen.append(locks(store.path))
        return True

    store.merge([sample(2)], wanted)
    assert seen[0] == seen[1] != []


def locks(path: Path) -> list[str]:
    """The locks of this process on a store, as the kernel lists them."""
    inode = f":{path.stat().st_ino}"
    lines = (line.split()[1:] for line in Path("/proc/locks").read_text().splitlines())
    return sorted(" ".join(line) for line in lines if line[-3].endswith(inode) and str(os.getpid()) in line)
