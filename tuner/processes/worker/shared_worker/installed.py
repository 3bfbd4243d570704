"""What is installed in the serving environment: versions and source files."""

import hashlib
import importlib.metadata
import sys
from pathlib import Path


def version_of(distribution: str) -> str | None:
    """The installed version of a package, or None if it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def below_path(file: str | Path) -> str:
    """The file's path relative to the deepest entry of `sys.path` that holds it. Absolute if there is no such entry."""
    path = Path(file).resolve()
    roots = [Path(entry).resolve() for entry in sys.path if entry]
    above = [root for root in roots if path.is_relative_to(root)]
    if not above:
        return str(path)
    return str(path.relative_to(max(above, key=lambda root: len(root.parts))))


def digest(file: Path) -> str:
    """The sha256 of the file's bytes, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
