"""Counts how many launches in a folder of files `tuner check` reads rightly.

python -m tools.count_readings FOLDER               # launches, hidden ones, files with a note, files with nothing
python -m tools.count_readings FOLDER --hand FILE   # each launch against its argument list, written by hand

FILE is a JSON object. Its key `launches` maps a file's path in FOLDER to the launches that a person read in it:
`{"line": 3, "args": ["facebook/opt-125m", "--port", "$PORT"]}`, or `{"line": 3, "hidden": "$EXTRA_ARGS"}` where a part
of the arguments is not written in the file. A value that is not known stands as `$NAME`.
Files that FILE does not name are not compared.
"""

import argparse
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cache.secrets import without_keys

TUNER = str(Path(sys.executable).with_name("tuner"))
NOTES = frozenset({"launch-unread", "file-unreadable"})
"""Rules whose finding says that a launch was not read."""
NEAR = 12
"""Lines between a launch as a person places it and as the check places it, at most."""
_COMMAND = re.compile(r"\$\(.*\)", re.DOTALL)
_SUBSTITUTION = re.compile(r"\$\$?\{[!#]?(\w+)[^}]*\}")


class Reading(StrEnum):
    """How a launch was read."""

    READ = "read"
    """The argument list equals the one written by hand."""
    HIDDEN = "hidden"
    """A note says what hides a part of the arguments."""
    NOTED = "not read, with a note"
    """A note says that a launch here is not read."""
    SILENT = "silent"
    """The check neither reads the launch nor notes it."""
    MISREAD = "misread"
    """Another argument list, without a note; or a launch where there is none."""


@dataclass(frozen=True)
class Launch:
    """A launch, as written by hand or as the check sees it.

    Attributes:
        line: where it is, from 1.
        args: its arguments in the form that is compared; None where a person could not know them.
        is_hidden: a part of the arguments is not written in the file.
    """

    line: int
    args: tuple[Any, ...] | None
    is_hidden: bool = False


@dataclass(frozen=True)
class FileCheck:
    """What the check says of one file.

    Attributes:
        launches: those that it reads.
        notes: the lines of the notes that say that something is not read.
    """

    launches: tuple[Launch, ...] = ()
    notes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How one launch was read.

    Attributes:
        path: its file.
        line: where it is, from 1.
        reading: how it was read.
        expected: the arguments written by hand.
        got: the arguments that the check shows.
    """

    path: str
    line: int
    reading: Reading
    expected: Sequence[Any] | None = None
    got: Sequence[Any] | None = None


def main() -> None:
    """Count, and print one count a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hand", type=Path, help="argument lists written by hand")
    arguments = parser.parse_args()
    if arguments.hand is None:
        print_files(checked_files(arguments.folder))
        return
    by_hand = json.loads(arguments.hand.read_text(encoding="utf-8"))["launches"]
    print_outcomes(outcomes(arguments.folder, by_hand))


def print_files(files: Mapping[str, FileCheck]) -> None:
    """Print the counts that need no list written by hand: launches, and files with a note."""
    launches: list[Launch] = []
    for file in files.values():
        launches += file.launches
    noted = sorted(path for path, file in files.items() if file.notes)
    for path in noted:
        print(f"note: {path}:{files[path].notes[0]}")
    print(f"files: {len(files)}")
    print(f"files with a note that a launch is not read: {len(noted)}")
    print(f"files with nothing: {sum(file == FileCheck() for file in files.values())}")
    print(f"launches: {len(launches)}")
    print(f"launches with hidden arguments: {sum(launch.is_hidden for launch in launches)}")


def print_outcomes(readings: Sequence[Outcome]) -> None:
    """Print the launches that are silent or misread, then the counts."""
    for outcome in readings:
        if outcome.reading in {Reading.SILENT, Reading.MISREAD}:
            print(f"{outcome.reading}: {outcome.path}:{outcome.line}")
        if outcome.reading is Reading.MISREAD:
            print(f"  by hand: {outcome.expected}\n  check:   {outcome.got}")
    numbers = Counter(outcome.reading for outcome in readings)
    print(f"launches: {len(readings)}")
    for reading in Reading:
        print(f"{reading}: {numbers[reading]} ({numbers[reading] / max(1, len(readings)):.0%})")


def outcomes(folder: Path, by_hand: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Outcome]:
    """How each launch written by hand was read, and each launch that the check reads where nobody wrote one.

    Args:
        folder: the files.
        by_hand: path in the folder -> the launches in it.
    """
    files = checked_files(folder, sorted(by_hand))
    results: list[Outcome] = []
    for path, entries in sorted(by_hand.items()):
        expected = [launch_by_hand(entry) for entry in entries]
        results += outcomes_of(path, expected, files.get(path, FileCheck()))
    return results


def launch_by_hand(entry: Mapping[str, Any]) -> Launch:
    """A launch from the file written by hand. Its arguments are None if a person cannot know them."""
    args = comparable(entry["args"]) if "args" in entry else None
    return Launch(entry["line"], args, "hidden" in entry)


def checked_files(folder: Path, names: Iterable[str] = ()) -> dict[str, FileCheck]:
    """What the check says of each file.

    Args:
        folder: where the files are.
        names: the files, as paths in the folder; empty: all.
    """
    paths = list(names) or sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    command = [TUNER, "check", "--json", "--", *paths]
    process = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
    document = json.loads(process.stdout)
    if "launches" not in document:
        sys.exit(process.stderr)
    hidden = {(entry["path"], entry["line"]) for entry in document["findings"] if entry["rule"] == "arguments-hidden"}
    files: dict[str, FileCheck] = {}
    for path in paths:
        launches = tuple(
            Launch(entry["line"], comparable(entry["args"]), (path, entry["line"]) in hidden)
            for entry in document["launches"]
            if entry["path"] == path
        )
        notes = [entry["line"] for entry in document["findings"] if entry["path"] == path and entry["rule"] in NOTES]
        files[path] = FileCheck(launches, tuple(sorted(notes)))
    return files


def comparable(args: Sequence[str]) -> tuple[Any, ...]:
    """Arguments in the form that is compared: JSON as its value, and a substitution by its name.

    `${NAME:-default}` is `$NAME`, and each command in `$(…)` is the same. Keys are masked, as the check shows them.
    """
    return tuple(_comparable_word(word) for word in without_keys(tuple(args)))


def _comparable_word(word: str) -> Any:
    plain = _SUBSTITUTION.sub(r"$\1", _COMMAND.sub("$()", word))
    if plain.startswith("{"):
        with suppress(ValueError):
            return json.loads(plain)
    return plain


def outcomes_of(path: str, by_hand: Sequence[Launch], file: FileCheck) -> list[Outcome]:
    """The outcome of each launch of a file written by hand, then of each launch that nobody wrote."""
    unmatched = list(file.launches)
    equal: dict[int, Launch] = {}
    for index, launch in enumerate(by_hand):
        partner = _nearest([other for other in unmatched if other.args == launch.args], launch.line)
        if partner is not None:
            unmatched.remove(partner)
            equal[index] = partner
    results: list[Outcome] = []
    for index, launch in enumerate(by_hand):
        partner = equal.get(index)
        if partner is None:
            close = [other for other in unmatched if abs(other.line - launch.line) <= NEAR]
            partner = _nearest(close, launch.line)
            if partner is not None:
                unmatched.remove(partner)
        results.append(_outcome(path, launch, partner, file.notes))
    for launch in unmatched:
        reading = Reading.HIDDEN if launch.is_hidden else Reading.MISREAD
        results.append(Outcome(path, launch.line, reading, None, launch.args))
    return results


def _nearest(launches: Sequence[Launch], line: int) -> Launch | None:
    return min(launches, key=lambda launch: abs(launch.line - line), default=None)


def _outcome(path: str, expected: Launch, partner: Launch | None, notes: Sequence[int]) -> Outcome:
    if partner is None:
        is_noted = any(abs(line - expected.line) <= NEAR for line in notes)
        return Outcome(path, expected.line, Reading.NOTED if is_noted else Reading.SILENT, expected.args)
    if partner.is_hidden:
        return Outcome(path, expected.line, Reading.HIDDEN, expected.args, partner.args)
    reading = Reading.READ if partner.args == expected.args else Reading.MISREAD
    return Outcome(path, expected.line, reading, expected.args, partner.args)


if __name__ == "__main__":
    main()
