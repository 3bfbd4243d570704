"""FlashInfer's autotune trees in a cache root: listed, judged, pruned, packed and unpacked.

The trees are built by hand after vLLM's source (`tuned_samples.py`): no tree of a real FlashInfer was seen.
"""

import json
import time
from pathlib import Path

import pytest
from archive_samples import RECORD, archive_in, contents, described, plain, saved, tar_of
from compiled_samples import age
from fake_environment import tuner
from msgspec import structs
from tuned_samples import ARCHITECTURE, FLASHINFER, NAME, SHARED, TREE, of_rank, ranked, tree_in, tuned

from cache.compiled.archive.manifest import Manifest
from cache.compiled.autotune import Rank, cold_ranks, ranks_of, tuned_files
from cache.compiled.entry import CacheEntry, EntryKind
from cache.compiled.layout import content_of, read_root
from cache.compiled.publish import publish, staging_folder
from cache.compiled.warm_record import WarmRecord, record_document, write_record

OTHER = f"flashinfer_autotune_cache/0.6.11.post2/103a/{'ab' * 32}"
TWO_RANKS = {
    "config": {
        "parts": {"parallel_config": {"factors": {"tensor_parallel_size": 2, "pipeline_parallel_size": 1}}},
    },
}


def entry_of(root: Path, files: dict[str, bytes]) -> CacheEntry:
    """The entry that these files make."""
    tree_in(root, files)
    (entry,) = read_root(root).entries
    return entry


def record_of(*entries: str, **changes: object) -> WarmRecord:
    """The record of a warm-up that made these trees."""
    return structs.replace(RECORD, entries=entries, **changes)


# ---- what lies there


@pytest.mark.parametrize(
    ("files", "ranks"),
    [({SHARED: tuned()}, ()), (ranked(2), ("0_0", "1_0")), ({of_rank(0, replica=1): tuned()}, ("0_1",))],
)
def test_a_tree_is_an_entry(tmp_path: Path, files: dict[str, bytes], ranks: tuple[str, ...]) -> None:
    """Both layouts are one entry of the kind `autotune`, named by the hash, with the ranks of its files."""
    entry = entry_of(tmp_path, files)
    assert (entry.kind, entry.path, entry.name, entry.ranks) == (EntryKind.AUTOTUNE, TREE, NAME, ranks)
    assert (entry.complete, entry.why, entry.files) == (True, "", len(files))


def test_folders_of_versions_lie_not_beside(tmp_path: Path) -> None:
    """They hold entries; a file that vLLM would not read lies beside them."""
    tree_in(tmp_path, {SHARED: tuned()})
    tree_in(tmp_path, {"x.json": b"{}"}, f"flashinfer_autotune_cache/{FLASHINFER}/{ARCHITECTURE}/copy")
    root = read_root(tmp_path)
    assert [entry.path for entry in root.entries] == [TREE]
    assert [stray.path for stray in root.beside] == [f"flashinfer_autotune_cache/{FLASHINFER}/{ARCHITECTURE}/copy"]


MIXED = {
    "a rank between two others": (
        {of_rank(0): tuned(), of_rank(2): tuned()},
        "mixed: rank 1 is cold, others are warm",
    ),
    "a damaged file": (
        {of_rank(0): tuned(), of_rank(1): b'{"_meta'},
        "mixed: rank 1 is cold, its file is damaged",
    ),
    "another GPU": (
        {of_rank(0): tuned(), of_rank(1): tuned(gpu="NVIDIA B200")},
        "mixed: rank 0 and rank 1 differ in gpu",
    ),
    "another list in what FlashInfer wrote": (
        {of_rank(0): tuned(extra=[1]), of_rank(1): tuned(extra=[2])},
        "mixed: rank 0 and rank 1 differ in extra",
    ),
    "a rank of one replica": (
        ranked(2) | {of_rank(0, replica=1): tuned()},
        "mixed: replicas have files of different numbers of ranks",
    ),
    "no file": ({}, "no tuned kernels in it"),
    "the shared file is damaged": ({SHARED: b"[]"}, f"{SHARED} is damaged"),
}


@pytest.mark.parametrize("case", MIXED)
def test_a_tree_that_not_all_ranks_can_load_is_not_complete(case: str, tmp_path: Path) -> None:
    """The reason names the first rank that is cold."""
    files, why = MIXED[case]
    entry = entry_of(tmp_path, files)
    assert (entry.complete, entry.why) == (False, why)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (
            {of_rank(0): tuned(3), of_rank(1): tuned(5)},
            "rank 0 has 4 kernels, rank 1 has 6: mixed, unless they are stages of a pipeline",
        ),
        (
            {of_rank(8): tuned(), of_rank(9): tuned()},
            "rank 8 is the first: mixed, unless the ranks below it run on another node",
        ),
    ],
)
def test_what_the_folder_does_not_tell_is_not_known(files: dict[str, bytes], why: str, tmp_path: Path) -> None:
    """Stages of a pipeline tune other kernels, and a second node begins with a later rank: neither is a fault."""
    entry = entry_of(tmp_path, files)
    assert (entry.complete, entry.why) == (None, why)


@pytest.mark.parametrize(
    ("files", "ranks", "cold"),
    [
        (ranked(1), 2, [Rank(0, 1)]),
        (ranked(2), 2, []),
        ({}, 2, [Rank(0, 0), Rank(0, 1)]),
        ({of_rank(0): tuned(), of_rank(1): b""}, 2, [Rank(0, 1)]),
        (ranked(2) | {of_rank(2, replica=1): tuned(), of_rank(3, replica=1): tuned()}, 2, []),
        (ranked(2) | {of_rank(3, replica=1): tuned()}, 2, [Rank(1, 2)]),
        (ranked(2) | {of_rank(0, replica=1): tuned()}, 2, [Rank(1, 1)]),
    ],
)
def test_cold_ranks_of_a_launch_are_named(
    files: dict[str, bytes], ranks: int, cold: list[Rank], tmp_path: Path
) -> None:
    """Replicas count their ranks from 0, or go on where the one before ends."""
    tree_in(tmp_path, files)
    (entry,) = read_root(tmp_path).entries
    seen = tuned_files(entry.path, entry.items, lambda item: content_of(tmp_path, item))
    assert cold_ranks(seen, ranks) == cold


@pytest.mark.parametrize(
    ("factors", "ranks"), [(TWO_RANKS, 2), ({}, None), ({"config": 1}, None), ({"config": {"parts": []}}, None)]
)
def test_the_number_of_ranks_is_read_from_factors(factors: dict[str, object], ranks: int | None) -> None:
    """Damaged factors say nothing."""
    assert ranks_of(factors) == ranks


def test_list_shows_a_mixed_tree(tmp_path: Path) -> None:
    """The state says which rank is cold."""
    tree_in(tmp_path, {of_rank(0): tuned(), of_rank(2): tuned()})
    out = tuner("cache", "list", "--cache-root", tmp_path, code=0).out
    assert "autotune  c0e08888381a" in out
    assert "unfinished: mixed: rank 1 is cold, others are warm" in out


def test_a_warm_up_moves_its_tree_into_place(tmp_path: Path) -> None:
    """All files of all ranks with one rename, and the record will name the folder."""
    staging = staging_folder(tmp_path)
    tree_in(staging, ranked(2))
    assert publish(staging, tmp_path) == ([TREE], [])
    assert sorted(path.name for path in (tmp_path / TREE).iterdir()) == [of_rank(0), of_rank(1)]


# ---- what is removed


def test_prune_removes_trees_that_no_record_names(tmp_path: Path) -> None:
    """A tree of another FlashInfer and architecture goes, that of the recorded launch stays."""
    now = time.time()
    tree_in(tmp_path, {SHARED: tuned()})
    tree_in(tmp_path, {SHARED: tuned()}, OTHER)
    age(tmp_path, 3, now)
    write_record(tmp_path, record_of(TREE))
    answer = tuner("cache", "prune", "--cache-root", tmp_path, "--unreachable", "--json", code=0)
    assert [removed["path"] for removed in answer.document["removed"]] == [OTHER]
    assert [entry.path for entry in read_root(tmp_path).entries] == [TREE]


def test_prune_removes_a_mixed_tree(tmp_path: Path) -> None:
    """It goes as what is unfinished does, with the record that names it; a day must have passed."""
    tree_in(tmp_path, {of_rank(0): tuned(), of_rank(1): b""})
    write_record(tmp_path, record_of(TREE))
    assert tuner("cache", "prune", "--cache-root", tmp_path, "--unreachable", "--json", code=0).document["kept"]
    age(tmp_path, 3, time.time())
    answer = tuner("cache", "prune", "--cache-root", tmp_path, "--unreachable", "--json", code=0)
    assert [removed["path"] for removed in answer.document["removed"]] == [TREE]
    assert answer.document["records_removed"] == [f"tuner-warm/{RECORD.digest}.json"]


# ---- what travels


def packed(tmp_path: Path, files: dict[str, bytes], code: int, **changes: object) -> tuple[Path, str]:
    """An archive of a tree with these files, and what is said."""
    root, archive = tmp_path / "from", tmp_path / "c.tar.zst"
    tree_in(root, files)
    write_record(root, record_of(TREE, **changes))
    return archive, tuner("cache", "pack", archive, "--cache-root", root, code=code).err


@pytest.mark.parametrize("files", [{SHARED: tuned()}, ranked(2)])
def test_a_whole_tree_travels(files: dict[str, bytes], tmp_path: Path) -> None:
    """Every file arrives as it was, with its record."""
    archive, _ = packed(tmp_path, files, 0)
    place = ("--cache-root", tmp_path / "to", "--environment", saved(tmp_path))
    answer = tuner("cache", "unpack", archive, *place, "--json", code=0)
    assert answer.document["entries"] == [TREE]
    assert contents(tmp_path / "to") == contents(tmp_path / "from")


def test_a_mixed_tree_is_not_packed(tmp_path: Path) -> None:
    """It says which rank is cold and what to do."""
    archive, message = packed(tmp_path, {of_rank(0): tuned(), of_rank(2): tuned()}, 1)
    assert "mixed: rank 1 is cold, others are warm" in message
    assert "Remove this folder, so that all ranks tune again" in message
    assert not archive.exists()


def test_a_tree_that_lacks_the_last_rank_is_not_packed(tmp_path: Path) -> None:
    """The record's factors say how many ranks the launch has."""
    _, message = packed(tmp_path, ranked(1), 1, factors=TWO_RANKS)
    assert "mixed: rank 1 is cold, others are warm" in message


def test_nothing_is_unpacked_beside_a_mixed_tree(tmp_path: Path) -> None:
    """A tree in place of which some ranks are cold would stay: so nothing of the archive is put there."""
    archive, _ = packed(tmp_path, ranked(2), 0, factors=TWO_RANKS)
    tree_in(tmp_path / "to", ranked(1))
    before = contents(tmp_path / "to")
    place = ("--cache-root", tmp_path / "to", "--environment", saved(tmp_path))
    message = tuner("cache", "unpack", archive, *place, code=1).err
    assert "mixed: rank 1 is cold, others are warm" in message
    assert contents(tmp_path / "to") == before


def test_a_tree_that_is_there_stays(tmp_path: Path) -> None:
    """A whole tree of the same launch is left as it is."""
    archive, _ = packed(tmp_path, ranked(2), 0)
    tree_in(tmp_path / "to", {name: tuned(5) for name in ranked(2)})
    place = ("--cache-root", tmp_path / "to", "--environment", saved(tmp_path))
    answer = tuner("cache", "unpack", archive, *place, "--json", code=0)
    assert answer.document["already_there"] == [TREE]
    content = json.loads((tmp_path / "to" / TREE / of_rank(0)).read_bytes())
    assert len(content) == 7


def test_an_archive_with_a_mixed_tree_is_refused(tmp_path: Path) -> None:
    """One that somebody else wrote is checked as ours are."""
    record = record_of(TREE)
    files = [(f"{TREE}/{of_rank(number)}", tuned()) for number in (0, 2)]
    members = (*files, (f"tuner-warm/{record.digest}.json", json.dumps(record_document(record)).encode()))
    manifest = Manifest(record.made_at, (record,), tuple(described(path, data) for path, data in members))
    archive = archive_in(tmp_path, tar_of(manifest, *plain(*members)))
    place = ("--cache-root", tmp_path / "to", "--environment", saved(tmp_path))
    assert "mixed: rank 1 is cold" in tuner("cache", "unpack", archive, *place, code=1).err
    assert contents(tmp_path / "to") == {}
