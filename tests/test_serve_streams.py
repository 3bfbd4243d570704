"""`tuner serve` starts the server whatever becomes of its own streams; other commands end in order.

Every test runs the whole command in a process of its own, behind a shell that opens or closes its streams.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MIXTRAL, OURS, QWEN, Serving

ROOT = Path(__file__).parents[1]
CODE = 7
FILE = "SHOWN"
PROGRAM = f"""#!{sys.executable}
import json, os, sys
def kind(number):
    try:
        return os.readlink("/proc/self/fd/%d" % number)
    except OSError:
        return None
facts = {{"args": sys.argv[1:], "streams": [kind(number) for number in range(3)]}}
with open(os.environ["{FILE}"], "w", encoding="utf-8") as file:
    json.dump(facts, file)
os._exit({CODE})
"""
"""It stands in for `vllm` and says in a file what it was given, for it may have no stream."""
Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shown(serving: Serving, tmp_path: Path) -> Path:
    """Where the server will say what it was given."""
    script = serving.folder / "bin" / "vllm"
    script.write_text(PROGRAM, encoding="utf-8")
    script.chmod(0o755)
    return tmp_path / "shown.json"


@pytest.fixture
def shell(serving: Serving, shown: Path, store: Path) -> Shell:
    """Runs `tuner` with redirections of a shell."""

    def run(redirections: str, command: str, *args: object, **streams: Any) -> subprocess.CompletedProcess[str]:
        own = ["--store", store] if command == "verdicts" else ["--python", serving.python, "--store", store]
        names = [command, "list"] if command == "verdicts" else [command]
        words = [sys.executable, "-m", "tuner", *names, *own, *args]
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        env = {**clean, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8", FILE: str(shown)}
        whole = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        script = ["bash", "-c", f'exec "$@" {redirections}', "-", *map(str, words)]
        return subprocess.run(script, env=env, text=True, timeout=120, check=False, **whole)

    return run


def started(shown: Path) -> dict[str, Any]:
    """What the server was given; it has the one safe value."""
    facts: dict[str, Any] = json.loads(shown.read_text(encoding="utf-8"))
    assert facts["args"] == ["serve", str(QWEN), "--compilation-config", '{"fast_moe_cold_start": false}']
    return facts


@pytest.mark.parametrize(
    ("redirections", "streams"),
    [
        ("2>/dev/full", {2: "/dev/full"}),
        (">/dev/full 2>/dev/full", {1: "/dev/full", 2: "/dev/full"}),
        ("2>&-", {2: None}),
        (">&-", {1: None}),
        ("<&-", {0: None}),
        ("<&- >&- 2>&-", {0: None, 1: None, 2: None}),
    ],
)
def test_a_server_starts_without_a_stream(
    shell: Shell, shown: Path, redirections: str, streams: dict[int, str | None]
) -> None:
    """Full and closed ones: the server has the streams that the command was given, and its exit code counts."""
    assert shell(redirections, "serve", QWEN).returncode == CODE
    facts = started(shown)
    assert {number: facts["streams"][number] for number in streams} == streams


def fill(pipe: int) -> None:
    """Write until nothing more goes in."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    os.set_blocking(pipe, True)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_server_starts_into_a_broken_pipe(shell: Shell, shown: Path, stream: str) -> None:
    """Whoever read the messages is gone."""
    read, write = os.pipe()
    os.close(read)
    assert shell("", "serve", QWEN, **{stream: write}).returncode == CODE
    os.close(write)
    started(shown)


def test_a_server_starts_into_a_pipe_that_nobody_reads(shell: Shell, shown: Path) -> None:
    """The pipe is full, so that a word more would wait for ever."""
    read, write = os.pipe()
    fill(write)
    assert shell("", "serve", QWEN, stderr=write).returncode == CODE
    os.close(write)
    os.close(read)
    started(shown)


def test_the_message_is_there_where_it_can_be_written(shell: Shell, shown: Path) -> None:
    """The measure sees a message."""
    assert "no verdict" in shell("", "serve", QWEN).stderr
    started(shown)


@pytest.fixture
def filled(serving: Serving, store: Path) -> None:
    """The store knows Mixtral."""
    serving.remember(store, MIXTRAL)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(("redirection", "said"), [(">/dev/full", "No space left"), (">&-", "is closed")])
@pytest.mark.parametrize("command", ["verdict", "plan", "verdicts", "serve"])
def test_a_result_that_cannot_be_written_is_a_failure(shell: Shell, redirection: str, said: str, command: str) -> None:
    """It ends with 1 and a sentence, without a traceback."""
    rest = {"verdicts": [], "serve": ["--dry-run", MIXTRAL]}.get(command, [MIXTRAL])
    done = shell(redirection, command, *rest)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("tuner: The result cannot be written: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["verdict", "--help"]])
def test_help_that_cannot_be_written_is_a_failure(words: list[str]) -> None:
    """It ends with 1 and a sentence, too; a reader that goes away, as `head` does, hears nothing."""
    command = [sys.executable, "-m", "tuner", *words]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    assert process.returncode == 1
    assert process.stderr.splitlines() == ["tuner: The result cannot be written: No space left on device."]
    read, write = os.pipe()
    os.close(read)
    gone = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120, check=False)
    os.close(write)
    assert (gone.returncode, gone.stderr) == (1, "")


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_a_message_that_cannot_be_written_changes_no_exit_code(shell: Shell, redirection: str) -> None:
    """`verdict` of an unknown model ends with 3, and of a folder that is not there with 1."""
    assert shell(redirection, "verdict", QWEN).returncode == 3
    assert shell(redirection, "verdict", "./no-such-folder").returncode == 1
