"""A store on a network file system is noticed, said, and written with the journal that works there."""

from pathlib import Path

import pytest
from cache_samples import contents, execute, old_store, sample, script
from fake_environment import MIXTRAL, SETTABLE, serving_in, tuner

from cache import filesystem
from cache.filesystem import mounted_type, network_type
from cache.verdicts.store import VerdictStore

MOUNTS = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:40 / /shares rw,relatime shared:1 master:2 - nfs4 filer:/export rw,vers=4.2
41 40 0:41 / /shares/local rw - xfs /dev/vdb rw
42 27 0:42 / /mnt/two\040words rw - cifs //filer/share rw
43 27 0:43 / /twice rw - nfs filer:/a rw
44 43 0:44 / /twice rw - tmpfs tmpfs rw
45 27 0:45 / /ssh rw - fuse.sshfs me@filer: rw
46 27 0:46 / /layers rw - fuse.fuse-overlayfs fuse-overlayfs rw
47 27 0:47 / /ntfs rw - fuseblk /dev/vdc rw
48 27 0:48 / /guest rw - virtiofs share rw
49 27 0:49 / /blob rw - fuse blobfuse2 rw
"""


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the kernel's table calls NFS: a fake, for want of a server; SQLite works on the real disk."""
    folder = tmp_path / "share"
    folder.mkdir()
    table = tmp_path / "mountinfo"
    table.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n40 27 0:40 / {folder} rw - nfs4 filer:/share rw\n")
    monkeypatch.setattr(filesystem, "MOUNTS", table)
    return folder


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/data/x", "ext4"),
        ("/", "ext4"),
        ("/shares/x", "nfs4"),
        ("/shares", "nfs4"),
        ("/sharess/x", "ext4"),
        ("/shares/local/x", "xfs"),
        ("/shares/locally/x", "nfs4"),
        ("/mnt/two words/x", "cifs"),
        ("/mnt/two", "ext4"),
        ("/twice/x", "tmpfs"),
    ],
)
def test_the_innermost_mount_counts(file: str, kind: str) -> None:
    """Of the mounts above a file; of two at one place the later, which hides the other."""
    assert mounted_type(Path(file), MOUNTS.splitlines()) == kind


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/data/x", None),
        ("/shares/x", "nfs4"),
        ("/ssh/x", "fuse.sshfs"),
        ("/layers/x", None),
        ("/ntfs/x", None),
        ("/guest/x", "virtiofs"),
        ("/blob/x", "fuse"),
    ],
)
def test_what_several_machines_can_mount_is_a_network(
    file: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUSE counts unless it is known as local."""
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "mountinfo")
    (tmp_path / "mountinfo").write_text(MOUNTS)
    assert network_type(Path(file)) == kind


def test_without_the_kernels_table_a_place_counts_as_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc nothing is claimed."""
    monkeypatch.setattr(filesystem, "MOUNTS", tmp_path / "none")
    assert network_type(tmp_path) is None


def test_the_kernels_own_table_is_understood(tmp_path: Path) -> None:
    """The table of this machine names a type for this folder."""
    assert mounted_type(tmp_path.resolve(), filter(None, filesystem.MOUNTS.read_text().split("\n")))


def header_format(path: Path) -> int:
    """How SQLite writes the file: 1 with a rollback journal, 2 with a write-ahead log."""
    return path.read_bytes()[18]


def test_the_journal_follows_the_file_system(network: Path, tmp_path: Path) -> None:
    """A write-ahead log needs memory that machines do not share; elsewhere it is the better one."""
    for folder, expected in ((network, 1), (tmp_path, 2)):
        store = VerdictStore(folder / "verdicts.sqlite")
        store.put(sample(1))
        store.put(sample(2))
        store.merge([sample(3)], lambda *_: True)
        assert header_format(store.path) == expected
        assert {entry.key["number"] for entry in store.entries()} == {1, 2, 3}
        assert store.forget(sample(1).digest)


def test_a_store_that_moved_gets_the_other_journal(network: Path, tmp_path: Path) -> None:
    """At its first write; it is read before as well, and look-ups leave the rollback journal's file as it is."""
    local = VerdictStore(tmp_path / "verdicts.sqlite")
    local.put(sample(1))
    moved = VerdictStore(local.path.rename(network / "verdicts.sqlite"))
    assert moved.get(sample(1).key) == sample(1)
    moved.put(sample(2))
    assert header_format(moved.path) == 1
    before = contents(network)
    assert moved.get(sample(2).key) == sample(2)
    assert contents(network) == before
    back = VerdictStore(moved.path.rename(local.path))
    assert back.get(sample(2).key) == sample(2)
    back.put(sample(3))
    assert header_format(back.path) == 2


def test_a_large_import_does_not_lock_itself_out(network: Path) -> None:
    """More than SQLite keeps in memory: half of it is in the file before the end, where nobody may read."""
    store = VerdictStore(network / "verdicts.sqlite")
    store.put(sample(0))
    entries = [sample(number, padding=20_000) for number in range(400)]
    store.merge(entries, lambda stored, _: stored is None)
    assert [entry.key["number"] for entry in store.entries()].count(0) == 1
    assert store.get(entries[-1].key) == entries[-1]
    store.put(*entries)
    assert store.get(entries[0].key) == entries[0]


def test_an_older_store_is_upgraded_there_too(network: Path) -> None:
    """Its journal changes and its records do."""
    path = network / "verdicts.sqlite"
    old_store(path, [sample(1)])
    assert VerdictStore(path).get(sample(1).key) == sample(1)
    VerdictStore(path).put(sample(2))
    assert (header_format(path), len(list(VerdictStore(path).entries()))) == (1, 2)


HOT = """
import os, sqlite3
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("PRAGMA cache_size=1")
other.execute("BEGIN IMMEDIATE")
other.execute("UPDATE verdicts SET value = value || 'x'")
os._exit(0)  # as kill -9: what was spilled into the file is half of a transaction
"""


def test_half_a_transaction_is_undone_by_a_look_up(network: Path) -> None:
    """What a killed writer left in the file is not damage: the journal has what was there before."""
    store = VerdictStore(network / "verdicts.sqlite")
    store.put(*(sample(number) for number in range(50)))
    script(HOT, store.path)
    assert Path(f"{store.path}-journal").stat().st_size
    assert store.get(sample(1).key) == sample(1)
    assert len(list(store.entries())) == 50
    assert execute(store.path, "PRAGMA integrity_check") == [("ok",)]


def test_the_warning_says_where_and_what(network: Path, tmp_path: Path) -> None:
    """A store on a network file system says so, before there is a file; another has nothing to say."""
    warning = VerdictStore(network / "new" / "verdicts.sqlite").warning
    assert warning is not None
    assert str(network / "new" / "verdicts.sqlite") in warning
    assert "nfs4" in warning
    assert VerdictStore(tmp_path / "verdicts.sqlite").warning is None


def test_whoever_writes_there_is_warned(network: Path, tmp_path: Path) -> None:
    """On stderr, by every command that writes; a look-up says nothing of it."""
    serving, store = serving_in(tmp_path / "env", SETTABLE), network / "verdicts.sqlite"
    (tmp_path / "bundle").write_text("")
    said = f"tuner: The verdict store {store} lies on a network file system (nfs4)"
    for command in (("forget", "0" * 8), ("import", tmp_path / "bundle")):
        assert tuner("verdicts", *command, "--store", store).err.count(said) == 1
    assert said in tuner("probe", tmp_path / "none", "--python", serving.python, "--store", store, code=1).err
    for command in (("verdicts", "list"), ("verdict", MIXTRAL, "--python", serving.python)):
        assert "network" not in tuner(*command, "--store", store).err
