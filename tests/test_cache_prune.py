"""`tuner cache prune`: what goes by each criterion, what stays whatever is asked, and how it goes."""

import errno
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from compiled_samples import AOT, AOT_19, AOT_32, BACKBONE, DAY, GRAPHS, age, cache_of, made_file, recorded
from fake_environment import Answer, tuner

from cache.compiled.in_use import HeldFiles, held_files
from cache.compiled.layout import read_root
from cache.compiled.prune import Criteria, Pruning, choose, remove
from rules.errors import TunerError
from tuner.compile_cache import prune as caches
from tuner.compile_cache.size import parse_size

NOW = time.time()
NOBODY = HeldFiles(frozenset(), frozenset(), 0)
UNFINISHED = AOT + "ef" * 32
HOLD = "import sys; f = open(sys.argv[1], 'rb'); print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """All samples, last used 30 (0.19.1), 20 (graphs) and 10 days ago (0.32.0); no records."""
    root = cache_of(tmp_path, "0.19.1", "0.32.0", "graphs", days=30, now=NOW)
    age(root / GRAPHS, 20, NOW)
    age(root / AOT_32, 10, NOW)
    return root


def prune(root: Path, *options: object, code: int = 0) -> Answer:
    """Run the command with a document."""
    return tuner("cache", "prune", "--cache-root", root, "--json", *options, code=code)


def chosen(root: Path, held: HeldFiles = NOBODY, **criteria: object) -> Pruning:
    """The choice alone."""
    return choose(read_root(root), Criteria(**criteria), held, NOW)  # type: ignore[arg-type]


def going(root: Path, held: HeldFiles = NOBODY, **criteria: object) -> list[str]:
    """What would go, in order."""
    return [entry.path for entry in chosen(root, held, **criteria).going]


@contextmanager
def holder(path: Path) -> Iterator[None]:
    """A live process that has a file open."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.communicate("")


def test_nothing_goes_without_a_criterion(root: Path) -> None:
    """It is faulty usage, and says what to give."""
    answer = prune(root, code=2)
    assert answer.document["error"]["kind"] == "usage"
    assert "--older-than" in answer.err
    assert len(read_root(root).entries) == 3
    prune(root, "--dry-run", code=2)


def test_entries_go_by_their_age(root: Path) -> None:
    """Days since the last use, whole or not, the longest unused first; the rest is untouched."""
    assert going(root, older_than=15) == [AOT_19, GRAPHS]
    assert going(root, older_than=30.5) == []
    assert going(root, older_than=9.5) == [AOT_19, GRAPHS, AOT_32]
    os.utime(root / AOT_19 / "rank_0_0/model", (NOW, NOW - 30 * DAY))
    assert going(root, older_than=15) == [GRAPHS]

    document = prune(root, "--older-than", "15").document
    assert [entry["path"] for entry in document["removed"]] == [GRAPHS]
    assert document["freed_bytes"] == 2278
    assert [entry.path for entry in read_root(root).entries] == [AOT_32, AOT_19]
    assert sorted(path.name for path in root.iterdir()) == ["modelinfos", "torch_compile_cache"]


@pytest.mark.parametrize(
    ("limit", "gone"),
    [(0, 3), (76, 3), (77, 2), (77 + 2277, 2), (77 + 2278, 1), (77 + 2278 + 15, 1), (77 + 2278 + 16, 0), (1 << 40, 0)],
)
def test_entries_go_until_the_rest_is_small_enough(root: Path, limit: int, gone: int) -> None:
    """The longest unused first, and none too many; what lies beside entries does not count."""
    assert going(root, max_size=limit) == [AOT_19, GRAPHS, AOT_32][:gone]


def test_criteria_add_to_each_other(root: Path) -> None:
    """What goes by age counts towards the size."""
    assert going(root, older_than=25, max_size=2278 + 77) == [AOT_19]
    assert going(root, older_than=25, max_size=100) == [AOT_19, GRAPHS]


def test_what_no_record_names_is_unreachable(root: Path) -> None:
    """Of entries that are complete, however new."""
    recorded(root, GRAPHS, AOT_32)
    age(root / AOT_19, 0, NOW)
    assert going(root, unreachable=True) == [AOT_19]
    assert chosen(root, unreachable=True).notes == ()


def test_without_records_nothing_is_unreachable(root: Path) -> None:
    """Which is said; so it is where a record is damaged, for it may name any entry."""
    assert going(root, unreachable=True) == []
    answer = prune(root, "--unreachable")
    assert "no warm-up has left a record in this root" in answer.err
    assert "no warm-up has left a record" in answer.document["notes"][0]

    recorded(root, GRAPHS)
    made_file(root / "tuner-warm/bad.json", b"{")
    assert going(root, unreachable=True) == []
    assert "bad.json" in chosen(root, unreachable=True).notes[0]


def test_what_is_unfinished_goes_once_it_is_a_day_old(root: Path) -> None:
    """An entry without its model, temporary names, and folders of warm-ups and removals that were stopped."""
    paths = [UNFINISHED, f"{AOT_32}/rank_0_0/model.7.tmp", ".warming-a", ".removing-b"]
    made_file(root / UNFINISHED / "inductor_cache/x")
    made_file(root / AOT_32 / "rank_0_0/model.7.tmp")
    made_file(root / ".warming-a/torch_compile_cache/0000000000/rank_0_0/x")
    made_file(root / ".removing-b/it/x")
    for path in paths:
        age(root / path, 0.9, NOW)
    young = chosen(root, unreachable=True)
    assert young.going == ()
    assert {entry.path for entry in young.staying} == set(paths)
    for path in paths:
        age(root / path, 1.1, NOW)

    assert set(going(root, unreachable=True)) == set(paths)
    assert set(going(root, older_than=365)) == set()
    prune(root, "--unreachable")
    assert not [path for path in paths if (root / path).exists()]
    assert (root / AOT_32 / "rank_0_0/model").exists()


def test_a_leftover_goes_with_its_entry(root: Path) -> None:
    """And is not counted twice."""
    made_file(root / AOT_19 / "rank_0_0/model.7.tmp")
    age(root / AOT_19, 30, NOW)
    assert going(root, older_than=25, unreachable=True) == [AOT_19]


@pytest.mark.parametrize("criteria", [{"older_than": 0}, {"max_size": 0}, {"unreachable": True}])
def test_an_entry_that_a_start_may_be_filling_stays(root: Path, criteria: dict[str, object]) -> None:
    """Whatever is asked: it has no model, or no graphs yet, and was written today."""
    recorded(root, AOT_19, AOT_32, GRAPHS)
    made_file(root / UNFINISHED / "inductor_cache/x")
    made_file(root / "torch_compile_cache/1111111111/rank_0_0/backbone/cache_key_factors.json", b'{"env": {}}')
    for path in (UNFINISHED, "torch_compile_cache/1111111111"):
        age(root / path, 0.5, NOW)
    made = chosen(root, **criteria)

    assert not {UNFINISHED, "torch_compile_cache/1111111111"} & {entry.path for entry in made.going}
    assert {"torch_compile_cache/1111111111", UNFINISHED} >= {entry.path for entry in made.staying}
    assert all("a start may be filling it" in entry.why for entry in made.staying)


def test_what_a_live_process_has_open_stays(root: Path) -> None:
    """By any of its files, under any of its names; once the process has ended, it goes."""
    os.link(root / BACKBONE / "computation_graph.py", root.parent / "another-name")
    with holder(root.parent / "another-name"):
        document = prune(root, "--max-size", "0").document
        assert [entry["path"] for entry in document["kept"]] == [GRAPHS]
        assert document["kept"][0]["why"].startswith("in use")
        assert [entry["path"] for entry in document["removed"]] == [AOT_19, AOT_32]
    assert [entry["path"] for entry in prune(root, "--max-size", "0").document["removed"]] == [GRAPHS]


def test_what_a_live_process_has_mapped_stays(root: Path) -> None:
    """A library is mapped and its descriptor closed: only /proc/PID/maps tells."""
    library = next((root / AOT_32).rglob("*.so"))
    with library.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    os.close(os.dup(0))
    held = held_files()

    assert held.holds(read_root(root).path, read_root(root).entries[1].items)
    assert str(library) in held.paths
    assert going(root, held, max_size=0) == [AOT_19, GRAPHS]
    mapped.close()


def test_the_staging_folder_of_a_warm_up_at_work_stays(root: Path) -> None:
    """However old, if a process holds a file in it."""
    log = made_file(root / ".warming-a/log")
    age(root / ".warming-a", 3, NOW)
    with holder(log):
        assert [entry["why"] for entry in prune(root, "--unreachable").document["kept"]] == ["in use (unfinished)"]
    assert [entry["path"] for entry in prune(root, "--unreachable").document["removed"]] == [".warming-a"]


def test_processes_that_cannot_be_asked_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's is counted, one that has ended is not."""
    for process in ("1", "2", "self"):
        (tmp_path / process / "fd").mkdir(parents=True)
    (tmp_path / "3").mkdir()
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if path.parent.name == "1":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("cache.compiled.in_use.os.scandir", refusing)
    assert held_files(tmp_path).unseen == 1


def test_a_machine_without_proc_prunes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in use cannot be told there."""
    monkeypatch.setattr(caches, "held_files", lambda: held_files(root / "proc"))
    assert "no /proc" in prune(root, "--max-size", "0", code=1).err
    assert len(read_root(root).entries) == 3


def test_records_go_with_what_they_name(root: Path) -> None:
    """Before it: a record of a launch that would start cold is not true."""
    kept = recorded(root, AOT_32, digest="a1" * 32)
    gone = recorded(root, AOT_19, AOT_32, digest="b2" * 32)
    document = prune(root, "--older-than", "25").document

    assert document["records_removed"] == [f"tuner-warm/{'b2' * 32}.json"]
    assert kept.exists()
    assert not gone.exists()


def test_a_dry_run_removes_nothing(root: Path) -> None:
    """It says the same."""
    record = recorded(root, AOT_19)
    before = sorted(path for path in root.rglob("*"))
    dry = prune(root, "--max-size", "0", "--dry-run").document
    text = tuner("cache", "prune", "--cache-root", root, "--max-size", "0", "--dry-run", code=0).out
    assert sorted(path for path in root.rglob("*")) == before
    assert record.exists()

    real = prune(root, "--max-size", "0").document
    assert (dry.pop("dry_run"), real.pop("dry_run")) == (True, False)
    assert dry == real
    assert [line.partition("  ")[0] for line in text.splitlines()[:-1]] == ["would go"] * 4
    assert text.splitlines()[-1] == "3 things, 2.3 KiB, would go; entries were 2.3 KiB"


def test_a_removal_is_one_rename_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first file is deleted, nothing of the entry is left in its place."""
    seen: list[bool] = []
    rmtree = caches.remove.__globals__["shutil"].rmtree

    def watching(path: Path) -> None:
        seen.append((root / GRAPHS).exists())
        assert path.parent == root
        assert path.name.startswith(".removing-")
        rmtree(path)

    monkeypatch.setattr("cache.compiled.prune.shutil.rmtree", watching)
    remove(root, GRAPHS)
    remove(root, GRAPHS)  # gone already, by another `prune`

    assert seen == [False]
    assert sorted(path.name for path in root.iterdir()) == ["modelinfos", "torch_compile_cache"]


def test_an_entry_on_a_file_system_of_its_own_goes_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume may be mounted below the root: there is no rename across."""
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if target.parent.parent == root:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    made_file(root / "torch_compile_cache/.removing-x/it/file")
    age(root / "torch_compile_cache/.removing-x", 2, NOW)
    gone = prune(root, "--older-than", "15", "--unreachable").document["removed"]

    assert [one["path"] for one in gone] == [AOT_19, GRAPHS, "torch_compile_cache/.removing-x"]
    assert {path.name for path in (root / "torch_compile_cache").iterdir()} == {"torch_aot_compile"}
    assert {path.name for path in (root / AOT).iterdir()} == {Path(AOT_32).name}


def test_links_go_and_what_they_lead_to_stays(root: Path, tmp_path: Path) -> None:
    """Removing an entry removes the link in it, not what is behind."""
    outside = made_file(tmp_path / "outside/file")
    (root / GRAPHS / "out").symlink_to(outside.parent)
    prune(root, "--older-than", "1")
    assert not (root / GRAPHS).exists()
    assert outside.exists()


def test_what_cannot_be_removed_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1; the rest goes, and what failed is whole."""
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if path == root / AOT_19:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    answer = prune(root, "--max-size", "0", code=1)

    assert [entry["path"] for entry in answer.document["failed"]] == [AOT_19]
    assert [entry["path"] for entry in answer.document["removed"]] == [GRAPHS, AOT_32]
    assert f"{AOT_19} stays: Permission denied." in answer.err
    assert (root / AOT_19 / "rank_0_0/model").exists()
    assert not list(root.glob(".removing-*"))


def test_a_folder_that_vanished_is_no_failure(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another `prune` may have been faster."""
    listed = read_root(root)
    (root / GRAPHS).rename(root.parent / "gone")
    monkeypatch.setattr(caches, "read_root", lambda _: listed)
    assert prune(root, "--max-size", "0").document["failed"] == []


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500", 500), ("500b", 500), ("1k", 1024), ("20G", 20 << 30), ("20GiB", 20 << 30), ("1.5T", 3 << 39)],
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    """With or without a unit, in either case."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "nan", "inf", "1E30", "20X", "1 2", "0x10", "20GG"])
def test_what_is_no_size_is_faulty_usage(root: Path, text: str) -> None:
    """Nothing is removed by a slip of the pen."""
    with pytest.raises(TunerError, match="not a size"):
        parse_size(text)
    prune(root, f"--max-size={text}", code=2)
    assert len(read_root(root).entries) == 3


def test_ages_are_not_negative(root: Path) -> None:
    """It is faulty usage, and so is what is not a number."""
    for days in ("-1", "soon"):
        assert tuner("cache", "prune", "--cache-root", root, f"--older-than={days}").code == 2
    assert going(root, older_than=float("nan")) == []
