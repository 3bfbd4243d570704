"""Whose code a file is: Python's, a package's that vLLM asks for, vLLM's own and unchanged, or somebody else's.

A file is known by the RECORD of the distribution that installed it, never by words in its path. A vLLM that was
installed without a RECORD, as an editable one, is somebody else's.
"""

import base64
import csv
import hashlib
import importlib.metadata
import os
import re
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from pathlib import Path

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A distribution's name at the start of a requirement."""


class Origins:
    """The files of vLLM, of the packages that it requires, and of the standard library."""

    def __init__(self) -> None:
        self.vllm = owner_of("vllm/__init__.py")
        self.hashes: dict = {}
        for distribution in required_by(self.vllm):
            self.hashes.update(recorded(distribution))
        self.own = recorded(self.vllm)
        self.torch = recorded(owner_of("torch/__init__.py"))
        self.answers: dict = {}

    def is_trusted(self, file: str) -> bool:
        """Whether the file is Python's, or installed with vLLM or a package that it requires, and unchanged since.

        Code without a file, which a trusted package makes at run time, counts as its maker's.
        """
        if file not in self.answers:
            self.answers[file] = self._is_trusted(file)
        return self.answers[file]

    def _is_trusted(self, file: str) -> bool:
        if file.startswith("<") or is_generated(file):
            return True
        path = Path(file).resolve()
        if is_standard(path):
            return True
        expected = self.own.get(str(path)) or self.hashes.get(str(path))
        if expected is None:
            return False
        with suppress(OSError):
            return expected == sha256(path)
        return False

    def counted(self, file: str) -> str:
        """sha256 of a file that a verdict depends on; empty for Python's own and torch's, which their versions tell."""
        path = Path(file).resolve()
        if is_standard(path) or str(path) in self.torch:
            return ""
        with suppress(OSError):
            return sha256(path)
        return ""

    def is_own(self, file: str) -> bool:
        """Whether the file was installed with vLLM itself."""
        return str(Path(file).resolve()) in self.own


def is_generated(file: str) -> bool:
    """Whether torch wrote this file, in this process's own cache, from code that it was given."""
    cache = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return bool(cache) and Path(file).is_relative_to(cache)


def owner_of(file: str):
    """The distribution whose RECORD names this file; None if there is none."""
    for distribution in importlib.metadata.distributions():
        lines = (distribution.read_text("RECORD") or "").splitlines()
        if any(line.startswith(f"{file},") for line in lines):
            return distribution
    return None


def required_by(distribution) -> list:
    """The distributions that this one requires, and those that they require, as far as installed."""
    known: dict = {}
    waiting = names_required(distribution) if distribution else []
    while waiting:
        name = waiting.pop()
        if name in known:
            continue
        with suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.distribution(name)
            waiting += names_required(known[name])
    return list(known.values())


def names_required(distribution) -> list:
    """Normalised names of the distributions in its metadata; those that an extra asks for among them."""
    matches = [NAME.match(text) for text in distribution.requires or ()]
    return [re.sub(r"[-_.]+", "-", match[0]).lower() for match in matches if match]


def recorded(distribution) -> dict:
    """Absolute path -> sha256 in hexadecimal, of each Python file in the distribution's RECORD."""
    hashes: dict = {}
    if distribution is None:
        return hashes
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if row and row[0].endswith(".py") and row[1].startswith("sha256="):
            digest = row[1].removeprefix("sha256=")
            path = resolved(str(distribution.locate_file(row[0])))
            hashes[path] = base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
    return hashes


def resolved(file: str) -> str:
    """The path without links; folders are looked up once, as an environment has tens of thousands of files."""
    folder, name = os.path.split(file)
    path = f"{resolved_folder(folder)}/{name}"
    return os.path.realpath(path) if Path(path).is_symlink() else path


@cache
def resolved_folder(folder: str) -> str:
    """A folder's path without links."""
    return os.path.realpath(folder)


def is_standard(path: Path) -> bool:
    """Whether the file is a module of Python's standard library, as this interpreter lists them."""
    for folder in standard_folders():
        if path.is_relative_to(folder):
            first = path.relative_to(folder).parts[0].removesuffix(".py")
            return first in sys.stdlib_module_names or first == "lib-dynload"
    return False


@cache
def standard_folders() -> tuple:
    """Where this interpreter's standard library lies."""
    return tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
