"""Acknowledged verdicts survive contention, kill -9, a full disk and missing permissions."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cache_samples import contents, execute, old_store, sample, script, storm

from cache.errors import StoreError
from cache.verdicts import database
from cache.verdicts.store import VerdictStore

KEEP_OPEN = """
import sqlite3, sys
keep = sqlite3.connect(sys.argv[1])
keep.execute("SELECT * FROM verdicts").fetchall()
print(flush=True)
input()
"""
TRY_PUT = """
store = VerdictStore(Path(sys.argv[1]))
try:
    store.put(*(sample(number) for number in range(2, 100)))
except StoreError as problem:
    print(problem.message)
    print(problem.hint)
print(store.get(sample(1).key) == sample(1), store.get(sample(2).key) is None)
"""


JOURNALS = pytest.mark.parametrize("network", [(), ("--network",)], ids=["log", "journal"])


@JOURNALS
def test_64_processes_at_once_lose_nothing(tmp_path: Path, network: tuple[str, ...]) -> None:
    """They begin with no store at all, put, see their own entries and each other's whole, and hear of no lock."""
    assert storm(tmp_path, "crowd", "64", *network)["puts"] == 64 * 3
    assert contents(tmp_path / "crowd").keys() == {"verdicts.sqlite"}


@JOURNALS
def test_kills_lose_nothing_acknowledged(tmp_path: Path, network: tuple[str, ...]) -> None:
    """After each of 25 kills among four writers the file is sound and has what its victim was told is stored."""
    assert storm(tmp_path, "kills", "25", *network)["acknowledged"] >= 25


@JOURNALS
def test_kills_leave_no_half_made_store(tmp_path: Path, network: tuple[str, ...]) -> None:
    """After a kill at any moment of the first put there is no store, or a whole one; the next process can write."""
    assert storm(tmp_path, "making", "15", *network)["kills"] == 15


@JOURNALS
def test_kills_leave_no_half_upgraded_store(tmp_path: Path, network: tuple[str, ...]) -> None:
    """After a kill at any moment of an upgrade every entry is there, in the old shape or in the new one."""
    assert storm(tmp_path, "upgrade", "15", *network)["entries"] > 100


def test_first_writers_do_not_replace_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that found no store, and made one while another had, keeps the other's entries."""
    store = VerdictStore(tmp_path / "verdicts.sqlite")
    store.put(sample(1))
    monkeypatch.setattr(Path, "exists", lambda _: False)  # a fake: the moment between look and link is too short
    store.put(sample(2))
    assert len(list(store.entries())) == 2


def test_write_during_a_look_up_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows read without a lock while somebody wrote do not count: they are read again."""
    store = VerdictStore(tmp_path / "verdicts.sqlite")
    store.put(sample(1))
    select, options = database._select, []

    def overtaken(*arguments: Any) -> list[tuple[Any, ...]]:  # a fake: the writer is just in time
        rows = select(*arguments)
        options.append(arguments[2])
        if options == ["immutable=1"]:
            store.put(sample(2))
        return rows

    monkeypatch.setattr(database, "_select", overtaken)
    assert store.get(sample(2).key) == sample(2)
    assert options[-1] == "mode=ro"


def test_patience_lasts_while_others_write(tmp_path: Path) -> None:
    """What finds the store locked is tried again if somebody wrote meanwhile; if nobody did, the error stands."""
    path = tmp_path / "verdicts.sqlite"
    VerdictStore(path).put(sample(1))
    found_locked = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as other:

        def attempt() -> str:
            if found_locked == 3:
                return "written"
            other.execute("INSERT INTO verdicts VALUES (hex(randomblob(999)), '')")  # meanwhile, committed
            other.execute("BEGIN IMMEDIATE")
            try:
                return locked_out()
            finally:
                other.execute("ROLLBACK")

        def locked_out() -> str:
            nonlocal found_locked
            with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as late:
                found_locked += 1
                late.execute("BEGIN IMMEDIATE")
            return "never"

        assert database.patiently(path, attempt) == "written"
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            database.patiently(path, locked_out)
    assert found_locked == 4


def test_write_errors_leave_the_old_content(tmp_path: Path) -> None:
    """When the system refuses to write, put says so, without hanging, and what was stored before is intact."""
    path = tmp_path / "verdicts.sqlite"
    VerdictStore(path).put(sample(1))
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
    message, hint, intact = script(limit + TRY_PUT, path)
    assert "the disk refuses" in message
    assert "free space" in hint
    assert intact == "True True"
    VerdictStore(path).put(sample(2))
    assert len(list(VerdictStore(path).entries())) == 2


def test_first_write_error_makes_no_store(tmp_path: Path) -> None:
    """When not even an empty store can be written, put says so and leaves nothing behind."""
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    message, *_ = script(limit + TRY_PUT, tmp_path / "verdicts.sqlite")
    assert "could not be" in message
    assert contents(tmp_path) == {}


AS_NETWORK = """
from cache import filesystem
filesystem.MOUNTS = Path(sys.argv[1] + ".mounts")  # a fake, for want of a network file system
"""


@pytest.mark.parametrize(
    ("kibibytes", "network"), [*((size, False) for size in range(16, 400, 48)), *((size, True) for size in (64, 208))]
)
def test_full_disk(tmp_path: Path, kibibytes: int, network: bool) -> None:
    """A disk that fills up at any stage of a write gives an error, and what was stored before is intact."""
    VerdictStore(tmp_path / "verdicts.sqlite").put(sample(1))
    (tmp_path / "verdicts.sqlite.mounts").write_text("1 0 0:1 / / rw - nfs4 x rw\n")
    mount = f"mount -t tmpfs -o size={kibibytes}k tmpfs {tmp_path / 'disk'} && "
    mount += f'cp {tmp_path / "verdicts.sqlite"}* {tmp_path / "disk"} && exec "$@"'
    (tmp_path / "disk").mkdir()
    prefix = mounted(mount)
    code = AS_NETWORK * network + TRY_PUT
    message, *_, intact = script(code, tmp_path / "disk" / "verdicts.sqlite", prefix=prefix)
    assert "the disk is full" in message or "the disk refuses" in message
    assert intact == "True True"


def mounted(command: str) -> tuple[str, ...]:
    """What to put before a command that shall see this mount; skips the test where none can be made."""
    prefix = ("unshare", "-m", "sh", "-c", command, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs to mount a disk: run as root, with CAP_SYS_ADMIN in a container")
    return prefix


def test_full_disk_during_an_upgrade(tmp_path: Path) -> None:
    """A store of the first schema that cannot be upgraded for want of space is still read, as it was."""
    old = tmp_path / "verdicts.sqlite"
    old_store(old, [sample(number) for number in (1, *range(200, 300))])
    (tmp_path / "disk").mkdir()
    mount = f"mount -t tmpfs -o size={old.stat().st_size // 1024 + 64}k tmpfs {tmp_path / 'disk'} && "
    mount += f'cp {old} {tmp_path / "disk"} && exec "$@"'
    message, *_, intact = script(TRY_PUT, tmp_path / "disk" / old.name, prefix=mounted(mount))
    assert "the disk is full" in message or "the disk refuses" in message
    assert intact == "True True"


def test_read_only_disk(tmp_path: Path) -> None:
    """On a disk that is mounted read-only look-ups work, also for root, and a write says so."""
    VerdictStore(tmp_path / "disk" / "verdicts.sqlite").put(sample(1))
    bound = f"{tmp_path / 'disk'} {tmp_path / 'disk'}"
    mount = f'mount --bind {bound} && mount -o remount,ro,bind {bound} && exec "$@"'
    message, hint, intact = script(TRY_PUT, tmp_path / "disk" / "verdicts.sqlite", prefix=mounted(mount))
    assert "cannot be" in message
    assert "permissions" in hint
    assert intact == "True True"


@pytest.fixture
def closable(tmp_path: Path) -> Iterator[Path]:
    """A folder whose permissions a test may take away."""
    folder = tmp_path / "closable"
    folder.mkdir()
    yield folder
    folder.chmod(0o755)


def script_held_back(code: str, path: Path) -> list[str]:
    """Run a script as somebody whom permissions hold back: root must give up its privilege to ignore them."""
    if os.geteuid() != 0:
        return script(code, path)
    prefix = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    trial = [*prefix, "test", "!", "-w", "/proc/version"]  # setpriv may ignore silently what it is not allowed
    if shutil.which("setpriv") is None or subprocess.run(trial, check=False).returncode != 0:
        pytest.skip("root ignores permissions: run as an ordinary user, or with util-linux and CAP_SETPCAP")
    return script(code, path, prefix=prefix)


def make_read_only(folder: Path) -> None:
    """Take away the permission to write from a folder and its files."""
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)


def test_read_only_folder(closable: Path) -> None:
    """In a folder that cannot be written look-ups work and write nothing; a write says what is missing."""
    VerdictStore(closable / "verdicts.sqlite").put(sample(1))
    make_read_only(closable)
    before = contents(closable)
    message, hint, intact = script_held_back(TRY_PUT, closable / "verdicts.sqlite")
    assert "cannot be" in message
    assert "permissions" in hint
    assert intact == "True True"
    assert contents(closable) == before


def test_read_only_file(closable: Path) -> None:
    """So it is with a file that cannot be written in a folder that can."""
    path = closable / "verdicts.sqlite"
    VerdictStore(path).put(sample(1))
    path.chmod(0o444)
    before = path.read_bytes()
    message, hint, intact = script_held_back(TRY_PUT, path)
    assert "cannot be written" in message
    assert "permissions" in hint
    assert intact == "True True"
    assert path.read_bytes() == before


def test_read_only_folder_beside_a_writer(closable: Path) -> None:
    """Look-ups without write permission also see what a living writer has only in its log."""
    path = closable / "verdicts.sqlite"
    VerdictStore(path).put(sample(0))
    with subprocess.Popen(
        [sys.executable, "-c", KEEP_OPEN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        VerdictStore(path).put(sample(1))
        assert (closable / "verdicts.sqlite-wal").stat().st_size > 0
        make_read_only(closable)
        assert script_held_back(TRY_PUT, path)[-1] == "True True"
        writer.communicate(b"\n")


def test_read_only_folder_with_half_a_log(closable: Path) -> None:
    """A log that cannot be read, as its index was not copied along, is an error: entries in it are not missed."""
    path = closable / "verdicts.sqlite"
    VerdictStore(path).put(sample(1))
    Path(f"{path}-wal").write_bytes(b"frames")
    make_read_only(closable)
    code = "try:\n    VerdictStore(Path(sys.argv[1])).get(sample(1).key)\n"
    code += "except StoreError as problem:\n    print(problem.message)"
    assert "cannot be opened" in script_held_back(code, path)[0]


def test_folder_that_may_not_be_made(closable: Path) -> None:
    """A store in a place that may not be made is an empty store to look-ups, and an error to writes."""
    closable.chmod(0o555)
    message, hint, found = script_held_back(TRY_PUT, closable / "new" / "verdicts.sqlite")
    assert "Permission denied" in message
    assert "--store" in hint
    assert found == "False True"


def test_folder_that_may_not_be_entered(closable: Path) -> None:
    """A store behind a closed door is an error, never an empty store."""
    closed = closable / "closed"
    VerdictStore(closed / "verdicts.sqlite").put(sample(1))
    closed.chmod(0o000)
    code = "try:\n    VerdictStore(Path(sys.argv[1])).get(sample(1).key)\n"
    code += "except StoreError as problem:\n    print(problem.message)"
    assert "Permission denied" in script_held_back(code, closed / "verdicts.sqlite")[0]
    closed.chmod(0o700)


def test_failed_write_ends_its_thread(tmp_path: Path) -> None:
    """After an error no thread and no handle of sqlitedict is left to block the next write."""
    path = tmp_path / "verdicts.sqlite"
    store = VerdictStore(path)
    store.put(sample(1))
    threads = threading.active_count()
    execute(path, "CREATE TRIGGER no BEFORE INSERT ON verdicts BEGIN SELECT RAISE(ABORT, 'no'); END")
    for _ in range(3):
        with pytest.raises(StoreError):
            store.put(sample(2))
    assert threading.active_count() == threads
    execute(path, "DROP TRIGGER no")
    store.put(sample(2))


def test_half_written_put_is_undone(tmp_path: Path) -> None:
    """When the second record of a put fails, the first is not stored either."""
    path = tmp_path / "verdicts.sqlite"
    store = VerdictStore(path)
    store.put(sample(1))
    when = "NEW.key LIKE 'sources:%'"
    execute(path, f"CREATE TRIGGER no BEFORE INSERT ON verdicts WHEN {when} BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreError):
        store.put(sample(2))
    assert list(store.entries()) == [sample(1)]
