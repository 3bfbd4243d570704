"""Acknowledged verdicts survive contention, kill -9, a full disk and missing permissions."""

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cache_samples import contents, environment, execute, sample, script

from cache import database
from cache.errors import StoreError
from cache.store import VerdictStore

PUT_MANY = """
store = VerdictStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 25):
    store.put(sample(number))
    assert store.get(sample(number).key)
"""
PUT_FOR_EVER = """
import sys
from pathlib import Path
from cache.store import VerdictStore
from cache_samples import sample
store = VerdictStore(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    store.put(sample(number))
    print(number, flush=True)
    number += 1
"""
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


def test_eight_writers_lose_nothing(tmp_path: Path) -> None:
    """Eight processes that begin with no store at all and put at once succeed, see their own, and lose nothing."""
    path = tmp_path / "new" / "verdicts.sqlite"
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda first: script(PUT_MANY, path, first), range(0, 200, 25))) == [[]] * 8
    assert {entry.key["number"] for entry in VerdictStore(path).entries()} == set(range(200))
    assert contents(path.parent).keys() == {path.name}


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


def test_kill_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """After each of twenty kills in the middle of writing, the file is sound and has every acknowledged entry."""
    path = tmp_path / "verdicts.sqlite"
    acknowledged: set[int] = set()
    dice = random.Random(7)  # noqa: S311  no secret
    for kill in range(20):
        acknowledged.update(_put_until_killed(path, kill * 100_000, dice))
        stored = {entry.key["number"] for entry in VerdictStore(path).entries()}
        assert acknowledged <= stored
    assert execute(path, "PRAGMA integrity_check") == [("ok",)]
    assert len(acknowledged) > 20


def _put_until_killed(path: Path, first: int, dice: random.Random) -> list[int]:
    command = [sys.executable, "-c", PUT_FOR_EVER, str(path), str(first)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as writer:
        assert writer.stdout is not None
        numbers = [int(writer.stdout.readline())]
        threading.Timer(dice.uniform(0, 0.1), writer.send_signal, [signal.SIGKILL]).start()
        numbers += [int(line) for line in writer.stdout if line.endswith("\n")]
    return numbers


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


@pytest.mark.parametrize("kibibytes", range(16, 400, 48))
def test_full_disk(tmp_path: Path, kibibytes: int) -> None:
    """A disk that fills up at any stage of a write gives an error, and what was stored before is intact."""
    VerdictStore(tmp_path / "verdicts.sqlite").put(sample(1))
    mount = f"mount -t tmpfs -o size={kibibytes}k tmpfs {tmp_path / 'disk'} && "
    mount += f'cp {tmp_path / "verdicts.sqlite"} {tmp_path / "disk"} && exec "$@"'
    (tmp_path / "disk").mkdir()
    prefix = ("unshare", "-m", "sh", "-c", mount, "sh")
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs to mount a small disk: run as root, with CAP_SYS_ADMIN in a container")
    message, *_, intact = script(TRY_PUT, tmp_path / "disk" / "verdicts.sqlite", prefix=prefix)
    assert "the disk is full" in message or "the disk refuses" in message
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
