"""Damage is reported with a way out, is never a verdict, and nothing planted is ever run."""

import json
import pickle
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cache_samples import contents, execute, plant, rewrite, sample, storm

from cache.errors import StoreError
from cache.verdicts.row import sources_row, verdict_row
from cache.verdicts.schema import SCHEMA
from cache.verdicts.store import VerdictStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store that holds `sample(1)` and `sample(2)`."""
    path = tmp_path / "verdicts.sqlite"
    VerdictStore(path).put(sample(1), sample(2))
    return path


class Payload:
    """Unpickling this makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        """Tell pickle to call `touch`."""
        return Path.touch, (self.target,)


def test_planted_pickle_never_runs(path: Path, tmp_path: Path) -> None:
    """A pickle in place of a verdict, which sqlitedict by itself would run, is reported as damage and forgotten."""
    target = tmp_path / "executed"
    planted = pickle.dumps(Payload(target))
    row = verdict_row(sample(1).key)
    execute(path, "UPDATE verdicts SET value = ? WHERE key = ?", planted, row)
    store = VerdictStore(path)
    for look_up in (
        lambda: store.get(sample(1).key),
        lambda: store.find(sample(1).digest),
        lambda: list(store.entries()),
        lambda: store.nearest(sample(3).key, "MixtralForCausalLM"),
    ):
        with pytest.raises(StoreError, match="damaged"):
            look_up()
    store.put(sample(3))
    assert store.forget(sample(1).digest) == sample(1).digest
    assert not target.exists()


DAMAGE = [
    "",
    "{",
    "[]",
    "null",
    "{}",
    '{"verdict": {"word": "uniform"}}',
    "[" * 100_000,
    b"\xff\xfe",
    b"",
    None,
    7,
    sqlite3.Binary(b'{"key": "\xff"}'),
]


PLANTED = [value for value in DAMAGE if isinstance(value, str)]


@pytest.mark.parametrize("text", PLANTED, ids=lambda text: text[:20])
def test_a_right_checksum_does_not_make_a_verdict(path: Path, text: str) -> None:
    """What is stored under a checksum that is right is validated all the same."""
    plant(path, verdict_row(sample(1).key), text)
    with pytest.raises(StoreError, match="damaged"):
        VerdictStore(path).get(sample(1).key)


def test_a_wrong_type_under_a_right_checksum_is_damage(path: Path) -> None:
    """So is each field of the entry."""
    rewrite(path, sample(1).digest, verdict="uniform")
    with pytest.raises(StoreError, match=r"at `\$\.verdict`"):
        VerdictStore(path).get(sample(1).key)


def test_one_changed_character_is_damage(path: Path) -> None:
    """A record that is still a valid entry, but another one than was stored, is not a verdict."""
    changed = "UPDATE verdicts SET value = replace(value, 'uniform', 'unif0rm')"
    execute(path, changed)
    with pytest.raises(StoreError, match="its checksum is not that of its contents"):
        VerdictStore(path).get(sample(1).key)


@pytest.mark.parametrize(
    "value", DAMAGE, ids=lambda value: repr(bytes(value) if isinstance(value, memoryview) else value)[:20]
)
def test_damaged_verdict_names_its_cure(path: Path, value: object) -> None:
    """A damaged row is an error that names the digest and the command that removes it, and that command works."""
    execute(path, "UPDATE verdicts SET value = ? WHERE key = ?", value, verdict_row(sample(1).key))
    store = VerdictStore(path)
    with pytest.raises(StoreError) as caught:
        store.get(sample(1).key)
    assert sample(1).digest in caught.value.message
    assert f"tuner verdicts forget {sample(1).digest}" in caught.value.hint
    assert store.get(sample(2).key) == sample(2)
    store.forget(sample(1).digest)
    assert list(store.entries()) == [sample(2)]


def test_invalid_text_is_damage(path: Path) -> None:
    """Text that is not UTF-8, which SQLite stores without a word, is damage of its row alone."""
    execute(path, "UPDATE verdicts SET value = CAST(x'7bff7d' AS TEXT) WHERE key = ?", verdict_row(sample(1).key))
    with pytest.raises(StoreError, match="damaged"):
        VerdictStore(path).get(sample(1).key)


def test_swapped_verdict_is_damage(path: Path) -> None:
    """A valid entry under the name of another key is damage, not that key's verdict."""
    swap = "UPDATE verdicts SET value = (SELECT value FROM verdicts WHERE key = ?) WHERE key = ?"
    execute(path, swap, verdict_row(sample(2).key), verdict_row(sample(1).key))
    with pytest.raises(StoreError, match="checksum"):
        VerdictStore(path).get(sample(1).key)
    plant(path, verdict_row(sample(1).key), json.dumps(sample(2).to_dict()))
    with pytest.raises(StoreError, match="another key"):
        VerdictStore(path).get(sample(1).key)


@pytest.mark.parametrize("value", ["{", "{}", "[1]", b"\x80", None])
def test_damaged_file_list_names_its_cure(path: Path, value: object) -> None:
    """A damaged file list is an error, and the command it names removes it."""
    row = sources_row(sample(1).key)
    execute(path, "UPDATE verdicts SET value = ? WHERE key = ?", value, row)
    store = VerdictStore(path)
    with pytest.raises(StoreError) as caught:
        store.sources(sample(1).key)
    named = caught.value.hint.split("forget ")[1][:64]
    assert row.endswith(named)
    assert store.forget(named) == named
    assert store.sources(sample(1).key) is None


def refused(path: Path) -> StoreError:
    """Every operation refuses this file with the same message; the last error is returned."""
    store = VerdictStore(path)
    messages = set()
    operations = (
        lambda: store.get(sample(1).key),
        lambda: store.sources(sample(1).key),
        lambda: store.find(sample(1).digest),
        lambda: list(store.entries()),
        lambda: store.nearest(sample(1).key, "MixtralForCausalLM"),
        lambda: store.put(sample(3)),
        lambda: store.forget(sample(1).digest),
    )
    for operation in operations:
        with pytest.raises(StoreError) as caught:
            operation()
        messages.add(caught.value.message)
    assert len(messages) == 1
    return caught.value


@pytest.mark.parametrize("content", [b"", b"SQLite", b"a note to myself\n" * 1000], ids=["empty", "short", "text"])
def test_other_files_are_left_alone(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that is not an SQLite database is refused, unchanged, and without a traceback of sqlitedict's thread."""
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    problem = refused(path)
    assert "not an SQLite database" in problem.message
    assert "--store" in problem.hint
    assert contents(tmp_path) == {"notes.txt": content}
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [20, 100, 4096, 4097, 8192])
def test_truncated_store_is_left_alone(path: Path, size: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A store cut short is refused, unchanged, with the advice to move it away."""
    path.write_bytes(path.read_bytes()[:size])
    before = contents(path.parent)
    problem = refused(path)
    assert "damaged" in problem.message
    assert "Move the file away" in problem.hint
    assert contents(path.parent) == before
    assert capfd.readouterr() == ("", "")


def test_the_way_out_keeps_the_damaged_store(tmp_path: Path) -> None:
    """The command in the advice keeps the file and its logs as they are; a second time, in another folder."""
    path = tmp_path / "it's a store" / "verdicts.sqlite"
    for folder in ("verdicts.sqlite.damaged", "verdicts.sqlite.damaged-2"):
        VerdictStore(path).put(sample(1))
        path.write_bytes(b"\0" * 5000)
        Path(f"{path}-wal").write_bytes(b"frames")
        before = {name: content for name, content in files_of(path.parent).items() if name.startswith(path.name)}
        command = refused(path).hint.split("`")[1]
        subprocess.run(["sh", "-c", command], check=True)
        assert before.items() <= files_of(path.parent / folder).items()  # a look-up may have made the log's index
        assert VerdictStore(path).get(sample(1).key) is None
    VerdictStore(path).put(sample(2))
    assert list(VerdictStore(path).entries()) == [sample(2)]


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a folder, without the folders in it."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_log_without_its_store_is_not_written_over_a_new_one(path: Path) -> None:
    """The file was removed or moved without its log: nothing is a miss, nothing is made, and the advice works."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("SELECT * FROM verdicts").fetchall()
        VerdictStore(path).put(sample(3))
        log = Path(f"{path}-wal").read_bytes()
    path.unlink()
    Path(f"{path}-wal").write_bytes(log)
    problem = refused(path)
    assert "is gone, but a log of it is still there" in problem.message
    subprocess.run(["sh", "-c", problem.hint.split("`")[1]], check=True)
    VerdictStore(path).put(sample(4))
    assert list(VerdictStore(path).entries()) == [sample(4)]


def test_overwritten_bytes_never_make_a_verdict(tmp_path: Path) -> None:
    """After any stretch of the file was overwritten, an answer is what was stored, an error or a miss."""
    counts = storm(tmp_path, "damage", "250")
    assert counts["answers"] == 750
    assert min(counts["as stored"], counts["errors"]) > 50


def test_newer_schema_is_refused(path: Path) -> None:
    """A store written by a newer release is refused, unchanged, with the advice to upgrade."""
    execute(path, "UPDATE verdicts SET value = ? WHERE key = 'schema'", str(SCHEMA + 1))
    before = contents(path.parent)
    problem = refused(path)
    assert "A newer release wrote the verdict store" in problem.message
    assert f"its schema is {SCHEMA + 1}, and this one reads {SCHEMA}" in problem.message
    assert "Upgrade" in problem.hint
    assert contents(path.parent) == before


@pytest.mark.parametrize("value", ["0", "-1", "true", "2.0", '"1"', "{", b"2", None, 1])
def test_unknown_schema_is_refused(path: Path, value: object) -> None:
    """A schema record that is not a version is not taken for this release's."""
    execute(path, "UPDATE verdicts SET value = ? WHERE key = 'schema'", value)
    if value != b"2":  # bytes that read as the version are the version
        assert "no verdict store" in refused(path).message


def test_other_databases_are_left_alone(tmp_path: Path) -> None:
    """Another program's SQLite database is refused and gets no table of ours."""
    path = tmp_path / "other.sqlite"
    execute(path, "CREATE TABLE other (a)")
    before = contents(tmp_path)
    assert "no verdict store" in refused(path).message
    assert contents(tmp_path) == before


def test_folder_as_path(tmp_path: Path) -> None:
    """A folder in place of the file is refused."""
    assert "is not a file" in refused(tmp_path).message


def test_device_as_path() -> None:
    """A device in place of the file is refused without being read."""
    assert "is not a file" in refused(Path("/dev/null")).message


def test_loop_of_links(tmp_path: Path) -> None:
    """A link to itself is refused."""
    path = tmp_path / "loop"
    path.symlink_to(path)
    assert "cannot be used" in refused(path).message


def test_path_below_a_file(tmp_path: Path) -> None:
    """A path through something that is not a folder is refused."""
    (tmp_path / "file").touch()
    assert "Not a directory" in refused(tmp_path / "file" / "verdicts.sqlite").message


def test_locked_store_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that never finishes is reported after the waiting time; look-ups do not wait for it."""
    monkeypatch.setattr("cache.verdicts.store.BUSY_SECONDS", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        store = VerdictStore(path)
        assert store.get(sample(1).key) == sample(1)
        started = time.monotonic()
        with pytest.raises(StoreError, match="in use") as caught:
            store.put(*(sample(number) for number in range(50)))
        assert time.monotonic() - started < 4  # waited once, not for each record
        assert "Try again" in caught.value.hint
        other.execute("ROLLBACK")
        store.put(sample(3))
