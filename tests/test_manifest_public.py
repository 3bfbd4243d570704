"""Every public manifest of `tests/manifests/` is read, and its launches are those that a reader finds.

`manifest_launches.json` holds the number of launches of every file, and for 30 files of all shapes the whole argument
lists, each compared by hand with the file.
"""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tuner.manifests.find import launches_in
from tuner.manifests.launch import Form, ManifestLaunch

MANIFESTS = Path(__file__).parent / "manifests"
FILES = sorted(path.relative_to(MANIFESTS).as_posix() for path in MANIFESTS.glob("*/*.yaml"))
TABLE: dict[str, Any] = json.loads((MANIFESTS.parent / "manifest_launches.json").read_text(encoding="utf-8"))


@cache
def text(file: str) -> str:
    """What a manifest says."""
    return (MANIFESTS / file).read_text(encoding="utf-8")


@cache
def launches(file: str) -> list[ManifestLaunch]:
    """The launches in a manifest."""
    return launches_in(Path(file).name, text(file))


def test_the_manifests_are_there() -> None:
    """All 134 files of the six repositories are here, and the table is about exactly these."""
    assert len(FILES) == 134
    assert set(TABLE["counts"]) == set(FILES)
    assert len({file.partition("/")[0] for file in FILES}) == 6
    assert len(TABLE["launches"]) >= 25


@pytest.mark.parametrize("file", FILES)
def test_every_file_is_read(file: str) -> None:
    """No file crashes the reader, and as many launches are found as the table says."""
    assert len(launches(file)) == TABLE["counts"][file]


@pytest.mark.parametrize("file", TABLE["launches"])
def test_the_launches_are_those_in_the_file(file: str) -> None:
    """Line, image and every argument are what the file says."""
    found = [
        {"line": one.line, "shape": one.shape, "image": one.image, "args": list(one.args)} for one in launches(file)
    ]
    assert found == TABLE["launches"][file]


@pytest.mark.parametrize("file", FILES)
def test_every_word_stands_where_it_says(file: str) -> None:
    """What stands at the place of an argument that can be edited is that argument, and on its line."""
    for launch in launches(file):
        for word in launch.words:
            if word.owner is None:
                continue
            written = text(file)[word.start : word.stop]
            assert word.line == text(file).count("\n", 0, word.start) + 1
            bare = written.strip().strip("'\"") if word.owner.form is not Form.SHELL else written
            assert "$" in written or word.text.strip() in bare.replace("''", "'") or written[0] in "'\""


def test_command_lines_are_split_as_bash_splits_them() -> None:
    """Of every command line without a substitution, bash itself makes the words that were found."""
    compared = 0
    for file in FILES:
        for launch in launches(file):
            written = [word for word in launch.words if word.owner is not None and word.owner.form is Form.SHELL]
            line = text(file)[written[0].start : written[-1].stop] if written else "$"
            if not set("$`<>#") & set(line):
                flat = line if "\\\n" in line else line.replace("\n", " ")  # folded scalars have no continuation
                process = subprocess.run(
                    ["bash", "-c", f"printf '%s\\0' {flat}"], capture_output=True, check=True, text=True
                )
                found = [word.text.split() for word in written]
                assert [word.split() for word in process.stdout.split("\0")[:-1]] == found
                compared += 1
    assert compared > 150
