"""`tuner apply` over every public manifest: only the lines of the arguments change, and the second time none.

The environment is one where the launch decides the flag and no verdict is stored, so every launch needs an edit: that
is the safe `false` of `tuner serve`. Images that name another vLLM or platform need none. Nothing is written for a
model that cannot be identified, so each hub id that a launch names gets the config of a published model.
"""

import difflib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_environment import MIXTRAL, SETTABLE, serving_in
from msgspec.structs import replace as with_fields

from cache.verdicts.store import VerdictStore
from tuner.arguments.serve_arguments import parse
from tuner.checks.apply import Applied, apply
from tuner.checks.examine import Knowledge
from tuner.manifests.find import launches_in
from tuner.manifests.launch import ManifestLaunch

MANIFESTS = Path(__file__).parent / "manifests"
FILES = sorted(path.relative_to(MANIFESTS).as_posix() for path in MANIFESTS.glob("*/*.yaml"))
MERGED = "fast_moe_cold_start"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass
class Run:
    """Two runs over all files: by path, what the first made of a file and how many launches the second would change."""

    first: dict[str, Applied]
    second: dict[str, int]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Both runs, on copies; made once, for they take half a minute."""
    folder = tmp_path_factory.mktemp("apply")
    environment = with_fields(serving_in(folder / "env", SETTABLE).read(), platform="cuda")
    knowledge = Knowledge(VerdictStore(folder / "verdicts.sqlite"), environment, configs=configs_in(folder / "configs"))
    first, copies = {}, []
    for file in FILES:
        (first[file],) = apply([MANIFESTS / file], knowledge)
        copies.append(folder / "copies" / file)
        copies[-1].parent.mkdir(parents=True, exist_ok=True)
        copies[-1].write_bytes(first[file].after.encode())
    second = {str(applied.path): applied.changed for applied in apply(copies, knowledge)}
    return Run(first, {file: second[str(folder / "copies" / file)] for file in FILES})


def configs_in(folder: Path) -> Path:
    """A folder with a configuration for each hub id that a launch of these files names."""
    for file in FILES:
        for launch in launches_in(Path(file).name, (MANIFESTS / file).read_text(encoding="utf-8")):
            for name in filter(HUB_ID.fullmatch, launch.args):
                place = folder / name.replace("/", "--")
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(MIXTRAL / "config.json", place)
    return folder


def replaced_lines(applied: Applied) -> Iterator[tuple[list[str], list[str]]]:
    """The groups of lines that differ, before and after."""
    before, after = applied.before.splitlines(), applied.after.splitlines()
    for tag, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if tag != "equal":
            yield before[a:b], after[c:d]


def words_of(lines: list[str]) -> list[str]:
    """What lines say, without space, quotes, list marks and continuations."""
    table = str.maketrans("", "", "'\"\\[], -")
    return [said for said in ("".join(line.translate(table).split()) for line in lines) if said]


def faces(launches: list[ManifestLaunch]) -> list[tuple[object, ...]]:
    """Launches without the places where they are written, and without arguments."""
    return [(launch.shape, launch.name, launch.image, dict(launch.env), launch.pod) for launch in launches]


def test_most_launches_are_edited(run: Run) -> None:
    """The test is about hundreds of edits, in files of every repository that has launches of this environment."""
    assert sum(applied.changed for applied in run.first.values()) > 210
    edited = {file.partition("/")[0] for file, applied in run.first.items() if applied.changed}
    assert {"vllm-project--recipes", "vllm-project--vllm-ascend", "vllm-project--production-stack"} <= edited


@pytest.mark.parametrize("file", FILES)
def test_the_second_time_nothing_changes(run: Run, file: str) -> None:
    """What was written needs no further edit."""
    assert run.second[file] == 0


@pytest.mark.parametrize("file", FILES)
def test_only_the_lines_of_the_arguments_differ(run: Run, file: str) -> None:
    """Each group of changed lines holds a compilation config, and apart from it says what it said before."""
    applied = run.first[file]
    for before, after in replaced_lines(applied):
        if not after:  # dotted keys on lines of their own, which became part of the one config
            assert all(line.strip().startswith("-cc.") for line in before)
            continue
        assert any(MERGED in line for line in after), (before, after)
        old, new = "".join(words_of(before)), "".join(words_of(after))
        rest = [word for word in words_of(after) if MERGED not in word and "compilationconfig" not in word]
        assert all(word in old for word in rest), (before, after)
        assert len(new) > len(old)


@pytest.mark.parametrize("file", FILES)
def test_each_launch_says_what_it_said_and_the_flag(run: Run, file: str) -> None:
    """Read again, each launch has its other arguments in order, its config with one key more, all else as before."""
    applied = run.first[file]
    before, after = launches_in(Path(file).name, applied.before), launches_in(Path(file).name, applied.after)
    assert faces(before) == faces(after)
    changed = 0
    for old, new in zip(before, after, strict=True):
        if old.args == new.args:
            continue
        changed += 1
        was, now = (parse(numbered(one.args), lambda _: "{}") for one in (old, new))
        assert now.without_config == was.without_config
        assert now.compilation_config == {**was.compilation_config, MERGED: False}
        assert json.dumps(now.compilation_config)
    assert changed == applied.changed


def numbered(args: tuple[str, ...]) -> list[str]:
    """Arguments whose unknown numbers are some number."""
    return ["2" if arg.startswith("${") and arg.endswith("_SIZE}") else arg for arg in args]
