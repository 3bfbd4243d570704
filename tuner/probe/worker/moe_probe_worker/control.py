"""What goes into the control folder: JSON files, each whole or absent, and exceptions in one line."""

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """Parse a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file under a temporary name, then rename it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value), encoding="utf-8")
    os.replace(draft, path)  # noqa: PTH105  atomic replace is the point


def words(error: BaseException) -> str:
    """The exception in one line of at most 300 characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
