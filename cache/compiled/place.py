"""Putting a whole entry where servers will look for it."""

import ast
import errno
import os
import pprint
from pathlib import Path

HANDLES = "vllm_compile_cache.py"


def put(source: Path, target: Path) -> bool:
    """Rename, unless something is there already; of two processes the first wins. True: it was renamed.

    Raises:
        OSError: it cannot be renamed.
    """
    if os.path.lexists(target):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno in {errno.EEXIST, errno.ENOTEMPTY}:  # it came a moment ago
            return False
        raise
    return True


def relocate(root: Path, entry: str, target: Path) -> None:
    """Let the absolute paths by which an entry of graphs refers to its own files lead below another root.

    vLLM through 0.31.0 keeps such paths (`InductorStandaloneAdaptor`, vllm/compilation/compiler_interface.py), and
    looks nowhere else. The file is a Python literal, read and written as vLLM does (vllm/compilation/backends.py).

    Args:
        root: where the entry lies now.
        entry: its path there.
        target: the root below which it will lie.

    Raises:
        OSError: it cannot be read or written.
    """
    for file in sorted((root / entry).rglob(HANDLES)):
        try:
            handles = ast.literal_eval(file.read_text(encoding="utf-8"))
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue  # damaged: vLLM compiles anew
        file.write_text(pprint.pformat(_relocated(handles, f"/{entry}/", f"{target}/{entry}/"), indent=4), "utf-8")


def _relocated(value: object, inside: str, target: str) -> object:
    if isinstance(value, str):
        return target + value.partition(inside)[2] if value.startswith("/") and inside in value else value
    if isinstance(value, dict):
        return {key: _relocated(part, inside, target) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_relocated(part, inside, target) for part in value)
    return value
