"""Installed packages and the folders of their modules, found from files in the way of Python's import system."""

import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from tuner.environment.interpreter import entries
from tuner.untrusted.files import read_plain

MAX_METADATA = 2**18
"""Bytes of a package's metadata; its headers, the version among them, stand at the start."""

_METADATA = (".dist-info", ".egg-info")
_STATEMENTS = ("METADATA", "PKG-INFO", "")
"""Files that state a version, in the order of `importlib.metadata`; empty: the metadata is itself a file."""
_VERSION = re.compile(r"^version:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)


class Distribution(Struct, frozen=True):
    """An installed package.

    Attributes:
        name: normalised by the rules of PEP 503: lower case, single dashes.
        metadata: path of its `.dist-info` or `.egg-info`.
    """

    name: str
    metadata: str


class Stated(Struct, frozen=True):
    """A version and the file that states it."""

    version: str
    file: str


def installed(site: Iterable[str]) -> dict[str, list[Distribution]]:
    """Installed packages by normalised name; packages of one name are in the order in which Python finds them.

    This is the order of the search path and, in one folder, the order in which the system lists it
    (`importlib.metadata.MetadataPathFinder`).
    """
    packages: dict[str, list[Distribution]] = {}
    for folder in site:
        for entry in entries(folder):
            if entry.endswith(_METADATA):
                package = Distribution(_name(entry), f"{folder}/{entry}")
                packages.setdefault(package.name, []).append(package)
    return packages


def stated_version(package: Distribution) -> Stated | None:
    """The version that a package's metadata states; None if it states none, as in the remains of a removed package."""
    for name in _STATEMENTS:
        file = f"{package.metadata}/{name}".rstrip("/")
        headers = _read(file).partition("\n\n")[0]
        if version := _VERSION.search(headers):
            return Stated(version[1], file)
    return None


def module_folder(site: Iterable[str], name: str) -> Path | None:
    """The folder of an importable package: the first on the search path with an `__init__.py`.

    A folder without that file is a namespace package, which Python takes only if no other folder has the name.
    """
    folders = [Path(folder, name) for folder in site]
    for folder in folders:
        if (folder / "__init__.py").is_file():
            return folder
    for folder in folders:
        if folder.is_dir():
            return folder
    return None


def module_text(folder: Path | None, file: str) -> str:
    """The first 256 KiB of a package's file as text; empty if there is no file."""
    return "" if folder is None else _read(f"{folder}/{file}")


def _name(entry: str) -> str:
    """The name in `NAME-VERSION.dist-info`, or in an `.egg-info`, which may have no version."""
    stem, _, kind = entry.rpartition(".")
    name = stem.partition("-")[0] if kind == "egg-info" else stem.rpartition("-")[0] or stem
    return re.sub(r"[-_.]+", "-", name).lower()


def _read(file: str) -> str:
    try:
        return read_plain(Path(file), MAX_METADATA).decode("utf-8", errors="replace").replace("\r\n", "\n")
    except OSError:
        return ""
