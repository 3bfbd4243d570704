"""A model folder of somebody who means harm: each ends in a sentence, at once, in little memory, without a verdict."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_environment import MIXTRAL, SETTABLE, Serving, serving_in, tuner_process
from fuzz.limit import limited

from rules.errors import TunerError
from tuner.model.model import identify
from tuner.model.remote_code import MAX_BYTES, MAX_FILES
from tuner.untrusted.json_text import MAX_PARTS, MAX_VALUES
from tuner.verdicts.identity import MISSING, files_digest, hash_sources, python_files, remote_code

CONFIG = (MIXTRAL / "config.json").read_text()
Planted = Callable[[Path], object]


def loop(file: Path) -> None:
    """Two links to one another."""
    other = file.with_suffix(".other")
    file.symlink_to(other)
    other.symlink_to(file)


def listening(file: Path) -> None:
    """A socket of a server that is gone."""
    here = Path.cwd()
    os.chdir(file.parent)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(file.name)
    os.chdir(here)


FILES: dict[str, tuple[Planted, str]] = {
    "a loop of links": (loop, "cannot be read: Too many levels of symbolic links."),
    "a link to nothing": (lambda file: file.symlink_to("nowhere"), ""),
    "a link to a device": (lambda file: file.symlink_to("/dev/zero"), "cannot be read: it is not a regular file."),
    "a link to a terminal": (lambda file: file.symlink_to("/dev/tty"), "cannot be read: it is not a regular file."),
    "a link to a folder": (lambda file: file.symlink_to("/"), "cannot be read: it is not a regular file."),
    "a pipe": (os.mkfifo, "cannot be read: it is not a regular file."),
    "a link to a pipe": (
        lambda file: (os.mkfifo(file.with_suffix(".pipe")), file.symlink_to(file.with_suffix(".pipe"))),
        "cannot be read: it is not a regular file.",
    ),
    "a socket": (listening, "cannot be read: it is not a regular file."),
    "a folder": (lambda file: file.mkdir(), "cannot be read: it is not a regular file."),
}
every_file = pytest.mark.parametrize(("plant", "said"), FILES.values(), ids=FILES)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Serving:
    """An environment in which nothing can run."""
    return serving_in(tmp_path_factory.mktemp("env"), SETTABLE)


@every_file
def test_a_config_that_is_no_file_is_named_at_once(tmp_path: Path, plant: Planted, said: str) -> None:
    """Nothing waits for a pipe, and no device is opened."""
    plant(tmp_path / "config.json")
    with limited(120), pytest.raises(TunerError) as raised:
        identify(str(tmp_path))
    assert raised.value.kind == "model"
    assert raised.value.hint
    assert (f"{tmp_path / 'config.json'} {said}" if said else f"{tmp_path} has no config.json") in raised.value.message


def test_a_file_without_end_is_named_at_once(tmp_path: Path) -> None:
    """The kernel's log counts as a regular file; what it gives depends on whether there is something new in it."""
    (tmp_path / "config.json").symlink_to("/proc/kmsg")
    with limited(120), pytest.raises(TunerError) as raised:
        identify(str(tmp_path))
    assert raised.value.kind == "model"
    assert re.search(r"/config\.json (cannot be read: |is not (JSON|UTF-8): )", raised.value.message)


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    """The hub's cache keeps every file elsewhere, behind a link."""
    (tmp_path / "blob").write_text(CONFIG)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to("../blob")
    assert identify(str(tmp_path / "model")).fingerprint == identify(str(MIXTRAL)).fingerprint


# ---- the model's own code


def digest_of(folder: Path, *, trusted: bool = True) -> str:
    """The digest of a model folder's code."""
    (folder / "config.json").write_text(CONFIG)
    return remote_code(identify(str(folder)), trusted=trusted)


@every_file
def test_code_that_is_no_file_is_refused(tmp_path: Path, plant: Planted, said: str) -> None:
    """With --trust-remote-code, before anything runs; without it, the code is not looked at."""
    plant(tmp_path / "modeling_x.py")
    with limited(120), pytest.raises(TunerError, match="cannot be read") as raised:
        digest_of(tmp_path)
    assert said in raised.value.message
    assert digest_of(tmp_path, trusted=False) == ""


def test_code_that_is_too_much_is_refused(tmp_path: Path) -> None:
    """By the size of all files together, by their number, and by what a folder holds; the sentence says which."""
    for number in range(3):
        os.truncate(os.open(tmp_path / f"m{number}.py", os.O_CREAT | os.O_WRONLY), MAX_BYTES // 2)
    with pytest.raises(TunerError, match="are larger than 16 MiB"):
        digest_of(tmp_path)
    for number in range(MAX_FILES + 1):
        (tmp_path / f"m{number}.py").touch()
    with pytest.raises(TunerError, match="holds more files than a model's folder does"):
        digest_of(tmp_path)


def test_the_digest_of_code_is_the_one_of_earlier_releases(tmp_path: Path) -> None:
    """Stored verdicts of models with code of their own stay valid."""
    (tmp_path / "modeling_x.py").write_text("class X: ...\n")
    (tmp_path / "a.py").write_text("")
    (tmp_path / ".hidden.py").write_text("1\n")
    assert digest_of(tmp_path) == files_digest(python_files(tmp_path))


def test_a_source_file_that_is_none_counts_as_missing(tmp_path: Path, serving: Serving) -> None:
    """A stored verdict, which may be an imported one, names the files to hash."""
    os.mkfifo(tmp_path / "pipe.py")
    os.truncate(os.open(tmp_path / "huge.py", os.O_CREAT | os.O_WRONLY), 1 << 40)
    names = ["/dev/zero", "/dev/tty", str(tmp_path / "pipe.py"), str(tmp_path / "huge.py"), "nul\0", str(tmp_path)]
    assert set(hash_sources(serving.read(), names).values()) == {MISSING}


# ---- JSON

HEAD, TAIL = '{"architectures": ["MixtralForCausalLM"], "x": ', "}"
HOSTILE = {
    "16 MiB of lists": lambda: "[" + "[]," * (5 << 20) + "[]]",
    "16 MiB of numbers": lambda: "[" + "1," * (7 << 20) + "1]",
    "16 MiB of nesting": lambda: "[" * (7 << 20),
    "16 MiB in one text": lambda: '"' + "x" * (17 << 20) + '"',
    "a number of a million digits": lambda: "9" * 1_000_000,
    "NaN": lambda: "NaN",
    "a key twice": lambda: '{"a": 1, "a": 2}',
    "half a surrogate": lambda: '"\udcff"',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_config_is_refused_at_once(tmp_path: Path, serving: Serving, name: str) -> None:
    """By `tuner probe`, in one sentence; nothing is stored."""
    text = (HEAD + HOSTILE[name]() + TAIL).encode("utf-8", "surrogateescape")
    (tmp_path / "config.json").write_bytes(text)
    store = tmp_path / "store" / "verdicts.sqlite"
    answer = tuner_process("probe", "--python", serving.python, "--store", store, tmp_path, code=1)
    assert f"{tmp_path / 'config.json'} " in answer.err
    assert not store.exists()


WORST = """
import resource, sys
from pathlib import Path
from tuner.model.model import identify
from tuner.model.shrink import shrink
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shrink(identify(sys.argv[1]).config)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("text", ["[" + "[]," * (MAX_PARTS - 9) + "[]]", "[" + "1.5," * (MAX_VALUES - 9) + "1]"])
def test_what_is_just_allowed_is_cheap(tmp_path: Path, text: str) -> None:
    """The largest config within the bounds is read, fingerprinted and shrunk in less than 300 MiB."""
    (tmp_path / "config.json").write_text(HEAD + text + TAIL)
    process = subprocess.run(
        [sys.executable, "-c", WORST, tmp_path], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(process.stdout) < 300 * 1024  # KiB
