"""`tuner cache pack`: the same cache gives the same bytes, and what must not travel is refused."""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from archive_samples import AOT, FILES, GRAPH, GRAPH_FILES, RECORD, SECOND, cache_in
from fake_environment import tuner
from msgspec import structs

from cache.compiled.archive import write as archive_write
from cache.compiled.warm_record import write_record
from cache.secrets import refused_names

FACTORS = f"{GRAPH}/rank_0_0/backbone/cache_key_factors.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache with two warm-ups."""
    return cache_in(tmp_path / "cache")


def members(archive: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What tarfile itself finds in an archive."""
    data = zstandard.ZstdDecompressor().stream_reader(archive.read_bytes()).read()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def refused(root: Path, *options: object) -> str:
    """What is said of a cache that is not packed; nothing is left beside it."""
    archive = root.parent / "c.tar.zst"
    answer = tuner("cache", "pack", archive, "--cache-root", root, *options, code=1)
    assert not list(root.parent.glob("*.zst*"))
    assert not list(root.parent.glob(".c*"))
    return answer.err


def test_an_archive_holds_a_manifest_and_every_file(root: Path, tmp_path: Path) -> None:
    """The manifest is first and says size, checksum and executable bit of all that follows, in order."""
    answer = tuner("cache", "pack", tmp_path / "c.tar.zst", "--cache-root", root, "--json", code=0)
    (first, text), *rest = members(tmp_path / "c.tar.zst")
    manifest = json.loads(text)
    assert first.name == "manifest.json"
    assert manifest["schema_version"] == 1
    assert manifest["made_at"] == SECOND.made_at
    assert [record["digest"] for record in manifest["records"]] == [RECORD.digest, SECOND.digest]
    said = [(file["path"], file["size"], file["sha256"], file["executable"]) for file in manifest["files"]]
    assert said == [(m.name, len(d), hashlib.sha256(d).hexdigest(), bool(m.mode & 0o100)) for m, d in rest]
    found = {member.name: data for member, data in rest}
    assert {path: data for path, data in found.items() if path.startswith("torch")} == FILES | GRAPH_FILES
    assert list(found) == sorted(found)
    document = answer.document
    assert document["entries"] == sorted([AOT, GRAPH])
    assert document["files"] == len(rest)
    assert document["archive_bytes"] == (tmp_path / "c.tar.zst").stat().st_size


def test_the_same_cache_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    """Neither times, owners, modes of reading nor the order of files on disk count."""
    tuner("cache", "pack", tmp_path / "1.zst", "--cache-root", root, code=0)
    again = cache_in(tmp_path / "elsewhere", SECOND, RECORD)
    for path in again.rglob("*"):
        os.utime(path, (1, 1))
    tuner("cache", "pack", tmp_path / "2.zst", "--cache-root", again, code=0)
    assert (tmp_path / "1.zst").read_bytes() == (tmp_path / "2.zst").read_bytes()
    assert all(m.uid == m.gid == m.mtime == 0 and m.mode in {0o644, 0o755} for m, _ in members(tmp_path / "1.zst"))


def test_an_older_archive_is_replaced(root: Path, tmp_path: Path) -> None:
    """A second run writes over the first, with the permissions of an ordinary new file."""
    (tmp_path / "c.zst").write_bytes(b"older")
    tuner("cache", "pack", tmp_path / "c.zst", "--cache-root", root, code=0)
    assert len(members(tmp_path / "c.zst")) == len(FILES | GRAPH_FILES) + 3
    (tmp_path / "ordinary").touch()
    assert (tmp_path / "c.zst").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_one_record_is_chosen_by_the_start_of_its_digest(root: Path, tmp_path: Path) -> None:
    """Only its entries are packed, and the root comes from VLLM_CACHE_ROOT."""
    env = {"VLLM_CACHE_ROOT": str(root)}
    answer = tuner("cache", "pack", tmp_path / "c.zst", "--record", "aaaa", env=env, code=0)
    names = {member.name for member, _ in members(tmp_path / "c.zst")}
    assert names == {"manifest.json", f"tuner-warm/{RECORD.digest}.json", *FILES}
    assert "warm-up aaaaaaaaaaaa of org/tiny: vLLM 0.32.0, torch 2.13.0+cu130, cuda, NVIDIA H100" in answer.out


def test_vllms_own_default_is_the_root(tmp_path: Path) -> None:
    """Without an option and a variable the cache lies where vLLM keeps it."""
    cache_in(tmp_path / ".cache" / "vllm")
    tuner("cache", "pack", tmp_path / "c.zst", env={"HOME": str(tmp_path)}, code=0)
    tuner("cache", "pack", tmp_path / "d.zst", env={"HOME": str(tmp_path), "VLLM_CACHE_ROOT": "~/.cache/vllm"}, code=0)
    assert (tmp_path / "c.zst").read_bytes() == (tmp_path / "d.zst").read_bytes()


def test_a_root_without_records_says_how_to_make_one(tmp_path: Path) -> None:
    """It is an error that names `tuner cache warm`."""
    (tmp_path / "cache").mkdir()
    assert "tuner cache warm" in refused(tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "said"),
    [("cccc", "no records are called"), ("", "no records are called"), ("a" * 65, "no records"), ("no*", "Those in")],
)
def test_a_record_that_is_not_there_is_refused(root: Path, name: str, said: str) -> None:
    """A word for no record is refused, and the records that are there are listed."""
    assert said in refused(root, "--record", name)


def test_a_damaged_record_is_not_left_out_in_silence(root: Path) -> None:
    """Without --record every file among the records must be one."""
    (root / "tuner-warm" / "x.json").write_text("{}")
    assert "tuner-warm/'x.json' is not a record" in refused(root)


def link(root: Path) -> None:
    """Put a symbolic link into an entry."""
    (root / f"{AOT}/inductor_cache/link").symlink_to("/etc/passwd")


def linked_folder(root: Path) -> None:
    """Make an entry a symbolic link."""
    (root / GRAPH).rename(root / "moved")
    (root / GRAPH).symlink_to(root / "moved")


def pipe(root: Path) -> None:
    """Put a pipe into an entry."""
    os.mkfifo(root / f"{AOT}/pipe")


def control_character(root: Path) -> None:
    """Put a file whose name would steer a terminal into an entry."""
    (root / f"{AOT}/\x1b[2J").touch()


def no_text(root: Path) -> None:
    """Put a file whose name is not UTF-8 into an entry."""
    Path(os.fsdecode(os.fsencode(root / AOT) + b"/\xff")).touch()


def missing(root: Path) -> None:
    """Take an entry away."""
    (root / GRAPH).rename(root / "moved")


def empty(root: Path) -> None:
    """Name an entry that holds nothing."""
    (root / "torch_compile_cache" / "ffff").mkdir()
    write_record(root, structs.replace(RECORD, entries=("torch_compile_cache/ffff",)))


def outside(root: Path) -> None:
    """Name an entry that is none."""
    write_record(root, structs.replace(RECORD, entries=("torch_compile_cache/../../etc",)))


def elsewhere(root: Path) -> None:
    """Name a folder beside the compiled ones."""
    (root / "modelinfos").mkdir()
    write_record(root, structs.replace(RECORD, entries=("modelinfos",)))


def inside(root: Path) -> None:
    """Name a folder of another entry."""
    write_record(root, structs.replace(RECORD, entries=(AOT, f"{AOT}/rank_0_0")))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (link, "is a symbolic link"),
        (linked_folder, "0123456789 is a symbolic link"),
        (pipe, "neither a file nor a folder"),
        (control_character, "is not a path in a cache"),
        (no_text, "is not a path in a cache"),
        (missing, "names torch_compile_cache/0123456789, which is not there"),
        (empty, "lists nothing for torch_compile_cache/ffff"),
        (outside, "is not a path in a cache"),
        (elsewhere, "is not a folder in torch_compile_cache/"),
        (inside, "lies in another one"),
    ],
)
def test_what_cannot_travel_is_refused(root: Path, spoil: Callable[[Path], None], said: str) -> None:
    """Links, special files, strange names and entries that are none are errors, and no archive is written."""
    spoil(root)
    assert said in refused(root)


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "HF_TOKEN", "my_secret", "DB_PASSWORD_OLD", "S3_SECRET_ACCESS_KEY"])
def test_a_secret_stays_where_it_is(root: Path, name: str) -> None:
    """The variable is named, its value never."""
    (root / FACTORS).write_text(json.dumps({"env": {name: "hunter2"}}), encoding="utf-8")
    problem = refused(root)
    assert FACTORS in problem
    assert name in problem
    assert "hunter2" not in problem


def test_a_secret_in_a_record_stays_where_it_is(root: Path) -> None:
    """The factors that a record repeats are looked through, too."""
    write_record(root, structs.replace(RECORD, factors={"env": [{"HF_TOKEN": {"value": "hunter2"}}]}))
    assert "holds the value of 'HF_TOKEN'" in refused(root)


def test_factors_that_cannot_be_read_are_refused(root: Path) -> None:
    """What cannot be looked through is not packed."""
    (root / FACTORS).write_text("{", encoding="utf-8")
    assert "cannot be told whether it holds a secret" in refused(root)


@pytest.mark.parametrize(
    "document",
    [
        {"env": {"VLLM_API_KEY": None, "HF_TOKEN": ""}},
        {"env": {"VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE": 163840, "VLLM_USE_FASTOKENS": False}},
        {"config_hash": "abc", "VLLM_API_KEY_FILE": "/run/key"},
        {"sources": {"vllm/models/kda/chunk_intra_token_parallel.py": "0" * 64}},
        {"config": {"tokenizer": "some/model", "tokenizer_mode": "auto"}},
        [],
        None,
    ],
)
def test_what_only_sounds_like_a_secret_is_none(document: Any) -> None:
    """Some variables of vLLM are about tokens of text, and are numbers; some source files are, too."""
    assert not refused_names(document)


def rewritten(path: Path) -> None:
    """Change a file, keeping its size."""
    path.write_bytes(bytes(path.stat().st_size))


def shortened(path: Path) -> None:
    """Cut a file."""
    os.truncate(path, 5)


def lengthened(path: Path) -> None:
    """Add to a file."""
    path.write_bytes(path.read_bytes() + b"more")


def joined(path: Path) -> None:
    """Put another file beside it."""
    path.with_name("new").touch()


def removed(path: Path) -> None:
    """Take it away."""
    path.unlink()


@pytest.mark.parametrize("change", [rewritten, shortened, lengthened, joined, removed])
@pytest.mark.parametrize("moment", ["_write", "_require_unchanged"])
def test_an_entry_that_changes_is_an_error(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], moment: str
) -> None:
    """Whatever changes between the first look and the last is noticed, before and after it was copied."""
    original = getattr(archive_write, moment)

    def changing(*arguments: Any) -> None:
        change(root / AOT / "rank_0_0" / "model")
        original(*arguments)

    monkeypatch.setattr(archive_write, moment, changing)
    problem = refused(root)
    assert "changed while it was packed" in problem or "No such file" in problem


def test_a_record_that_changes_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm-up that ends between the choice and the packing is noticed: the manifest repeats the older record."""
    original = archive_write._listed

    def changing(*arguments: Any) -> archive_write.Listing:
        write_record(root, structs.replace(RECORD, size=1))
        return original(*arguments)

    monkeypatch.setattr(archive_write, "_listed", changing)
    assert "changed while it was packed" in refused(root)


@pytest.mark.parametrize("name", ["no/such/folder.zst", "taken", "n" * 300])
def test_a_place_that_cannot_be_written_is_an_error(root: Path, tmp_path: Path, name: str) -> None:
    """A missing folder, a folder and an endless name are sentences, and nothing is left behind."""
    (tmp_path / "taken").mkdir()
    before = set(tmp_path.rglob("*"))
    answer = tuner("cache", "pack", tmp_path / name, "--cache-root", root, "--json", code=1)
    assert answer.document["error"]["kind"] == "archive"
    assert set(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A root that is a file is one without records."""
    (tmp_path / "file").touch()
    assert "no warm-up is recorded there" in refused(tmp_path / "file")
