"""A cache root read into entries: both layouts, damage of every sort, links, and what vanishes meanwhile."""

import json
import os
import time
from pathlib import Path

import pytest
from compiled_samples import AOT, AOT_19, AOT_32, BACKBONE, DAY, GRAPHS, age, cache_of, made_file, recorded

from cache.compiled import files, warm_record
from cache.compiled.entry import CacheEntry, EntryKind
from cache.compiled.files import list_items, noted_reads, read_bytes
from cache.compiled.layout import read_root
from cache.compiled.warm_record import FOLDER, read_records

NOW = time.time()


def only_entry(root: Path) -> CacheEntry:
    """The one entry of a root."""
    (entry,) = read_root(root).entries
    return entry


@pytest.mark.parametrize(
    ("sample", "entry"),
    [
        ("0.19.1", (EntryKind.AOT, AOT_19, ("0_0",), 16, 1)),
        ("0.32.0", (EntryKind.AOT, AOT_32, ("0_0",), 77, 7)),
        ("graphs", (EntryKind.GRAPHS, GRAPHS, ("0_0", "1_0"), 2278, 10)),
    ],
)
def test_each_layout_is_an_entry(tmp_path: Path, sample: str, entry: tuple[object, ...]) -> None:
    """Kind, path, ranks, bytes and files are as they lie there, and all of it is complete."""
    found = only_entry(cache_of(tmp_path, sample, now=NOW))

    assert (found.kind, found.path, found.ranks, found.size, found.files) == entry
    assert found.name == found.path.rpartition("/")[2]
    assert (found.complete, found.why, found.leftovers, found.damaged) == (True, "", (), ())


def test_older_places_and_explicit_folders_are_entries_too(tmp_path: Path) -> None:
    """Up to 0.16 models made ahead of time lie in the root; `tuner serve` may name a folder of its own."""
    old = f"torch_aot_compile/{'ab' * 32}"
    made_file(tmp_path / old / "rank_0_0/model")
    made_file(tmp_path / "tuner" / ("cd" * 16) / "rank_0_0/backbone/vllm_compile_cache.py", b"{}")
    cache = read_root(tmp_path)

    assert [(entry.kind, entry.path) for entry in cache.entries] == [
        (EntryKind.AOT, old),
        (EntryKind.GRAPHS, f"tuner/{'cd' * 16}"),
    ]
    assert cache.beside == ()


def test_names_that_only_look_alike_lie_beside(tmp_path: Path) -> None:
    """A hash of another length, another alphabet, or a file in an entry's place is not an entry."""
    names = ["torch_compile_cache/0a1b2c3d4eff/x", "torch_compile_cache/0A1B2C3D4E/x", "torch_compile_cache/0123456789"]
    for name in [*names, "modelinfos/m.json", "gpu_p2p.json", ".warming-1/torch_compile_cache/0a1b2c3d4e/x"]:
        made_file(tmp_path / name)
    cache = read_root(tmp_path)

    assert cache.entries == ()
    assert [entry.path for entry in cache.beside] == [
        ".warming-1",
        "gpu_p2p.json",
        "modelinfos",
        "torch_compile_cache/0123456789",
        "torch_compile_cache/0A1B2C3D4E",
        "torch_compile_cache/0a1b2c3d4eff",
    ]
    assert sum(entry.size for entry in cache.beside) == 6


def test_times_are_the_oldest_writing_and_the_newest_use(tmp_path: Path) -> None:
    """`made` is the oldest mtime of a file; `used` the newest mtime or atime of one; folders do not count."""
    root = cache_of(tmp_path, "graphs", days=9, now=NOW)
    os.utime(root / BACKBONE / "computation_graph.py", (NOW - 2 * DAY, NOW - 20 * DAY))
    os.utime(root / BACKBONE, (NOW, NOW))
    entry = only_entry(root)

    assert entry.written == pytest.approx(NOW - 20 * DAY, abs=1)
    assert entry.used == pytest.approx(NOW - 2 * DAY, abs=1)


def test_reading_a_root_is_no_use_of_it(tmp_path: Path) -> None:
    """The files that are read keep their time of last use, or `prune` would find everything in use."""
    root = cache_of(tmp_path, "graphs", days=9, now=NOW)
    read_root(root)

    assert only_entry(root).used == pytest.approx(NOW - 9 * DAY, abs=1)


def test_how_well_reads_are_noted_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the file system is mounted: noatime or read-only, relatime, or neither."""
    assert noted_reads(tmp_path) in {"always", "daily", "never"}
    for flags, word in ((os.ST_NOATIME | os.ST_RELATIME, "never"), (os.ST_RELATIME, "daily"), (0, "always")):
        monkeypatch.setattr(files.os, "statvfs", lambda _, flags=flags: type("Told", (), {"f_flag": flags}))
        assert noted_reads(tmp_path) == word


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"env": 3}', b"\xff\x00", b"[" * 100_000, b'{"env": {"A": "' + b"\xc3"]
)
def test_damaged_factors_are_named_and_nothing_more(tmp_path: Path, content: bytes) -> None:
    """An empty, cut or foreign file of factors costs itself alone."""
    root = cache_of(tmp_path, "graphs", now=NOW)
    (root / BACKBONE / "cache_key_factors.json").write_bytes(content)
    entry = only_entry(root)

    assert entry.damaged == ("rank_0_0/backbone/cache_key_factors.json",)
    assert list(entry.factors) == ["rank_1_0/backbone/cache_key_factors.json"]
    assert entry.factors["rank_1_0/backbone/cache_key_factors.json"]["code_hash"] == "c" * 64
    assert entry.complete


def test_a_model_file_must_be_there_for_each_rank(tmp_path: Path) -> None:
    """Without it, or with an empty one, an ahead-of-time entry is unfinished; a temporary name is not a model."""
    root = cache_of(tmp_path, "0.32.0", now=NOW)
    made_file(root / AOT_32 / "rank_1_0/model.4711.tmp")
    entry = only_entry(root)
    (root / AOT_32 / "rank_0_0/model").write_bytes(b"")

    assert (entry.complete, entry.why) == (False, "no model file in rank_1_0")
    assert entry.leftovers == (f"{AOT_32}/rank_1_0/model.4711.tmp",)
    assert only_entry(root).why == "no model file in rank_0_0, rank_1_0"


def test_a_start_that_failed_leaves_an_unfinished_entry(tmp_path: Path) -> None:
    """From 0.20 on Inductor's folder is there before anything is compiled."""
    (tmp_path / AOT / ("ef" * 32) / "inductor_cache").mkdir(parents=True)
    (tmp_path / "torch_compile_cache/0000000000").mkdir()
    graphs, aot = read_root(tmp_path).entries

    assert (aot.complete, aot.why, aot.files, aot.size) == (False, "no model file", 0, 0)
    assert (graphs.complete, graphs.why) == (False, "no file in it")


@pytest.mark.parametrize(
    ("change", "complete", "why"),
    [
        ("no index", False, "graphs without vllm_compile_cache.py"),
        ("cut index", False, "vllm_compile_cache.py is cut"),
        ("no artifact", False, "1 graphs that vllm_compile_cache.py names are missing"),
        ("neither", None, "no graphs of its own in it"),
    ],
)
def test_graphs_are_complete_by_their_index(tmp_path: Path, change: str, complete: bool | None, why: str) -> None:
    """The index is written last; beside a whole compiled model there is neither index nor artifact."""
    root = cache_of(tmp_path, "graphs", now=NOW)
    folder = root / BACKBONE
    index = folder / "vllm_compile_cache.py"
    artifacts = sorted(folder.glob("artifact_*"))
    if change == "cut index":
        index.write_bytes(index.read_bytes()[:100])
    if change in {"no index", "neither"}:
        index.unlink()
    for artifact in {"no artifact": artifacts[:1], "neither": artifacts}.get(change, []):
        artifact.unlink()

    assert (only_entry(root).complete, only_entry(root).why) == (complete, why)


def test_unpacked_artifacts_and_other_forms_of_an_index(tmp_path: Path) -> None:
    """An artifact may be a folder; up to 0.16 a handle is a pair; the older adaptor names keys of Inductor's."""
    folder = tmp_path / BACKBONE
    made_file(folder / "artifact_compile_range_1_64_subgraph_0/fxgraph/ab/cd")
    index = made_file(
        folder / "vllm_compile_cache.py",
        b"{((1, 64), 0, 'inductor_standalone'): ('artifact_compile_range_1_64_subgraph_0', '/x')}\n",
    )
    assert only_entry(tmp_path).complete
    index.write_bytes(b"{((1, 64), 0, 'inductor'): ('f3x2', '/x/inductor_cache/ab/c.py')}")
    assert only_entry(tmp_path).complete


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"schema_version": None},
        {"digest": 7},
        {"torch": 2},
        {"args": "--port"},
        {"entries": [None]},
        {"size": "8"},
        {"factors": []},
        {"cold_seconds": "fast"},
        {"hit": "yes"},
        {"more": 1},
    ],
)
def test_a_record_of_another_shape_is_damaged(changes: dict[str, object], tmp_path: Path) -> None:
    """Each field of a record has one type, and there is no other field."""
    recorded(tmp_path, AOT_32)
    (path,) = (tmp_path / FOLDER).glob("*.json")
    assert read_records(tmp_path)[1] == []
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert read_records(tmp_path) == ([], [path.name])


@pytest.mark.parametrize("name", ["schema_version", "digest", "entries", "size"])
def test_a_record_that_lacks_a_field_is_damaged(name: str, tmp_path: Path) -> None:
    """Nothing is filled in for it."""
    recorded(tmp_path, AOT_32)
    (path,) = (tmp_path / FOLDER).glob("*.json")
    document = json.loads(path.read_text())
    del document[name]
    path.write_text(json.dumps(document))
    assert read_records(tmp_path) == ([], [path.name])


def test_a_record_is_read_as_far_as_it_may_be_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger file is not parsed."""
    recorded(tmp_path, AOT_32)
    (path,) = (tmp_path / FOLDER).glob("*.json")
    monkeypatch.setattr(warm_record, "MAX_RECORD", path.stat().st_size - 1)
    assert read_records(tmp_path) == ([], [path.name])


def test_a_record_says_which_launch_an_entry_belongs_to(tmp_path: Path) -> None:
    """By the entry's path alone; what a record names and is not there is known too."""
    root = cache_of(tmp_path, "0.19.1", "0.32.0", now=NOW)
    recorded(root, AOT_32 + "/", GRAPHS)
    made_file(root / "tuner-warm/damaged.json", b"{")
    cache = read_root(root)
    old, new = cache.entries[1], cache.entries[0]

    assert (old.path, new.path) == (AOT_19, AOT_32)
    assert [record.model for record in cache.launches(new)] == ["org/model"]
    assert cache.launches(old) == []
    assert cache.missing(cache.records[0]) == [GRAPHS]
    assert cache.damaged_records == ("damaged.json",)


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Not in an entry's place, not as a folder of one, not as a file of factors, and not in a circle."""
    outside = made_file(tmp_path / "outside/rank_0_0/model", b"x" * 1000).parents[1]
    secret = made_file(tmp_path / "outside/cache_key_factors.json", b'{"env": {"A": "b"}}')
    root = cache_of(tmp_path, "graphs", now=NOW)
    (root / AOT).mkdir()
    (root / AOT / ("ab" * 32)).symlink_to(outside)
    (root / GRAPHS / "rank_2_0").symlink_to(outside)
    (root / GRAPHS / "circle").symlink_to(root)
    factors = root / BACKBONE / "cache_key_factors.json"
    factors.unlink()
    factors.symlink_to(secret)
    entry = only_entry(root)

    assert (entry.ranks, entry.size) == (("0_0", "1_0"), 2278 - 520)
    assert list(entry.factors) == ["rank_1_0/backbone/cache_key_factors.json"]
    with pytest.raises(OSError, match="symbolic link"):
        read_bytes(factors, 100)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """A pipe in a file's place neither hangs nor counts."""
    root = cache_of(tmp_path, "graphs", now=NOW)
    factors = root / BACKBONE / "cache_key_factors.json"
    factors.unlink()
    os.mkfifo(factors)
    assert only_entry(root).size == 2278 - 520
    with pytest.raises(OSError, match="not a regular file"):
        read_bytes(factors, 100)


def test_what_vanishes_while_it_is_read_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start may rename a file, and another `prune` remove an entry, between two looks."""
    root = cache_of(tmp_path, "0.19.1", "graphs", now=NOW)
    scandir = os.scandir

    def racing(folder: Path) -> object:
        if folder.name == "torch_compile_cache":
            children = scandir(folder)
            (root / GRAPHS).rename(tmp_path / "gone")
            return children
        return scandir(folder)

    monkeypatch.setattr(files.os, "scandir", racing)
    cache = read_root(root)

    assert [entry.path for entry in cache.entries] in ([AOT_19], [GRAPHS, AOT_19])
    assert cache.listing.unread == ()


def test_a_file_that_vanishes_before_it_is_read_is_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry is described by what is left."""
    root = cache_of(tmp_path, "graphs", now=NOW)
    (listing, index) = (list_items(root), root / BACKBONE / "vllm_compile_cache.py")
    index.unlink()
    monkeypatch.setattr("cache.compiled.layout.list_items", lambda _: listing)

    assert only_entry(root).why == "vllm_compile_cache.py cannot be read"
    assert only_entry(root).complete is None


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is read; a root that cannot be read is an error."""
    root = cache_of(tmp_path, "0.19.1", "graphs", now=NOW)
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if folder.name in {"backbone", "closed"}:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(files.os, "scandir", refusing)
    assert read_root(root).listing.unread == (BACKBONE, f"{GRAPHS}/rank_1_0/backbone")
    (tmp_path / "closed").mkdir()
    with pytest.raises(PermissionError):
        read_root(tmp_path / "closed")


def test_names_that_are_no_text_are_read(tmp_path: Path) -> None:
    """A file name may be any bytes."""
    made_file(tmp_path / GRAPHS / os.fsdecode(b"\xff\n\x1b"), b"xyz")
    assert only_entry(tmp_path).size == 3


def test_factors_are_data(tmp_path: Path) -> None:
    """What looks like code in the files is text; nothing of a root is run."""
    mark = tmp_path / "ran"
    root = cache_of(tmp_path, "graphs", now=NOW)
    code = f"open({str(mark)!r}, 'w')"
    (root / BACKBONE / "vllm_compile_cache.py").write_text("{" + code + "}")
    (root / BACKBONE / "computation_graph.py").write_text(code)
    (root / BACKBONE / "cache_key_factors.json").write_text(json.dumps({"env": {"A": code}}))
    age(root, 3, NOW)

    assert only_entry(root).complete
    assert not mark.exists()
