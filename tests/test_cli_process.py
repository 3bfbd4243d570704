"""The command as a process: streams, colours, exit codes, signals."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_environment import ERNIE, MIXTRAL, Serving, model_like, tuner_process

COMMANDS = ("env", "probe", "verdict", "plan", "export", "serve", "verdicts list", "verdicts show", "verdicts forget")


def where(serving: Serving, tmp_path: Path) -> list[str]:
    """Options that name the environment and the store."""
    return ["--python", str(serving.python), "--store", str(tmp_path / "verdicts.sqlite")]


def test_stdout_holds_the_document_and_nothing_else(serving: Serving, tmp_path: Path) -> None:
    """Warnings go to stderr, so that a pipe into a JSON reader works."""
    serving.remember(tmp_path / "verdicts.sqlite", ERNIE)
    args = ["plan", *where(serving, tmp_path), "--json", str(ERNIE), "--", "-cc.fast_moe_cold_start=true"]
    answer = tuner_process(*args, code=0)
    assert answer.document["verdict"] == "conditional"
    assert "contradicts what is known" in answer.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name: str) -> None:
    """`--help` ends with 0, on stdout, without a frame of line-drawing characters."""
    answer = tuner_process(*name.split(), "--help", code=0)
    assert answer.out.startswith(f"Usage: tuner {name} ")
    assert answer.err == ""
    assert "─" not in answer.out


def test_the_version_is_printed() -> None:
    """One line for scripts."""
    assert tuner_process("--version", code=0).out.startswith("tuner ")


@pytest.mark.parametrize(
    "args", [["nonsense"], ["plan"], ["plan", str(MIXTRAL), "--port", "1"], ["env", "--no-such"], ["verdicts", "what"]]
)
def test_usage_errors_end_with_2_and_an_empty_stdout(args: list[str]) -> None:
    """The command line misused is not the model's fault."""
    answer = tuner_process(*args, code=2)
    assert answer.out == ""
    assert "Usage: tuner" in answer.err


@pytest.mark.parametrize("command", ["verdict", "plan", "export", "env"])
@pytest.mark.parametrize("variables", [{"TERM": "xterm-256color"}, {"COLORTERM": "truecolor"}])
def test_no_colour_codes_reach_a_pipe(
    serving: Serving, tmp_path: Path, command: str, variables: dict[str, str]
) -> None:
    """Text for a file or another program has no escape sequences, errors included."""
    options = where(serving, tmp_path)[: 2 if command == "env" else 4]
    answer = tuner_process(command, *options, *([] if command == "env" else [MIXTRAL]), env=variables)
    wrong = tuner_process(command, *options, tmp_path / "none", env=variables)
    assert "\x1b" not in answer.out + answer.err + wrong.out + wrong.err


@pytest.mark.parametrize("command", ["verdict", "plan", "export"])
def test_a_reader_that_goes_away_is_no_traceback(serving: Serving, tmp_path: Path, command: str) -> None:
    """`tuner … | head -1` ends quietly."""
    serving.remember(tmp_path / "verdicts.sqlite", MIXTRAL)
    argv = [sys.executable, "-m", "tuner", command, *where(serving, tmp_path), str(MIXTRAL)]
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert (process.returncode, process.stderr) == (1, "")


@pytest.mark.parametrize(
    "variables", [{"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_a_name_that_is_no_text_is_no_traceback(serving: Serving, tmp_path: Path, variables: dict[str, str]) -> None:
    """A folder's name may be any bytes; documents hold it as an escape, whatever the locale. An export refuses it."""
    model = model_like(MIXTRAL, tmp_path / "m\udcffö")
    for command, code in (("verdict", 3), ("plan", 3), ("export", 1)):
        as_json = [] if command == "export" else ["--json"]
        answer = tuner_process(command, *where(serving, tmp_path), *as_json, model, env=variables, code=code)
        assert answer.document["model"]["name"].startswith(str(tmp_path / "m"))
        tuner_process("plan", *where(serving, tmp_path), model, env=variables, code=3)


def test_a_terminal_sees_the_same_words(serving: Serving, tmp_path: Path) -> None:
    """Results are folded there and not decorated: what is read on a terminal can be pasted."""
    serving.remember(tmp_path / "verdicts.sqlite", MIXTRAL)
    command = [sys.executable, "-m", "tuner", "verdict", *where(serving, tmp_path), str(MIXTRAL)]
    piped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    ours, theirs = pty.openpty()
    subprocess.run(command, stdout=theirs, stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 65536).decode().replace("\r\n", "\n")
    os.close(ours)
    assert shown.split() == piped.split()


SLOW_TORCH = "import time\ntime.sleep(600)\n"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def _heard_signals() -> Iterator[None]:
    """A child ignores what its parent ignores, and a shell makes what it starts in the background ignore Ctrl-C."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_heard_signals")
@pytest.mark.parametrize("number", STOPPING)
def test_a_stopped_probe_leaves_no_process_and_no_folder(
    serving: Serving, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C, `kill` and a closed terminal end the worker too, and store nothing.

    The environment's torch is a stand-in whose import takes ten minutes, because a real one gives no time to interrupt.
    """
    serving.write("torch.py", SLOW_TORCH)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-m", "tuner", "probe", *where(serving, tmp_path), str(MIXTRAL)]
    process = subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(scratch)}, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    worker = wait_for_worker(process.pid)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "tuner: stopped" in err
    assert "Traceback" not in err
    assert not Path(f"/proc/{worker}").exists()
    assert list(scratch.iterdir()) == []
    assert not (tmp_path / "verdicts.sqlite").exists()


def wait_for_worker(parent: int) -> int:
    """The process ID of the probe worker that `parent` started."""
    deadline = time.monotonic() + 60
    children = Path(f"/proc/{parent}/task/{parent}/children")
    while time.monotonic() < deadline:
        for child in children.read_text().split():
            if "moe_probe_worker" in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
        time.sleep(0.05)
    raise AssertionError("no worker was started")
