"""Says whose code a file is: that of Python, of vLLM, of a package that vLLM requires, or foreign code.

The RECORD of the distribution that installed a file decides, never words in its path. A file that changed since it was
installed is foreign code. So is a vLLM that was installed without a RECORD, such as an editable one.
"""

import base64
import csv
import importlib.metadata
import os
import re
import sys
import sysconfig
from contextlib import suppress
from functools import cache
from importlib.metadata import Distribution
from pathlib import Path

from shared_worker.installed import digest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A distribution's name at the start of a requirement."""
WORKER = Path(__file__).resolve().parents[1]
"""The folder of this worker's own code."""
SHARED_WORKER = WORKER.parents[2] / "processes" / "worker" / "shared_worker"
"""The folder of the code that all workers share. It is derived from the place of this file. An imported module could
name another folder."""


class Origins:
    """The files of vLLM, of the packages that it requires, and of the standard library."""

    def __init__(self) -> None:
        self.vllm = owner_of("vllm/__init__.py")
        self.hashes: dict[str, str] = {}
        for distribution in required_by(self.vllm):
            self.hashes.update(recorded_hashes(distribution))
        self.own = recorded_hashes(self.vllm)
        self.torch = recorded_hashes(owner_of("torch/__init__.py"))
        self.answers: dict[str, bool] = {}

    def is_trusted(self, file: str) -> bool:
        """Whether a file is a part of Python, or of vLLM or a package that it requires, and did not change since.

        Code that a trusted package makes at run time is trusted, too. It has no file, or a file in torch's own cache.
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
            return expected == digest(path)
        return False

    def counted_digest(self, file: str) -> str:
        """The sha256 of a file on which a verdict depends, in hexadecimal digits.

        Empty for files of Python and torch, because a verdict depends on their versions, and for unreadable files.
        """
        path = Path(file).resolve()
        if is_standard(path) or str(path) in self.torch:
            return ""
        with suppress(OSError):
            return digest(path)
        return ""

    def is_own(self, file: str) -> bool:
        """Whether the file was installed with vLLM itself."""
        return str(Path(file).resolve()) in self.own


@cache
def is_of_worker(file: str) -> bool:
    """Whether the file lies, with links and `..` resolved, in one of the folders of this worker's code."""
    path = Path(file).resolve()
    return path.is_relative_to(WORKER) or path.is_relative_to(SHARED_WORKER)


def is_generated(file: str) -> bool:
    """Whether torch generated this file into this process's own cache."""
    folder = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return bool(folder) and Path(file).is_relative_to(str(folder))


def owner_of(file: str) -> Distribution | None:
    """The distribution whose RECORD names this file; None if there is none."""
    for distribution in importlib.metadata.distributions():
        lines = (distribution.read_text("RECORD") or "").splitlines()
        if any(line.startswith(f"{file},") for line in lines):
            return distribution
    return None


def required_by(distribution: Distribution | None) -> list[Distribution]:
    """The installed distributions that this one requires, directly or through others."""
    required: dict[str, Distribution] = {}
    waiting = names_required(distribution) if distribution else []
    while waiting:
        name = waiting.pop()
        if name in required:
            continue
        with suppress(importlib.metadata.PackageNotFoundError):
            required[name] = importlib.metadata.distribution(name)
            waiting += names_required(required[name])
    return list(required.values())


def names_required(distribution: Distribution) -> list[str]:
    """The normalised names of the distributions in its metadata, also of those that only an extra requires."""
    matches = [NAME.match(text) for text in distribution.requires or ()]
    return [re.sub(r"[-_.]+", "-", match[0]).lower() for match in matches if match]


def recorded_hashes(distribution: Distribution | None) -> dict[str, str]:
    """Absolute path -> sha256 in hexadecimal, of each Python file in the distribution's RECORD."""
    hashes: dict[str, str] = {}
    if distribution is None:
        return hashes
    for row in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if row and row[0].endswith(".py") and row[1].startswith("sha256="):
            encoded = row[1].removeprefix("sha256=")
            path = resolved(str(distribution.locate_file(row[0])))
            hashes[path] = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).hex()
    return hashes


@cache
def resolved(file: str) -> str:
    """The path without links. Each folder is looked up once, because an environment has tens of thousands of files."""
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
def standard_folders() -> tuple[Path, ...]:
    """The folders of this interpreter's standard library."""
    return tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
