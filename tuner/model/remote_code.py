"""The Python files in a model's folder, which run only if the user trusts them: listed and hashed within bounds."""

import hashlib
import os
from itertools import islice
from pathlib import Path

from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain

MAX_ENTRIES = 100_000
MAX_FILES = 1000
MAX_BYTES = 16 * 2**20
"""Limit for all files together."""


def code_files(folder: Path) -> list[Path]:
    """The Python files of a model folder, by name, without sub-folders, which vLLM does not need.

    Raises:
        TunerError: kind `model`: the folder cannot be read, or holds more than a model's folder does.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in islice(entries, MAX_ENTRIES + 1)]
    except OSError as error:
        raise _bad(f"{folder} cannot be read: {error.strerror}.") from None
    scripts = sorted(name for name in names if name.endswith(".py"))
    if len(names) > MAX_ENTRIES or len(scripts) > MAX_FILES:
        raise _bad(f"{folder} holds more files than a model's folder does.")
    return [folder / name for name in scripts]


def code_digest(files: list[Path]) -> str:
    """One sha256 over names and contents.

    Raises:
        TunerError: kind `model`: a file cannot be read, is a pipe or a device, or they are too large.
    """
    total, budget = hashlib.sha256(), MAX_BYTES
    for file in files:
        try:
            data = read_plain(file, budget + 1)
        except OSError as error:
            raise _bad(f"{file} cannot be read: {error.strerror}.") from None
        budget -= len(data)
        if budget < 0:
            raise _bad(f"The Python files in {file.parent} are larger than {MAX_BYTES >> 20} MiB.")
        total.update(file.name.encode("utf-8", "surrogateescape") + b"\0" + data + b"\0")
    return total.hexdigest()


def _bad(message: str) -> TunerError:
    return TunerError(
        message, hint="Without --trust-remote-code no file of the folder is run or read.", kind=ErrorKind.MODEL
    )
