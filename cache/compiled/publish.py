"""From a folder that a server filled to a cache root that others use: entry by entry, each with one rename."""

import ast
import pprint
import secrets
import shutil
from pathlib import Path

from cache.compiled.entry import Kind
from cache.compiled.layout import read_root

STAGING = ".warming-"
HANDLES = "vllm_compile_cache.py"


def staging_folder(root: Path) -> Path:
    """A new folder beside the entries of a cache root, on the same file system; its name tells `prune` what it is.

    Raises:
        OSError: it cannot be made.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"{STAGING}{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    return folder


def publish(staging: Path, root: Path) -> tuple[list[str], list[str]]:
    """Move everything in a staging folder into the root it stands in. What is there already stays as it is.

    A reader sees a whole entry or none: each is renamed once, when all that it refers to is in its place.

    Returns:
        The entries of the compile cache that were moved and those that were there before, relative to the root.

    Raises:
        OSError: something cannot be moved.
    """
    moved: list[str] = []
    kept: list[str] = []
    for entry in entries_in(staging):
        relocate(staging / entry, str(staging), str(root))
        (moved if _move(staging / entry, root / entry) else kept).append(entry.as_posix())
    for file in [path for path in sorted(staging.rglob("*")) if path.is_file() and not path.is_symlink()]:
        relative = file.relative_to(staging)
        if not any(relative.is_relative_to(entry) for entry in kept):
            _move(file, root / relative)
    shutil.rmtree(staging, ignore_errors=True)
    return moved, kept


def entries_in(root: Path) -> list[Path]:
    """The entries of the compile cache below a root, relative to it, in the order in which they may be published.

    Through 0.26, to load what was compiled ahead of time reads graphs too, so those go first.
    """
    entries = sorted(read_root(root).entries, key=lambda entry: (entry.kind is Kind.AOT, entry.path))
    return [Path(entry.path) for entry in entries]


def relocate(entry: Path, before: str, after: str) -> None:
    """Correct the absolute paths by which an entry of graphs refers to its own files.

    vLLM through 0.31.0 keeps them (`InductorStandaloneAdaptor`, vllm/compilation/compiler_interface.py), and looks
    nowhere else. The file is a Python literal, read and written as vLLM does (vllm/compilation/backends.py).

    Raises:
        OSError: it cannot be read or written.
    """
    for file in sorted(entry.rglob(HANDLES)):
        text = file.read_text(encoding="utf-8")
        try:
            handles = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue  # damaged: vLLM compiles anew
        file.write_text(pprint.pformat(_relocated(handles, before, after), indent=4), encoding="utf-8")


def _relocated(value: object, before: str, after: str) -> object:
    if isinstance(value, str):
        return after + value[len(before) :] if value == before or value.startswith(f"{before}/") else value
    if isinstance(value, dict):
        return {key: _relocated(one, before, after) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_relocated(one, before, after) for one in value)
    return value


def _move(source: Path, target: Path) -> bool:
    """Rename unless the target is there; of two that race, the first wins."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        return False
    try:
        source.rename(target)
    except OSError:
        if target.exists():  # another warm-up was faster
            return False
        raise
    return True
