"""`tuner cache unpack`: all of an archive is checked before any of it is seen, and half an entry never is."""

import ast
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard
from archive_samples import (
    AOT,
    ENVIRONMENT,
    GRAPH,
    GRAPH_FILES,
    MANIFEST,
    MEMBERS,
    MODEL_FILE,
    RECORD,
    RECORD_FILE,
    SECOND,
    archive_in,
    cache_in,
    contents,
    described,
    header,
    plain,
    saved,
    tar_of,
)
from fake_environment import INERT, tuner
from fake_environment import serving_in as laid_out
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cache.compiled.archive import unpack as unpacking
from cache.compiled.archive.manifest import (
    MAX_FILES,
    MAX_MANIFEST,
    Manifest,
    PackedFile,
    entries_of,
    manifest_bytes,
    read_manifest,
    record_path,
)
from cache.compiled.archive.read import opened
from cache.compiled.place import HANDLES
from cache.compiled.warm_record import WarmRecord, read_records
from cache.errors import ArchiveError
from rules.errors import TunerError
from tuner.compile_cache.archive import ServingEnvironment, differences, unpack

Member = tuple[tarfile.TarInfo, bytes]


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """An archive with two warm-ups, and beside it the environment where they were made."""
    saved(tmp_path)
    tuner("cache", "pack", tmp_path / "c.zst", "--cache-root", cache_in(tmp_path / "from"), code=0)
    return tmp_path / "c.zst"


def arguments(archive: Path, *options: object) -> list[object]:
    """The command for an archive, beside which the environment is saved, into the folder `to` there."""
    folder = archive.parent
    words = ["cache", "unpack", archive, "--cache-root", folder / "to", "--environment", folder / "environment.json"]
    return [*words, *options]


def refused(folder: Path, tar: bytes) -> str:
    """What is said of an archive by hand, forced or not; nothing of it is unpacked."""
    saved(folder)
    archive = archive_in(folder, tar)
    for option in ([], ["--force"]):
        answer = tuner(*arguments(archive, *option), code=1)
        assert not list(folder.glob("to/*"))
    return answer.err


# ---- what is put in place


def test_a_round_trip_brings_back_every_file(packed: Path, tmp_path: Path) -> None:
    """Entries and records are the same, and nothing else is there."""
    document = tuner(*arguments(packed, "--json"), code=0).document
    assert contents(tmp_path / "to") == contents(tmp_path / "from")
    assert read_records(tmp_path / "to") == ([SECOND, RECORD], [])
    assert document["entries"] == sorted([AOT, GRAPH])
    assert document["records"] == [record_path(RECORD), record_path(SECOND)]
    assert document["already_there"] == document["differences"] == []
    assert [path.name for path in sorted((tmp_path / "to").iterdir())] == ["torch_compile_cache", "tuner-warm"]


def test_graphs_find_their_files_in_the_new_place(tmp_path: Path) -> None:
    """Through 0.31.0 vLLM opens the absolute path that stands in an entry; it leads below the new root."""
    saved(tmp_path)
    root, inside = cache_in(tmp_path / "from"), f"{GRAPH}/rank_0_0/backbone"
    (root / inside / HANDLES).write_text(repr({(1, 0): {"graph_handle": ("artifact", f"{root}/{inside}/artifact")}}))
    tuner("cache", "pack", tmp_path / "a.tar.zst", "--cache-root", root, code=0)
    tuner(*arguments(tmp_path / "a.tar.zst"), code=0)
    found = ast.literal_eval((tmp_path / "to" / inside / HANDLES).read_text())
    assert found == {(1, 0): {"graph_handle": ("artifact", f"{tmp_path / 'to'}/{inside}/artifact")}}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_are_those_of_shared_files(packed: Path, tmp_path: Path, umask: int) -> None:
    """Whatever the umask: another user may run the server. Only what was executable is."""
    before = os.umask(umask)
    try:
        tuner(*arguments(packed), code=0)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o7777 for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert {path.name for path, mode in modes.items() if mode == 0o755} == {"kernel.so"}
    assert set(modes.values()) == {0o644, 0o755}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "to" / AOT).rglob("*") if path.is_dir()} == {0o755}


def test_what_is_there_already_stays(packed: Path, tmp_path: Path) -> None:
    """An entry and a record of the same names are left as they are and reported; the rest is unpacked."""
    ours = {f"{AOT}/rank_0_0/model": b"ours", record_path(RECORD): b"ours too"}
    for path, data in ours.items():
        (tmp_path / "to" / path).parent.mkdir(parents=True)
        (tmp_path / "to" / path).write_bytes(data)
    answer = tuner(*arguments(packed), code=0)
    assert contents(tmp_path / "to") == ours | GRAPH_FILES | {
        record_path(SECOND): (tmp_path / "from" / record_path(SECOND)).read_bytes()
    }
    for path in (AOT, record_path(RECORD)):
        assert f"  already there, left as it is: {path}\n" in answer.out
    assert f"  unpacked: {GRAPH}\n" in answer.out


def test_a_second_time_changes_nothing(packed: Path, tmp_path: Path) -> None:
    """All is there already, and it is not an error."""
    tuner(*arguments(packed), code=0)
    before = {path: path.stat().st_ino for path in (tmp_path / "to").rglob("*")}
    assert len(tuner(*arguments(packed, "--json"), code=0).document["already_there"]) == 4
    assert {path: path.stat().st_ino for path in (tmp_path / "to").rglob("*")} == before


def test_an_entry_that_comes_meanwhile_stays(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server or a second unpack may make the same entry in the moment before it is renamed."""
    (tmp_path / "to" / AOT / "rank_0_0").mkdir(parents=True)
    monkeypatch.setattr(unpacking.os.path, "lexists", lambda _path: False)
    assert AOT in tuner(*arguments(packed, "--json"), code=0).document["already_there"]
    assert contents(tmp_path / "to" / AOT) == {}
    assert (tmp_path / "to" / GRAPH).is_dir()


def test_a_link_at_an_entrys_place_is_not_followed(packed: Path, tmp_path: Path) -> None:
    """A link to nowhere counts as something that is there."""
    (tmp_path / "to" / "torch_compile_cache").mkdir(parents=True)
    (tmp_path / "to" / GRAPH).symlink_to(tmp_path / "nowhere")
    assert tuner(*arguments(packed, "--json"), code=0).document["already_there"] == [GRAPH]
    assert not (tmp_path / "nowhere").exists()


# ---- where it is used


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vllm": "0.31.0"}, "vllm is 0.31.0 here, and 0.32.0 in the archive"),
        ({"torch": "2.13.0"}, "torch is 2.13.0 here, and 2.13.0+cu130 in the archive"),
        ({"platform": "rocm"}, "platform is rocm here, and cuda in the archive"),
        ({"gpu": "NVIDIA L4"}, "gpu is NVIDIA L4 here, and NVIDIA H100 80GB HBM3 in the archive"),
        ({"gpu": None, "torch": None}, "torch is none here, and 2.13.0+cu130 in the archive; gpu is none here"),
    ],
)
def test_another_environment_is_refused_and_can_be_forced(
    packed: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """The sentence says each factor that differs; --force unpacks and says it on stderr."""
    saved(tmp_path, structs.replace(ENVIRONMENT, **changes))
    answer = tuner(*arguments(packed, "--json"), code=1)
    assert answer.document["error"]["kind"] == "mismatch"
    assert said in answer.err
    assert not (tmp_path / "to").exists()
    forced = tuner(*arguments(packed, "--force", "--json"), code=0)
    assert forced.document["differences"] == said.split("; ") or said in "; ".join(forced.document["differences"])
    assert "unpacked nevertheless" in forced.err
    assert contents(tmp_path / "to") == contents(tmp_path / "from")


def test_a_local_part_of_vllms_version_is_no_difference() -> None:
    """`tuner env` reads it without, and a record may state it."""
    assert not differences([record_with(vllm="0.32.0+cpu"), RECORD], ENVIRONMENT)
    several = [record_with(gpu=gpu) for gpu in ("B", "A", None, "B")]
    assert differences(several, structs.replace(ENVIRONMENT, gpu="A")) == (
        "gpu is A here, and B in the archive",
        "gpu is A here, and none in the archive",
    )


def test_a_real_interpreter_is_asked(tmp_path: Path) -> None:
    """With --python the environment is read from its files, as `tuner env` reads it."""
    serving = laid_out(tmp_path / "env", INERT)
    here = serving.read()
    record = record_with(vllm=here.vllm or "", torch=here.torch, platform=here.platform, gpu=here.gpu)
    tuner("cache", "pack", tmp_path / "c.zst", "--cache-root", cache_in(tmp_path / "from", record), code=0)
    words = ["cache", "unpack", tmp_path / "c.zst", "--cache-root", tmp_path / "to", "--python", serving.python]
    tuner(*words, code=0)
    assert (tmp_path / "to" / AOT).is_dir()


def test_an_unknown_environment_can_be_forced(packed: Path, tmp_path: Path) -> None:
    """Without vLLM at hand it is refused, or unpacked with that said."""
    python = laid_out(tmp_path / "env", {}).python
    words = ["cache", "unpack", packed, "--cache-root", tmp_path / "to", "--python", python]
    assert "No vLLM is installed" in tuner(*words, code=1).err
    assert "the environment is not known: No vLLM" in tuner(*words, "--force", code=0).err
    assert (tmp_path / "to" / AOT).is_dir()


# ---- what is refused

SYMLINK = header("x", type=tarfile.SYMTYPE, linkname="/etc/passwd")
ETC = ("/etc/cron.d/x", b"evil")


def with_first(**changes: Any) -> list[Member]:
    """The members of the smallest archive, with the header of the model changed."""
    return [(header(*MODEL_FILE, **changes), MODEL_FILE[1]), *plain(RECORD_FILE)]


def listing(*files: PackedFile, records: tuple[WarmRecord, ...] = (RECORD,)) -> Manifest:
    """A manifest of the smallest archive that lists other files, too."""
    return Manifest(RECORD.made_at, records, tuple(sorted((*MANIFEST.files, *files), key=lambda file: file.path)))


MEMBER_CASES: dict[str, tuple[Sequence[Member], str]] = {
    "an absolute path": ([*plain(*MEMBERS, ETC)], "'/etc/cron.d/x' is not in its manifest"),
    "a step up": (plain(("torch_compile_cache/../../x", b""), *MEMBERS), "is not in its manifest"),
    "a file that is not listed": (plain((f"{AOT}/a", b"evil"), *MEMBERS), f"'{AOT}/a' is not in its manifest"),
    "a symbolic link": ([(SYMLINK, b""), *plain(*MEMBERS)], "'x' is a symbolic link"),
    "a listed symbolic link": (with_first(type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a symbolic link"),
    "a hard link": (with_first(type=tarfile.LNKTYPE, linkname="x"), "is a hard link"),
    "a character device": (with_first(type=tarfile.CHRTYPE), "is a device"),
    "a block device": (with_first(type=tarfile.BLKTYPE), "is a device"),
    "a pipe": (with_first(type=tarfile.FIFOTYPE), "is a pipe"),
    "a folder": (with_first(type=tarfile.DIRTYPE), "is a folder"),
    "a sparse file": (with_first(type=tarfile.GNUTYPE_SPARSE), "is of the kind b'S'"),
    "a pax header": (with_first(type=tarfile.XHDTYPE), "is of the kind b'x'"),
    "a global pax header": (with_first(type=tarfile.XGLTYPE), "is of the kind b'g'"),
    "an old regular type": (with_first(type=tarfile.AREGTYPE), "is of the kind"),
    "setuid": (with_first(mode=0o4755), "would be setuid, setgid or sticky"),
    "setgid": (with_first(mode=0o2755), "would be setuid, setgid or sticky"),
    "sticky": (with_first(mode=0o1755), "would be setuid, setgid or sticky"),
    "a duplicate": (plain(MODEL_FILE, MODEL_FILE, RECORD_FILE), "is in it twice"),
    "another order": (plain(RECORD_FILE, MODEL_FILE), "is out of order"),
    "a missing first file": (plain(RECORD_FILE), "what should precede it is missing"),
    "a missing last file": (plain(MODEL_FILE), "is in its manifest and not in it"),
    "nothing": ([], "is in its manifest and not in it"),
    "a greater size": (plain((MODEL_FILE[0], b"artifact!"), RECORD_FILE), "has 9 bytes, and its manifest says 8"),
    "a smaller size": (plain((MODEL_FILE[0], b"artifac"), RECORD_FILE), "has 7 bytes, and its manifest says 8"),
    "an enormous size": (with_first(size=1 << 60), "and its manifest says 8"),
    "a negative size": (with_first(size=-512), "has less than no bytes"),
    "another content": (plain((MODEL_FILE[0], b"ARTIFACT"), RECORD_FILE), "the checksum of"),
    "an endless name": ([(header("x", size=1 << 40, type=tarfile.GNUTYPE_LONGNAME), b"")], "an endless name"),
    "names of names": ([(header("x", b"y", type=tarfile.GNUTYPE_LONGNAME), b"y")] * 3000, "is of the kind b'L'"),
    "a name of nothing": ([(header("x", b"y", type=tarfile.GNUTYPE_LONGNAME), b"y")], "a name without a member"),
    "an endless link name": ([(header("x", size=1 << 40, type=tarfile.GNUTYPE_LONGLINK), b"")], "the kind b'K'"),
    "something behind it": (plain(*MEMBERS, ("x", b"y")), "'x' is not in its manifest"),
}


@pytest.mark.parametrize("case", MEMBER_CASES)
def test_a_member_that_the_manifest_does_not_say_is_refused(case: str, tmp_path: Path) -> None:
    """The manifest is sound; what follows it is not. Nothing is unpacked, whatever it is."""
    members, said = MEMBER_CASES[case]
    assert said in refused(tmp_path, tar_of(MANIFEST, *members))


def test_the_smallest_archive_by_hand_is_unpacked(tmp_path: Path) -> None:
    """The archives above are refused for what was changed in them."""
    saved(tmp_path)
    tuner(*arguments(archive_in(tmp_path, tar_of(MANIFEST, *plain(*MEMBERS)))), code=0)
    assert contents(tmp_path / "to") == dict(MEMBERS)


PATHS = {
    "an absolute path": "/etc/passwd",
    "a step up": f"{AOT}/../../../x",
    "a step in place": f"{AOT}/./x",
    "an empty step": f"{AOT}//x",
    "no name": "",
    "a trailing slash": f"{AOT}/x/",
    "a NUL": f"{AOT}/x\0y",
    "an escape": f"{AOT}/\x1b[2J",
    "half a character": f"{AOT}/\ud800",
    "an endless name": f"{AOT}/{'x' * 4096}",
    "endless folders": f"{AOT}/{'x/' * 70}y",
}


@pytest.mark.parametrize("case", PATHS)
def test_a_manifest_with_a_path_that_is_none_is_refused(case: str, tmp_path: Path) -> None:
    """No file of such a name is asked for."""
    path = PATHS[case]
    manifest = listing(described(path, b""))
    problem = refused(tmp_path, tar_of(manifest, *plain(*MEMBERS)))
    assert "is not a path in a cache" in problem
    assert "\x1b" not in problem


def record_with(**changes: Any) -> WarmRecord:
    """The record of the smallest archive with other fields."""
    return structs.replace(RECORD, **changes)


MANIFESTS: dict[str, tuple[Manifest | bytes, str]] = {
    "a file beside the caches": (listing(described(".bashrc", b"")), ".bashrc belongs to no record"),
    "a file of no entry": (listing(described("torch_compile_cache/x", b"")), "belongs to no record"),
    "a record of no warm-up": (listing(described("tuner-warm/x.json", b"")), "belongs to no record"),
    "a file twice": (listing(described(*MODEL_FILE)), "names it twice"),
    "another order": (replace(MANIFEST, files=MANIFEST.files[::-1]), "is not sorted there"),
    "a file in a file": (listing(described(f"{MODEL_FILE[0]}/x", b"")), "is a file and a folder"),
    "no entry": (replace(MANIFEST, files=MANIFEST.files[1:]), f"lists nothing for {AOT}"),
    "no record file": (replace(MANIFEST, files=MANIFEST.files[:1]), "lists nothing for tuner-warm/"),
    "no record": (replace(MANIFEST, records=()), "holds no record of a warm-up"),
    "one digest twice": (listing(records=(RECORD, RECORD)), "two of its records have one digest"),
    "a digest that is a path": (listing(records=(record_with(digest="../../x"),)), "not plain text"),
    "a version that is an escape": (listing(records=(record_with(vllm="\x1b[2J"),)), "not plain text"),
    "an entry elsewhere": (listing(records=(record_with(entries=("tuner-warm",)),)), "is not a folder in"),
    "the whole cache": (
        listing(records=(record_with(entries=("torch_compile_cache",)),)),
        "is not a folder in",
    ),
    "an entry above": (listing(records=(record_with(entries=("torch_compile_cache/..",)),)), "is not a path"),
    "an entry in an entry": (
        listing(records=(record_with(entries=(AOT, f"{AOT}/x")),)),
        "lies in another one",
    ),
    "no JSON": (b"{", "its manifest is not JSON"),
    "no UTF-8": (b"\xff", "its manifest is not JSON"),
    "too deep": (b"[" * 100_000, "its manifest is not JSON"),
    "a long number": (b"9" * 5000, "its manifest is not JSON"),
    "no object": (b"[]", "not as `tuner cache pack` writes it"),
    "nothing in it": (b'{"schema_version": 1}', "not as `tuner cache pack` writes it"),
    "another field": (
        manifest_bytes(MANIFEST).replace(b'"files"', b'"more": 1, "files"'),
        "not as `tuner cache pack` writes it",
    ),
    "no version": (b"{}", "not as `tuner cache pack` writes it"),
    "a truth as version": (b'{"schema_version": true}', "not as `tuner cache pack` writes it"),
    "a later version": (b'{"schema_version": 2}', "its schema is 2, and this release reads 1"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_is_not_sound_is_refused(case: str, tmp_path: Path) -> None:
    """Before anything behind it is read."""
    manifest, said = MANIFESTS[case]
    assert said in refused(tmp_path, tar_of(manifest, *plain(*MEMBERS)))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": True},
        {"size": 8.0},
        {"size": "8"},
        {"sha256": "x" * 64},
        {"sha256": None},
        {"executable": 1},
        {"path": 7},
        {"path": None},
        {"mode": 0o4755},
    ],
)
def test_a_file_of_another_kind_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    """Each field of a file has one type, and there is no other field."""
    document = json.loads(manifest_bytes(MANIFEST))
    document["files"][0] |= changes
    problem = refused(tmp_path, tar_of(json.dumps(document).encode(), *plain(*MEMBERS)))
    assert "not as `tuner cache pack` writes it" in problem


def test_a_record_that_the_manifest_does_not_repeat_is_refused(tmp_path: Path) -> None:
    """What was compared with the environment is what would be stored."""
    other = (RECORD_FILE[0], RECORD_FILE[1].replace(b"0.32.0", b"0.31.0"))
    manifest = Manifest(RECORD.made_at, (RECORD,), (described(*MODEL_FILE), described(*other)))
    assert "its records are not those in its manifest" in refused(tmp_path, tar_of(manifest, *plain(MODEL_FILE, other)))


def test_a_bomb_is_read_as_far_as_the_manifest_says(tmp_path: Path) -> None:
    """Zeros in a few bytes: behind the last file, in a file, and in place of a manifest."""
    tar = tar_of(MANIFEST, *plain(*MEMBERS))
    compressor = zstandard.ZstdCompressor(level=1).compressobj()
    parts = [compressor.compress(tar), compressor.compress(bytes(1 << 24))]
    parts.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    saved(tmp_path)
    archive = tmp_path / "bomb.zst"
    archive.write_bytes(b"".join(parts) + b"a reader that goes on to here says that the archive is damaged")
    assert "something follows its last file" in tuner(*arguments(archive), code=1).err
    assert "and its manifest says 8" in refused(tmp_path, tar_of(MANIFEST, *with_first(size=1 << 34)))
    manifest = tar_of(b"x")
    first = header("manifest.json", size=MAX_MANIFEST + 1).tobuf(tarfile.GNU_FORMAT)
    assert "its manifest is larger than 64 MiB" in refused(tmp_path, first + manifest[tarfile.BLOCKSIZE :])


def test_more_files_than_any_cache_has_are_refused() -> None:
    """The number of files is bounded, whatever the manifest says."""
    many = [PackedFile(f"{AOT}/{number:06}", 0, "0" * 64, executable=False) for number in range(MAX_FILES)]
    with pytest.raises(ArchiveError, match=f"at most {MAX_FILES} are unpacked"):
        read_manifest(manifest_bytes(listing(*many)))


def test_more_bytes_than_are_free_are_refused(tmp_path: Path) -> None:
    """Before the disk is filled; the folder of the cache may have been made."""
    saved(tmp_path)
    archive = archive_in(tmp_path, tar_of(listing(described(f"{AOT}/x", b"", size=1 << 62)), *plain(*MEMBERS)))
    assert "are free below" in tuner(*arguments(archive), code=1).err
    assert not list((tmp_path / "to").iterdir())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it ends too early"),
        (b"no archive", "it is damaged, or not an archive of a cache"),
        (zstandard.compress(b"x" * 512), "it is damaged, or not an archive of a cache"),
        (zstandard.compress(bytes(10240)), "it does not start with manifest.json"),
        (zstandard.compress(tar_of(MANIFEST, *plain(*MEMBERS))[1536:]), "it "),
    ],
)
def test_what_is_no_archive_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    """An empty file, another file, and a tar without a manifest."""
    saved(tmp_path)
    (tmp_path / "x.zst").write_bytes(data)
    assert said in tuner(*arguments(tmp_path / "x.zst"), code=1).err
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("name", ["missing.zst", "folder"])
def test_a_file_that_cannot_be_read_is_an_error(name: str, tmp_path: Path) -> None:
    """A sentence, and nothing is made."""
    saved(tmp_path)
    (tmp_path / "folder").mkdir()
    assert tuner(*arguments(tmp_path / name, "--json"), code=1).document["error"]["kind"] == "archive"
    assert not (tmp_path / "to").exists()


@pytest.mark.parametrize("taken", ["to", "to/torch_compile_cache", "to/tuner-warm"])
def test_a_root_that_cannot_be_filled_is_an_error(packed: Path, tmp_path: Path, taken: str) -> None:
    """A file where a folder should be: what is in place is whole, and no record lacks its entry."""
    (tmp_path / taken).parent.mkdir(exist_ok=True)
    (tmp_path / taken).touch()
    assert "Traceback" not in tuner(*arguments(packed), code=1).err
    assert not list(tmp_path.glob("to/.unpacking-*"))
    require_whole(tmp_path / "to", tmp_path / "from")


# ---- what happens halfway


def below(files: dict[str, bytes], folder: str) -> dict[str, bytes]:
    """Those of the files that lie below a folder."""
    return {path: data for path, data in files.items() if path.startswith(f"{folder}/")}


def require_whole(root: Path, source: Path) -> None:
    """Every entry that is seen is as in the packed cache, and every record has its entries."""
    whole, seen = contents(source), contents(root)
    for entry in entries_of(read_records(source)[0]):
        assert below(seen, entry) == (below(whole, entry) if (root / entry).exists() else {})
    present, damaged = read_records(root)
    assert not damaged
    assert all((root / entry).is_dir() for record in present for entry in record.entries)


def large_cache(root: Path) -> Path:
    """Twenty entries of twenty files, and a record for each."""
    names = [f"torch_compile_cache/{number:010x}" for number in range(20)]
    made = [record_with(digest=f"{number:064x}", entries=(name,)) for number, name in enumerate(names)]
    for name in names:
        (root / name / "rank_0_0").mkdir(parents=True)
        for number in range(20):
            (root / name / "rank_0_0" / str(number)).write_bytes(hashlib.sha256(name.encode()).digest() * 60)
    cache_in(root, *made)
    shutil.rmtree(root / AOT)
    shutil.rmtree(root / GRAPH)
    return root


def test_kill_9_leaves_no_half_entry(tmp_path: Path) -> None:
    """Killed at any moment, only the folder beside the entries is left; the next run puts all in place."""
    saved(tmp_path)
    archive = tmp_path / "c.zst"
    tuner("cache", "pack", archive, "--cache-root", large_cache(tmp_path / "from"), code=0)
    command = [sys.executable, "-m", "tuner", *map(str, arguments(archive))]
    root, dice, left = tmp_path / "to", random.Random(7), 0  # noqa: S311  moments, no secrets
    for _ in range(12):
        shutil.rmtree(root, ignore_errors=True)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not list(root.glob(".unpacking-*")) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.4)
        process.send_signal(signal.SIGKILL)
        process.wait()
        left += bool(list(root.glob(".unpacking-*")))
        require_whole(root, tmp_path / "from")
    assert left >= 3, "the process was hardly ever killed under way"
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert contents(tmp_path / "from").items() <= contents(root).items()


def test_ctrl_c_leaves_nothing(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped in order, the folder beside the entries is removed."""
    monkeypatch.setattr(unpacking, "_require_records", lambda *_: signal.raise_signal(signal.SIGINT))
    assert tuner(*arguments(packed), code=130).err == "tuner: stopped\n"
    assert not list((tmp_path / "to").iterdir())


# ---- damage at random


def unpacked_or_refused(data: bytes, folder: Path, whole: dict[str, bytes]) -> None:
    """An archive of these bytes gives the whole cache, or a sentence and nothing."""
    root = folder / "to"
    shutil.rmtree(root, ignore_errors=True)
    (folder / "x.zst").write_bytes(data)
    try:
        unpack(folder / "x.zst", root, ServingEnvironment(saved=folder / "environment.json"), force=True)
    except TunerError:
        assert not root.exists() or not list(root.iterdir())
    else:
        assert contents(root) == whole


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[bytes], bytes], bool], None]:
    """A function that damages an archive, or the tar in it, and unpacks what comes of it."""
    folder = tmp_path_factory.mktemp("damage")
    saved(folder)
    archive = folder / "c.zst"
    tuner("cache", "pack", archive, "--cache-root", cache_in(folder / "from"), code=0)
    whole, data = contents(folder / "from"), archive.read_bytes()
    tar = zstandard.ZstdDecompressor().stream_reader(data).read()
    with opened(archive) as read:
        assert read.manifest.size == sum(map(len, whole.values()))

    def damage(change: Callable[[bytes], bytes], inside: bool) -> None:
        bad = zstandard.compress(change(tar)) if inside else change(data)
        unpacked_or_refused(bad, folder, whole)

    damage(lambda same: same, False)
    assert contents(folder / "to") == whole
    damage(lambda same: same, True)
    assert contents(folder / "to") == whole
    return damage


Damage = Callable[[Callable[[bytes], bytes], bool], None]


def flipped(data: bytes, flips: Sequence[tuple[int, int]]) -> bytes:
    """The bytes with some changed: each a place, and what it is xored with."""
    changed = bytearray(data)
    for place, mask in flips:
        changed[place % len(changed)] ^= mask
    return bytes(changed)


PLACES = st.integers(0, 2**32 - 1)
"""Of a byte, modulo the length."""


@settings(max_examples=150, deadline=None)
@given(flips=st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=4), inside=st.booleans())
def test_flipped_bytes_are_refused_or_do_not_matter(
    damaged: Damage, flips: list[tuple[int, int]], inside: bool
) -> None:
    """In the file, or in the tar before it is compressed: never a traceback, never a part."""
    damaged(lambda data: flipped(data, flips), inside)


@settings(max_examples=150, deadline=None)
@given(place=PLACES, inside=st.booleans())
def test_a_cut_archive_is_refused_or_whole(damaged: Damage, place: int, inside: bool) -> None:
    """Wherever it ends."""
    damaged(lambda data: data[: place % len(data)], inside)


@settings(max_examples=150, deadline=None)
@given(cuts=st.lists(PLACES, min_size=2, max_size=2, unique=True), twice=st.booleans())
def test_blocks_taken_out_or_repeated_are_refused(damaged: Damage, cuts: list[int], twice: bool) -> None:
    """Whole blocks of the tar are lost or come twice, their checksums being right."""

    def moved(tar: bytes) -> bytes:
        start, stop = sorted(cut % len(tar) // 512 * 512 for cut in cuts)
        return tar[:stop] + tar[start:] if twice else tar[:start] + tar[stop:]

    damaged(moved, True)
