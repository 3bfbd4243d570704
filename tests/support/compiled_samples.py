"""Copies of the compile caches in `tests/compile_caches`, with times of their own, and records of warm-ups."""

import os
import shutil
from pathlib import Path

from cache.compiled.warm_record import WarmRecord, write_record

CACHES = Path(__file__).parents[1] / "compile_caches"
AOT = "torch_compile_cache/torch_aot_compile/"
AOT_19 = AOT + "a5fdba03ec60c1de09d4c9ebc98700962e59fa5fa0526f90436e7a4647411a84"
AOT_32 = AOT + "848b025eb45f6e61d4b9485863dfe32c9dd42eac2f1749df368f522c38dcfd57"
GRAPHS = "torch_compile_cache/0a1b2c3d4e"
BACKBONE = f"{GRAPHS}/rank_0_0/backbone"
DAY = 86400


def cache_of(folder: Path, *samples: str, days: float = 0, now: float) -> Path:
    """A cache root with what these samples have, last written and read so many days ago; nobody else may write it."""
    root = folder / "root"
    for sample in samples:
        shutil.copytree(CACHES / sample, root, dirs_exist_ok=True)
    age(root, days, now)
    return root


def age(path: Path, days: float, now: float) -> None:
    """Set the times of a file, or of all below a folder, and take from others the permission to write."""
    for item in (path, *path.rglob("*")):
        if not item.is_symlink():
            item.chmod(item.stat().st_mode & ~0o022)
            os.utime(item, (now - days * DAY, now - days * DAY))


def made_file(path: Path, content: bytes = b"x") -> Path:
    """A file, and the folders above it, that nobody else may write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o644)
    return path


def recorded(root: Path, *entries: str, digest: str = "d1" * 32, gpu: str | None = "NVIDIA H100") -> Path:
    """Write the record of a warm-up that filled these entries."""
    record = WarmRecord(
        digest,
        "2026-11-26T10:00:00Z",
        "org/model",
        "Qwen3MoeForCausalLM",
        "0.32.0",
        "2.12.0",
        "cuda",
        gpu,
        (),
        entries,
        1,
    )
    path = write_record(root, record)
    path.parent.chmod(0o755)
    return path
