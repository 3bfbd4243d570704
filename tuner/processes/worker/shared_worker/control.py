"""JSON files in the control folder. A file is complete or absent."""

import json
import os
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """Parse a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file with sorted keys under a temporary name, then rename it."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value, sort_keys=True), encoding="utf-8")
    os.replace(draft, path)  # noqa: PTH105  atomic replace is the point
