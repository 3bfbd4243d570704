"""The files that a check or an edit looks into: where they are, their text, and the launches in them."""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from rules.errors import ErrorKind, TunerError
from tuner.manifests.files import files_below, is_read
from tuner.manifests.find import launches_in
from tuner.manifests.launch import ManifestLaunch
from tuner.untrusted.files import read_plain

MAX_BYTES = 4 * 2**20
MAX_LIST = 16 * 2**20
"""Bytes of JSON on standard input, such as the pods of a cluster; JSON takes a fraction of the time of YAML."""
STDIN = Path("-")
"""Stands for standard input, which holds YAML documents."""
SENT = Path("<sent>")
"""Stands for JSON that somebody sent: no file of this machine that it names is read."""
_NAMES = {STDIN: "stdin.yaml", SENT: "sent.json"}
_LABELS = {STDIN: "<stdin>", SENT: ""}


def manifests_at(paths: Iterable[Path]) -> Iterator[Path]:
    """The files to look into: a file that is named, and below a folder all that may be manifests, by name; each once.

    Raises:
        TunerError: there is nothing at a path, or a pipe or a device.
    """
    yielded: set[Path] = set()
    for path in paths:
        if path != STDIN:
            _require_file_or_folder(path)
        for file in files_below(path) if path != STDIN and path.is_dir() else [path]:
            if file not in yielded:
                yielded.add(file)
                yield file


def shown_path(file: Path) -> str:
    """What a file is called in results; empty for what was sent."""
    return _LABELS.get(file, str(file))


def read_manifest(file: Path) -> str:
    """The text of a manifest, line ends as they are.

    Raises:
        ValueError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        data = _standard_input() if file == STDIN else read_plain(file, MAX_BYTES + 1)
    except OSError as error:
        special = error.errno == errno.EINVAL
        raise ValueError("it is not a regular file" if special else f"it cannot be read: {error.strerror}") from None
    if file == STDIN and not data.strip():  # what writes into the pipe failed
        raise ValueError("standard input is empty")
    limit = MAX_LIST if file == STDIN and data.lstrip()[:1] == b"{" else MAX_BYTES
    if len(data) > limit:
        raise ValueError(f"it is larger than {limit >> 20} MiB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def launches_of(file: Path, text: str) -> list[ManifestLaunch]:
    """The launches in a file, in the order of its lines; none where its kind is only searched for mentions.

    Raises:
        ValueError: the text is not what the file's name says.
    """
    name = name_of(file)
    return launches_in(name, text) if is_read(name) else []


def name_of(file: Path) -> str:
    """The name by which a file is read."""
    return _NAMES.get(file, file.name)


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed")
    return sys.stdin.buffer.read(MAX_LIST + 1)


def _require_file_or_folder(path: Path) -> None:
    # The functions of os.path say no where the methods raise, for a name that is too long.
    if not os.path.exists(path):  # noqa: PTH110
        raise TunerError(
            f"There is no file or folder {path}.",
            hint="Name a manifest, or a folder of them.",
            kind=ErrorKind.MANIFEST,
        )
    if not os.path.isfile(path) and not os.path.isdir(path):  # noqa: PTH112, PTH113
        raise TunerError(
            f"{path} is not a regular file.",
            hint="Give what a pipe holds on standard input: `... | tuner check -`.",
            kind=ErrorKind.MANIFEST,
        )
