"""archives -> unpack: an archive is put in place as its manifest says, or nothing of it is.

`test_cache_unpack` flips and cuts bytes. Here the archive is taken apart and put together wrongly with checksums that
are right: its manifest changed as a value, its members changed, moved and repeated, its headers of every kind.
"""

import hashlib
import json
import os
import shutil
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path as File
from typing import Any

import zstandard
from archive_samples import FILES, RECORD_FILE, cache_in, described, header, saved
from hypothesis import strategies as st

from cache.compiled.archive.manifest import NAME, manifest_bytes
from cache.compiled.archive.write import pack
from cache.compiled.warm_record import read_records
from fuzz.limit import limited
from fuzz.mutate import TEXTS, Draw, Places, by_depth, bytes_mutated, json_text, mutated, paths
from fuzz.sentence import require_sentence
from rules.errors import TunerError
from tuner.compile_cache.archive import ServingEnvironment, unpack

Member = tuple[tarfile.TarInfo, bytes]
TYPES = [tarfile.REGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE]
TYPES += [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_SPARSE, tarfile.XHDTYPE, tarfile.AREGTYPE, b"Z"]
PATHS = ["../x", "/etc/x", "torch_compile_cache", "torch_compile_cache/../../x", ".", "a/" * 60 + "x", *TEXTS]
SIZES = [0, 1, 511, 512, 513, 2**33, 2**62]


@dataclass(frozen=True)
class Ground:
    """A whole archive in its parts, and the folder in which it is unpacked."""

    manifest: dict[str, Any]
    places: Places
    members: tuple[tuple[str, bytes], ...]
    folder: File


def ground(folder: File) -> Ground:
    """The archive of a cache with two warm-ups, packed by the product itself."""
    root, path = cache_in(folder / "from"), folder / "whole.zst"
    records, _ = read_records(root)
    packed = pack(root, path, records)
    manifest = json.loads(manifest_bytes(packed))
    members = tuple((file.path, (root / file.path).read_bytes()) for file in packed.files)
    saved(folder)
    (folder / "outside").mkdir()
    (folder / "outside" / "note").write_text("mine")
    return Ground(manifest, by_depth(paths(manifest)), members, folder)


def case(draw: Draw, ground: Ground) -> str:
    """Put one archive together wrongly, and unpack it where nothing or something is already."""
    archive, root = ground.folder / "x.zst", ground.folder / "to"
    shutil.rmtree(root, ignore_errors=True)
    if draw(st.booleans()):
        cache_in(root)
    archive.write_bytes(compressed(draw, tar_of(draw, ground)))
    before, beside = state(root), state(ground.folder / "outside")
    with limited():
        try:
            manifest, _, _ = unpack(
                archive, root, ServingEnvironment(saved=ground.folder / "environment.json"), force=True
            )
        except TunerError as error:
            require_sentence(error)
            assert state(root) == before, "a refused archive left something behind"
            outcome = "refused"
        else:
            listed = {file.path: file.sha256 for file in manifest.files}
            require_as_listed(root, listed, before)
            outcome = "unpacked"
    assert state(ground.folder / "outside") == beside, "something was written outside"
    assert {path.name for path in ground.folder.iterdir()} <= KNOWN, "something lies beside the cache root"
    return outcome


KNOWN = {"from", "whole.zst", "x.zst", "to", "outside", "environment.json"}


def state(root: File) -> dict[str, tuple[int, str]]:
    """Every file, folder and link below a root: its mode, and what it holds; folders alone, as an empty one counts."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = File(folder, name)
            mode = path.lstat().st_mode
            said = path.readlink().as_posix() if stat.S_ISLNK(mode) else ""
            inside = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else said
            found[path.relative_to(root).as_posix()] = (stat.S_IFMT(mode), inside)
    return found


def require_as_listed(root: File, listed: dict[str, str], before: dict[str, tuple[int, str]]) -> None:
    """What is new are plain files of the manifest with its checksums, and their folders; what was there stays."""
    after = state(root)
    assert before.items() <= after.items(), "what was there was changed"
    for path, (kind, inside) in after.items():
        if path not in before and kind != stat.S_IFDIR:
            assert kind == stat.S_IFREG
            assert inside == listed.get(path) or path.endswith(".py"), path  # places in graphs are corrected


def tar_of(draw: Draw, ground: Ground) -> bytes:
    """The bytes of a tar whose manifest, members and headers were changed; often so that they agree."""
    manifest, members = ground.manifest, [(header(path, data), data) for path, data in ground.members]
    way = draw(st.sampled_from(["manifest", "members", "headers", "agree"]))
    if way == "manifest":
        manifest = mutated(draw, manifest, ground.places)
    elif way == "members":
        members = moved(draw, members)
    elif way == "headers":
        members = relabelled(draw, members)
    else:
        manifest, members = renamed(draw, ground)
    text = json_text(manifest).encode()
    blocks = [(header(NAME, text), text), *members]
    return b"".join(map(block, blocks)) + bytes(1024)


def block(member: Member) -> bytes:
    """One member: its header, its bytes, and what fills up the last block."""
    info, data = member
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + data + bytes(-len(data) % tarfile.BLOCKSIZE)


def moved(draw: Draw, members: list[Member]) -> list[Member]:
    """Members lost, repeated, exchanged or changed inside."""
    for _ in range(draw(st.integers(1, 3))):
        at, other = (draw(st.integers(0, len(members) - 1)) for _ in range(2))
        way = draw(st.sampled_from(["lose", "repeat", "exchange", "inside"]))
        if way == "lose" and len(members) > 1:
            del members[at]
        elif way == "repeat":
            members.insert(other, members[at])
        elif way == "exchange":
            members[at], members[other] = members[other], members[at]
        elif way == "inside":
            members[at] = (members[at][0], bytes_mutated(draw, members[at][1]))
    return members


def relabelled(draw: Draw, members: list[Member]) -> list[Member]:
    """One member under another header."""
    at = draw(st.integers(0, len(members) - 1))
    info, data = members[at]
    field = draw(st.sampled_from(["type", "name", "size", "mode", "linkname"]))
    values = {"type": TYPES, "name": PATHS[:6], "size": SIZES, "mode": [0o4755, 0o777, 0], "linkname": PATHS[:3]}
    setattr(info, field, draw(st.sampled_from(values[field])))
    members[at] = (info, data)
    return members


def renamed(draw: Draw, ground: Ground) -> tuple[Any, list[Member]]:
    """One more file, or one under another path, in the manifest and as a member alike."""
    path = draw(st.sampled_from([*PATHS, *FILES, RECORD_FILE[0]]))
    data = draw(st.sampled_from([b"", b"x" * 600]))
    files = [*ground.manifest["files"]]
    added = described(path, data)
    files.insert(draw(st.integers(0, len(files))), {name: getattr(added, name) for name in files[0]})
    members = [*ground.members]
    members.insert(draw(st.integers(0, len(members))), (path, data))
    in_order = draw(st.booleans())
    files = sorted(files, key=lambda file: str(file["path"])) if in_order else files
    members = sorted(members) if in_order else members
    named = [(name.encode("utf-8", "replace").decode()[:90] or "x", inside) for name, inside in members]
    return ground.manifest | {"files": files}, [(header(name, inside), inside) for name, inside in named]


def compressed(draw: Draw, tar: bytes) -> bytes:
    """The tar inside zstd; sometimes in two frames, with something behind it, or damaged."""
    way = draw(st.sampled_from(["whole", "whole", "whole", "frames", "behind", "bytes"]))
    if way == "frames":
        at = draw(st.integers(0, len(tar)))
        return zstandard.compress(tar[:at]) + zstandard.compress(tar[at:])
    data = zstandard.compress(tar)
    return {"behind": data + b"more"}.get(way, data) if way != "bytes" else bytes_mutated(draw, data)
