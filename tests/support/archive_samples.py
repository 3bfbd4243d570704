"""Test support: compile caches made of a few files, and archives made by hand, as nobody's `tuner cache pack` would."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zstandard
from msgspec import structs

from cache.compiled.archive.manifest import NAME, Manifest, PackedFile, manifest_bytes
from cache.compiled.warm_record import WarmRecord, record_document, write_record
from tuner.environment.environment import Environment

AOT = "torch_compile_cache/torch_aot_compile/" + "8" * 64
GRAPH = "torch_compile_cache/0123456789"
LONG = "triton_red_fused_" + "add_mul_" * 20 + "0.json"
"""Longer than the 100 bytes of a tar header."""
FILES = {
    f"{AOT}/rank_0_0/model": b"artifact" * 40,
    f"{AOT}/inductor_cache/ih/kernel.so": b"\x7fELF" + bytes(600),
    f"{AOT}/inductor_cache/locks/kernel.lock": b"",
    f"{AOT}/inductor_cache/triton/0/{LONG}": b"{}",
}
GRAPH_FILES = {
    f"{GRAPH}/rank_0_0/backbone/computation_graph.py": b"def forward(self):\n    pass\n",
    f"{GRAPH}/rank_0_0/backbone/cache_key_factors.json": json.dumps(
        {"env": {"VLLM_API_KEY": None, "VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE": 163840}, "config_hash": "c" * 10}
    ).encode(),
}
RECORD = WarmRecord(
    digest="a" * 64,
    made_at="2026-11-26T14:32:00+00:00",
    model="org/tiny",
    architecture="Qwen3MoeForCausalLM",
    vllm="0.32.0",
    torch="2.13.0+cu130",
    platform="cuda",
    gpu="NVIDIA H100 80GB HBM3",
    args=("org/tiny",),
    entries=(AOT,),
    size=sum(map(len, FILES.values())),
)
SECOND = structs.replace(RECORD, digest="b" * 64, made_at="2026-11-27T08:00:00+00:00", entries=(GRAPH, AOT))
"""Of another launch; it shares an entry with the first."""
ENVIRONMENT = Environment(
    python="/opt/venv/bin/python",
    python_version="3.12.3",
    vllm="0.32.0",
    vllm_distribution="vllm",
    torch="2.13.0+cu130",
    triton=None,
    transformers=None,
    platform="cuda",
    platform_plugins=(),
    gpu="NVIDIA H100 80GB HBM3",
    gpu_count=1,
    site=(),
)
"""Where both were made."""


def cache_in(root: Path, *records: WarmRecord) -> Path:
    """A cache root with the files of both entries, and records: by default of both warm-ups."""
    for path, data in (FILES | GRAPH_FILES).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / f"{AOT}/inductor_cache/ih/kernel.so").chmod(0o755)
    (root / f"{AOT}/rank_0_0/model").chmod(0o600)  # as torch writes it
    for record in records or (RECORD, SECOND):
        write_record(root, record)
    return root


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a root; empty if there is none."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def saved(folder: Path, environment: Environment = ENVIRONMENT) -> Path:
    """A saved `tuner env --json`."""
    path = folder / "environment.json"
    path.write_text(json.dumps({"schema_version": 1, "environment": environment.to_dict()}), encoding="utf-8")
    return path


RECORD_FILE = (f"tuner-warm/{RECORD.digest}.json", json.dumps(record_document(RECORD)).encode())
MODEL_FILE = (f"{AOT}/rank_0_0/model", b"artifact")


def described(path: str, data: bytes, **changes: Any) -> PackedFile:
    """What a manifest says of a file."""
    return structs.replace(PackedFile(path, len(data), hashlib.sha256(data).hexdigest(), executable=False), **changes)


MANIFEST = Manifest(RECORD.made_at, (RECORD,), (described(*MODEL_FILE), described(*RECORD_FILE)))
"""Of a smallest archive: one record and an entry with one file."""
MEMBERS = (MODEL_FILE, RECORD_FILE)
"""What follows it."""


def header(path: str, data: bytes = b"", **changes: Any) -> tarfile.TarInfo:
    """A tar header, with any of its fields changed."""
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), 0o644
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def tar_of(manifest: Manifest | bytes, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar with a manifest, then any members, whose sizes need not be true."""
    data = manifest if isinstance(manifest, bytes) else manifest_bytes(manifest)
    buffer = io.BytesIO()
    for info, inside in ((header(NAME, data), data), *members):
        buffer.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        buffer.write(inside + bytes(-len(inside) % tarfile.BLOCKSIZE))
    return buffer.getvalue() + bytes(2 * tarfile.BLOCKSIZE)


def plain(*members: tuple[str, bytes]) -> Sequence[tuple[tarfile.TarInfo, bytes]]:
    """Members that are what they say."""
    return [(header(path, data), data) for path, data in members]


def archive_in(folder: Path, tar: bytes) -> Path:
    """A tar, compressed, as a file."""
    path = folder / "hand-made.tar.zst"
    path.write_bytes(zstandard.compress(tar))
    return path
