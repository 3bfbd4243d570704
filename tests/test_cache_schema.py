"""A store of every earlier schema is read as it is, and upgraded by the first write: whole, or not at all."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from cache_samples import contents, execute, old_store, sample

from cache.errors import StoreError
from cache.verdicts import schema
from cache.verdicts.database import require_store
from cache.verdicts.row import sources_row, verdict_row
from cache.verdicts.schema import SCHEMA, sealed, unsealed
from cache.verdicts.store import VerdictStore

ENTRIES = [sample(number) for number in range(1, 4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of the first schema."""
    path = tmp_path / "verdicts.sqlite"
    old_store(path, ENTRIES)
    return path


def schema_in(path: Path) -> str:
    """The schema's number as it stands in the file."""
    ((value,),) = execute(path, "SELECT value FROM verdicts WHERE key = 'schema'")
    return str(value)


def shapes(path: Path) -> set[bool]:
    """Whether the records begin with a checksum."""
    values = execute(path, "SELECT value FROM verdicts WHERE key <> 'schema'")
    return {value[64:65] == " " for (value,) in values}


def test_every_earlier_schema_has_its_step() -> None:
    """From each number there is one step to the next, up to this release's."""
    assert sorted(schema._STEPS) == list(range(1, SCHEMA))


def test_an_older_store_is_read_without_being_written(path: Path) -> None:
    """All look-ups work on the first shape, and leave the file as it was."""
    before = contents(path.parent)
    store = VerdictStore(path)
    assert list(store.entries()) == sorted(ENTRIES, key=lambda entry: entry.digest)
    assert store.get(ENTRIES[0].key) == ENTRIES[0]
    assert store.find(ENTRIES[1].digest[:10]) == ENTRIES[1]
    assert store.sources(ENTRIES[2].key) == tuple(sorted(ENTRIES[2].sources))
    assert store.nearest(sample(9).key, "MixtralForCausalLM") is not None
    assert contents(path.parent) == before


@pytest.mark.parametrize("write", ["put", "merge", "forget"])
def test_the_first_write_upgrades(path: Path, write: str) -> None:
    """Whichever it is; every entry is there as it was, now under a checksum."""
    store = VerdictStore(path)
    if write == "put":
        store.put(sample(9))
    elif write == "merge":
        store.merge([sample(9)], lambda stored, _: stored is None)
    else:
        store.put(sample(9))
        store.forget(sample(9).digest)
    expected = ENTRIES if write == "forget" else [*ENTRIES, sample(9)]
    assert list(store.entries()) == sorted(expected, key=lambda entry: entry.digest)
    assert store.sources(ENTRIES[0].key) == tuple(sorted(ENTRIES[0].sources))
    assert (schema_in(path), shapes(path)) == (str(SCHEMA), {True})
    assert execute(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_damaged_record_stays_a_damaged_record(path: Path) -> None:
    """An upgrade neither stops at what it cannot read nor makes a record of it; the others are upgraded."""
    damage = ["{", "{}", b"\x80", None, 7, "CAST(x'ff' AS TEXT)"]
    for number, value in enumerate(damage):
        name = f"verdict:Broken:{number:064x}"
        if number == len(damage) - 1:
            execute(path, f"INSERT INTO verdicts VALUES (?, {value})", name)  # noqa: S608  a constant
        else:
            execute(path, "INSERT INTO verdicts VALUES (?, ?)", name, value)
    store = VerdictStore(path)
    store.put(sample(9))
    assert schema_in(path) == str(SCHEMA)
    for number in range(len(damage)):
        with pytest.raises(StoreError, match="damaged"):
            store.find(f"{number:064x}")
        assert store.forget(f"{number:064x}")
    assert [entry.key["number"] for entry in store.entries()] == [
        entry.key["number"] for entry in sorted([*ENTRIES, sample(9)], key=lambda entry: entry.digest)
    ]


def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    """When a row cannot be written, no row is, and the store is read as before."""
    execute(path, "CREATE TRIGGER no BEFORE INSERT ON verdicts BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreError, match="no"):
        VerdictStore(path).put(sample(9))
    assert (schema_in(path), shapes(path)) == ("1", {False})
    assert VerdictStore(path).get(ENTRIES[0].key) == ENTRIES[0]


def test_a_newer_release_between_question_and_write_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that is upgraded by a newer release after it was looked at is not written."""
    VerdictStore(path).put(sample(9))

    def overtaken(looked_at: Path) -> None:  # a fake: the other is just in time
        require_store(looked_at)
        execute(path, "UPDATE verdicts SET value = ? WHERE key = 'schema'", str(SCHEMA + 1))

    monkeypatch.setattr("cache.verdicts.store.require_store", overtaken)
    with pytest.raises(StoreError, match="newer release"):
        VerdictStore(path).put(sample(10))
    assert execute(path, "SELECT 1 FROM verdicts WHERE key = ?", verdict_row(sample(10).key)) == []


def test_an_older_release_refuses_this_one(path: Path) -> None:
    """The number is where the first releases look for it, and higher than theirs."""
    VerdictStore(path).put(sample(9))
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT value FROM verdicts WHERE key = 'schema'").fetchall()
    assert [int(value) for (value,) in rows] == [SCHEMA]
    assert SCHEMA > 1


def test_a_checksum_is_of_name_and_text() -> None:
    """The text of another record is not taken for this one's."""
    row, other = verdict_row(sample(1).key), sources_row(sample(1).key)
    value = sealed(row, "{}").encode()
    assert unsealed(row, value, SCHEMA) == b"{}"
    for changed in (value[:-1], value + b" ", value[1:], value.replace(b" ", b"\t"), value.upper(), b"", b"{}"):
        with pytest.raises(ValueError, match="checksum"):
            unsealed(row, changed, SCHEMA)
    with pytest.raises(ValueError, match="checksum"):
        unsealed(other, value, SCHEMA)
