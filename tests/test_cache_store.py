"""The store remembers entries under their keys, finds them again, and explains misses."""

import os
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from cache_samples import contents, execute, sample, script
from msgspec.structs import replace

from cache.errors import StoreError
from cache.verdicts import database
from cache.verdicts.store import Entry, VerdictStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store file that does not exist yet, in a folder that does not either."""
    return tmp_path / "data" / "verdicts.sqlite"


def test_put_then_get(path: Path) -> None:
    """What was put comes back equal, from another store object and for exactly its key."""
    entry = sample(1)
    with VerdictStore(path) as store:
        store.put(entry)
    with VerdictStore(path, read_only=True) as store:
        assert store.get(dict(reversed(entry.key.items()))) == entry
        assert store.get(entry.key | {"number": 2}) is None


def test_put_replaces(path: Path) -> None:
    """A key has one entry: the one put last."""
    store = VerdictStore(path)
    store.put(sample())
    newer = replace(sample(), rules="e" * 64)
    store.put(newer)
    assert list(store.entries()) == [newer]


def test_the_latest_change_is_at_hand_until_somebody_writes(path: Path) -> None:
    """Whoever it is: another object, a process that holds a log open, a transaction that has not ended."""
    store, other = VerdictStore(path), VerdictStore(path)
    assert (store.newest_change(), store.change_at_hand()) == (0, None)
    other.put(sample(1))
    wait_until_settled(path)
    number = store.newest_change()
    assert store.change_at_hand() == number > 0
    other.put(sample(2))
    assert store.change_at_hand() is None
    wait_until_settled(path)
    assert store.newest_change() > number
    assert store.change_at_hand() == store.newest_change()
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO verdicts VALUES ('x', 'y')")
        writer.commit()
        assert store.change_at_hand() is None
        store.newest_change()
        assert store.change_at_hand() is None, "the log lies beside the store"


def test_the_latest_change_of_an_exchanged_file_is_not_at_hand(path: Path, tmp_path: Path) -> None:
    """Another store in its place, behind a link too, or none at all."""
    first, second, link = path, tmp_path / "second.sqlite", tmp_path / "link.sqlite"
    for file in (first, second):
        VerdictStore(file).put(sample())
        wait_until_settled(file)
    link.symlink_to(first)
    store = VerdictStore(link)
    store.newest_change()
    assert store.change_at_hand()
    link.unlink()
    assert store.change_at_hand() is None
    link.symlink_to(second)
    assert store.change_at_hand() is None


def test_a_change_of_a_moment_ago_is_not_at_hand(path: Path) -> None:
    """A write of the same tick of the kernel's clock could look the same."""
    store = VerdictStore(path)
    store.put(sample())
    os.utime(path, ns=(time.time_ns() + 10**6,) * 2)  # as if it was written while it is read
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database.time, "time_ns", lambda: path.stat().st_mtime_ns)
        assert database.unwritten(path) is None
    wait_until_settled(path)
    assert database.unwritten(path) is not None


def wait_until_settled(path: Path) -> None:
    """Until a later write is sure to be seen."""
    while time.time_ns() - path.stat().st_mtime_ns < database._TICK:
        time.sleep(0.005)


def test_merge_asks_about_each_entry(path: Path) -> None:
    """What is stored for the same key is shown beside the new entry, and the answer decides."""
    store = VerdictStore(path)
    store.put(sample(1), sample(2))
    newer = [replace(sample(number), rules="e" * 64) for number in (1, 2, 3)]
    asked = []

    def wanted(stored: Entry | None, new: Entry) -> bool:
        asked.append((stored, new))
        return new.key["number"] != 2

    store.merge(newer, wanted)
    assert asked == list(zip([sample(1), sample(2), None], newer, strict=True))
    assert [store.get(entry.key) for entry in newer] == [newer[0], sample(2), newer[2]]


def test_merge_keeps_the_file_list_of_a_probe(path: Path) -> None:
    """An entry of another build of one version adds its verdict; the files to hash stay the latest probe's."""
    store = VerdictStore(path)
    store.put(sample())
    other = replace(sample(), key=sample().key | {"sources": "f" * 64}, sources={"vllm/new.py": "f" * 64})
    store.merge([other], lambda stored, _: stored is None)
    assert store.get(other.key) == other
    assert store.sources(sample().key) == tuple(sorted(sample().sources))
    assert {entry.digest for entry in store.of_architecture("MixtralForCausalLM")} == {other.digest, sample().digest}


@pytest.mark.parametrize("damage", ["'{}'", "x'80'", "CAST(x'ff' AS TEXT)"])
def test_merge_stores_nothing_if_a_stored_entry_is_damaged(path: Path, damage: str) -> None:
    """The damaged one is named, and the others of the same merge are not stored either."""
    store = VerdictStore(path)
    store.put(sample(1))
    execute(path, f"UPDATE verdicts SET value = {damage} WHERE key LIKE 'verdict:%'")  # noqa: S608  a constant
    with pytest.raises(StoreError, match=sample(1).digest):
        store.merge([sample(2), sample(1)], lambda *_: True)
    assert store.get(sample(2).key) is None


def test_missing_file_is_an_empty_store(path: Path) -> None:
    """Looking into a store that does not exist finds nothing and makes neither file nor folder."""
    store = VerdictStore(path)
    key = sample().key
    assert (store.get(key), store.sources(key), store.find("0" * 8), store.forget("0" * 8)) == (None,) * 4
    assert (list(store.entries()), store.nearest(key, key["architecture"])) == ([], None)
    assert not path.parent.exists()


def test_first_put_makes_a_private_folder(path: Path) -> None:
    """The folder made for the store is closed to other users, and holds nothing but the store."""
    VerdictStore(path).put(sample())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_look_ups_write_nothing(path: Path) -> None:
    """Looking up leaves the folder as it was, to the byte: no log, no lock, no changed header."""
    store = VerdictStore(path)
    store.put(sample(1), sample(2))
    before = contents(path.parent)
    store.get(sample(1).key)
    store.nearest(sample(3).key, "MixtralForCausalLM")
    list(store.entries())
    assert contents(path.parent) == before


def test_look_up_stays_light(path: Path) -> None:
    """A look-up loads neither sqlitedict nor logging and starts no thread."""
    VerdictStore(path).put(sample())
    code = "import threading\nassert VerdictStore(Path(sys.argv[1])).get(sample().key)\n"
    code += "print('sqlitedict' in sys.modules, 'logging' in sys.modules, threading.active_count())"
    assert script(code, path) == ["False False 1"]


def test_read_only_refuses_writes(path: Path) -> None:
    """A store opened for reading refuses to remember and to forget."""
    VerdictStore(path).put(sample())
    store = VerdictStore(path, read_only=True)
    for write in (lambda: store.put(sample(2)), lambda: store.forget(sample().digest)):
        with pytest.raises(StoreError, match="reading only"):
            write()


def test_sources_are_found_without_the_sources_factor(path: Path) -> None:
    """The files to hash again are found by the other factors, which is how a full key is made."""
    store = VerdictStore(path)
    store.put(sample(1))
    base = {name: value for name, value in sample(1).key.items() if name != "sources"}
    assert store.sources(base) == ("vllm/layer.py", "vllm/model_executor/models/mixtral.py")
    assert store.sources(base | {"number": 2}) is None


def test_latest_file_list_counts(path: Path) -> None:
    """When the same factors are probed again with other files, the latest list is the one to hash."""
    store = VerdictStore(path)
    store.put(sample())
    store.put(replace(sample(), key=sample().key | {"sources": "f" * 64}, sources={"vllm/new.py": "f" * 64}))
    assert store.sources(sample().key) == ("vllm/new.py",)


def test_find_and_forget_by_prefix(path: Path) -> None:
    """Four characters of a digest name an entry, in upper or lower case; forgetting removes that one alone."""
    store = VerdictStore(path)
    store.put(sample(1), sample(2))
    prefix = sample(1).digest[:4]
    assert store.find(prefix.upper()) == sample(1)
    assert store.forget(prefix) == sample(1).digest
    assert (store.find(prefix), store.forget(prefix)) == (None, None)
    assert list(store.entries()) == [sample(2)]


@pytest.mark.parametrize("prefix", ["", "abc", "verdict:", "????????", "********", "0123456z"])
def test_bad_prefixes_are_refused(path: Path, prefix: str) -> None:
    """Less than four hexadecimal characters, or other ones, never select an entry by accident."""
    store = VerdictStore(path)
    store.put(sample())
    with pytest.raises(StoreError, match="not a digest"):
        store.forget(prefix)


def test_ambiguous_prefix_is_refused(path: Path) -> None:
    """A prefix that two digests share removes neither."""
    store = VerdictStore(path)
    store.put(sample())
    twin = f"verdict:Other:{sample().digest[:8]}".ljust(len("verdict:Other:") + 64, "0")
    execute(path, "INSERT INTO verdicts VALUES (?, '{}')", twin)
    with pytest.raises(StoreError, match="Several") as raised:
        store.forget(sample().digest[:8])
    assert f"{sample().digest[:12]}  MixtralForCausalLM" in raised.value.hint
    assert f"{sample().digest[:8]}0000  Other" in raised.value.hint
    assert store.get(sample().key) == sample()


def test_odd_architectures_stay_apart(path: Path) -> None:
    """An architecture is foreign text: colons, wildcards, digits and half surrogate pairs change nothing."""
    names = ["A", "A:B", "*", "deadbeef" * 8, "\ud800", "Ä/../x", "a" * 5000]
    store = VerdictStore(path)
    store.put(*(sample(architecture=name) for name in names))
    for name in names:
        entry = sample(architecture=name)
        assert store.get(entry.key) == entry
        assert store.nearest(entry.key, name) == (entry, ())
        assert store.find(entry.digest[:12]) == entry
    assert store.find("deadbeef") is None


def test_entries_of_many_pages(path: Path) -> None:
    """Listing gives every entry once, ordered by architecture and digest, however many there are."""
    expected = [sample(number, f"Model{number % 3}") for number in range(250)]
    VerdictStore(path).put(*expected)
    listed = [(entry.key["architecture"], entry.digest) for entry in VerdictStore(path).entries()]
    assert listed == sorted((entry.key["architecture"], entry.digest) for entry in expected)


def test_nearest_has_fewest_differences(path: Path) -> None:
    """A miss is explained by the entry with the fewest differing factors; of equals, by the latest probed."""
    older = replace(sample(1, vllm="1", torch="1"), probed_at="2026-01-01T00:00:00+00:00")
    newer = replace(sample(2, vllm="1", torch="1"), probed_at="2026-01-02T00:00:00+00:00")
    store = VerdictStore(path)
    store.put(newer, older, sample(3, vllm="2", torch="2"), sample(9, "Other", vllm="2", torch="1"))
    asked = sample(9, vllm="2", torch="1").key
    assert store.nearest(asked, "MixtralForCausalLM") == (sample(3, vllm="2", torch="2"), ("number", "torch"))
    asked = sample(9, vllm="1", torch="1").key
    assert store.nearest(asked, "MixtralForCausalLM") == (newer, ("number",))


def test_nearest_passes_other_architectures_over(path: Path) -> None:
    """A hundred thousand entries of other architectures are not decoded to explain a miss: they are damaged."""
    store = VerdictStore(path)
    store.put(sample(1))
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) "
    rows += "INSERT INTO verdicts SELECT 'verdict:Other:' || printf('%064x', i), 'damaged' FROM n"
    execute(path, rows)
    assert store.nearest(sample(2).key, "MixtralForCausalLM") == (sample(1), ("number",))


def test_store_beside_an_open_handle(path: Path) -> None:
    """A handle that another program keeps open, with a log beside the file, stops neither look-ups nor writes."""
    code = "import sqlite3\nother = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
    code += "other.execute('INSERT INTO verdicts VALUES (1, 2)')\n"
    code += "assert Path(sys.argv[1] + '-wal').stat().st_size\nstore = VerdictStore(Path(sys.argv[1]))\n"
    code += "store.put(sample(2))\nprint(store.get(sample(1).key) == sample(1), store.get(sample(2).key) == sample(2))"
    VerdictStore(path).put(sample(1))
    assert script(code, path) == ["True True"]


def test_store_serves_threads(path: Path) -> None:
    """One store object may be used by several threads at once."""
    store = VerdictStore(path)
    threads = [threading.Thread(target=store.put, args=[sample(number)]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(store.entries())) == 4


@pytest.mark.parametrize("seconds", [-(10**9), -3600, 0, 3600, 10**9])
def test_the_clock_may_go_either_way(path: Path, seconds: int) -> None:
    """A file that was written in the future, or long ago, is read and written like any other."""
    store = VerdictStore(path)
    store.put(sample(1))
    for number in (2, 3):
        os.utime(path, (time.time() + seconds, time.time() + seconds))
        assert store.get(sample(1).key) == sample(1)
        store.put(sample(number))
        assert store.get(sample(number).key) == sample(number)


def test_the_last_put_counts_whatever_its_time(path: Path) -> None:
    """An entry that was probed later by a clock that went back replaces one of the same key all the same."""
    store = VerdictStore(path)
    store.put(replace(sample(), probed_at="2038-01-01T00:00:00+00:00"))
    store.put(replace(sample(), probed_at="2026-01-01T00:00:00+00:00"))
    assert [entry.probed_at for entry in store.entries()] == ["2026-01-01T00:00:00+00:00"]


def test_a_look_up_waits_until_a_write_would_show(path: Path) -> None:
    """The kernel's clock goes in steps: two writes within one leave the same time on the file."""
    VerdictStore(path).put(sample())
    path.touch()
    state = database._State.settled(path)
    assert time.time_ns() - state.modified > 10_000_000


def test_odd_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths, links, and characters that mean something in a URI name the file they say."""
    monkeypatch.chdir(tmp_path)
    VerdictStore(Path("a?b#c%20 d")).put(sample())
    Path("link").symlink_to("a?b#c%20 d")
    VerdictStore(Path("link")).put(sample(2))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a?b#c%20 d", "link"]
    assert len(list(VerdictStore(tmp_path / "a?b#c%20 d").entries())) == 2


def test_entry_round_trip() -> None:
    """An entry written as a dictionary is read back equal, and its digest is that of its key."""
    entry = sample()
    assert Entry.from_dict(entry.to_dict()) == entry
    assert len(entry.digest) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"key": []},
        {"key": {}},
        {"key": {"architecture": 7}},
        {"key": {"architecture": ""}},
        {"sources": {"a.py": 1}},
        {"sources": ["a.py"]},
        {"report": None},
        {"report": {1: 2}},
        {"verdict": "uniform"},
        {"rules": 1},
        {"probed_at": 0},
        {"probed_at": "yesterday"},
        {"probed_at": "2026-11-22T10:00:00"},
        {"probed_at": "2026-11-22T10:00:00+02:00"},
        {"more": 1},
    ],
)
def test_wrong_types_make_no_entry(change: dict[str, object]) -> None:
    """A field of the wrong type, a time that is not in UTC, or an unknown field is refused."""
    with pytest.raises(StoreError, match="not a verdict entry"):
        Entry.from_dict(sample().to_dict() | change)


def test_missing_fields_make_no_entry() -> None:
    """An entry must have all its fields."""
    data = sample().to_dict()
    del data["rules"]
    with pytest.raises(StoreError, match="rules"):
        Entry.from_dict(data)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes"])
def test_what_json_lacks_is_not_stored(path: Path, value: object) -> None:
    """A report that JSON cannot hold is refused before anything is written."""
    with pytest.raises(StoreError, match="cannot be stored"):
        VerdictStore(path).put(sample(1), replace(sample(2), report={"value": value}))
    assert not path.exists()


# ---- several names


def test_a_store_with_two_names_is_refused(tmp_path: Path) -> None:
    """By either name, to read and to write: each would have a log of its own, and one would undo the other."""
    first, second = tmp_path / "m.db", tmp_path / "h.db"
    VerdictStore(first).put(sample())
    second.hardlink_to(first)
    for name in (first, second):
        with pytest.raises(StoreError, match="has 2 names") as caught:
            list(VerdictStore(name).entries())
        assert "symbolic link" in caught.value.hint
        with pytest.raises(StoreError, match="has 2 names"):
            VerdictStore(name).put(sample())
    second.unlink()
    second.symlink_to(first)
    assert len(list(VerdictStore(second).entries())) == 1


def test_a_draft_that_goes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process removes its draft between the look at the names and the look at the draft."""
    store, second = tmp_path / "m.db", tmp_path / "h.db"
    VerdictStore(store).put(sample())
    second.hardlink_to(store)

    def glob(folder: Path, _: str) -> list[Path]:
        second.unlink(missing_ok=True)
        return [folder / ".new-store-gone" / store.name]

    monkeypatch.setattr(Path, "glob", glob)
    assert len(list(VerdictStore(store).entries())) == 1


def test_the_draft_of_a_killed_process_is_no_second_name(tmp_path: Path) -> None:
    """A store that was made in that moment is read and written."""
    store = tmp_path / "m.db"
    VerdictStore(store).put(sample())
    draft = tmp_path / ".new-store-killed" / store.name
    draft.parent.mkdir()
    draft.hardlink_to(store)
    VerdictStore(store).put(sample())
    assert len(list(VerdictStore(store).entries())) == 1
