"""`tuner serve` ends by becoming the server.

The tests put a tiny script in the place of `vllm`: it stands in to show arguments, environment and PID without loading
vLLM, which takes 20 s and shows none of them. One test asks the real ones for their help.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rules.errors import TunerError
from tuner.launch.serve import command, execute

ROOT = Path(__file__).parents[1]
STAND_IN = """#!{python}
import json, os, sys, time
facts = {{"args": sys.argv[1:], "pid": os.getpid(), "cwd": os.getcwd(), "env": dict(os.environ), "read": ""}}
if "--read" in sys.argv:
    facts["read"] = sys.stdin.read()
print(json.dumps(facts), flush=True)
if "--wait" in sys.argv:
    time.sleep(60)
sys.exit(7)
"""
CALLER = """
import json, os, sys
from pathlib import Path
from tuner.launch.serve import execute
sys.stdout.write("before ")
execute(Path(sys.argv[1]), sys.argv[2:], json.loads(os.environ.pop("WANTED", "{}")))
"""
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an environment with a stand-in `vllm` beside it."""
    folder = tmp_path / "env" / "bin"
    folder.mkdir(parents=True)
    script = folder / "vllm"
    script.write_text(STAND_IN.format(python=sys.executable), encoding="utf-8")
    script.chmod(0o755)
    link = folder / "python"
    link.symlink_to(sys.executable)
    return link


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a process that replaces itself with the server, in a working directory and environment of its own."""

    def start(python: Path, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        caller_env = os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "WANTED": json.dumps(env or {})}
        return subprocess.Popen(
            [sys.executable, "-c", CALLER, str(python), *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=caller_env,
        )

    return start


def facts_of(process: subprocess.Popen[str], text: str = "") -> dict[str, object]:
    """What the stand-in printed, behind what the caller had printed."""
    output, _ = process.communicate(text, timeout=30)
    before, _, document = output.partition(" ")
    assert before == "before"
    facts: dict[str, object] = json.loads(document)
    return facts


def test_process_streams_and_folder_stay_the_same(python: Path, start: Start, tmp_path: Path) -> None:
    """The server has the PID, standard input and working directory of the command, and its output comes after ours."""
    process = start(python, "m", "--read")
    facts = facts_of(process, "from standard input")
    assert facts["pid"] == process.pid
    assert facts["cwd"] == str(tmp_path)
    assert facts["read"] == "from standard input"


def test_arguments_arrive_byte_for_byte(python: Path, start: Start) -> None:
    """No shell and no parser stands between: spaces, quotes, empty words and other scripts arrive as given."""
    args = ["m", "-cc", '{"a": "b c"}', "", "$HOME `x`", "ünï", "--", "\n"]
    assert facts_of(start(python, *args))["args"] == ["serve", *args]


@pytest.mark.parametrize("wanted", [{}, {"VLLM_CACHE_ROOT": "/cache"}])
def test_environment_is_ours_plus_what_was_asked(python: Path, start: Start, wanted: dict[str, str]) -> None:
    """The server's environment is the command's, plus `VLLM_CACHE_ROOT` where that was asked for, and nothing else."""
    env = facts_of(start(python, "m", env=wanted))["env"]
    assert env == os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8"} | wanted


def test_exit_code_is_the_servers(python: Path, start: Start) -> None:
    """The exit code passes through, because there is nothing it would have to pass through."""
    process = start(python, "m")
    facts_of(process)
    assert process.returncode == 7


def test_sigterm_reaches_the_server(python: Path, start: Start) -> None:
    """SIGTERM sent to the command ends the server at once, as Kubernetes expects."""
    process = start(python, "m", "--wait")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_signals_that_python_ignores_do_not_stay_ignored(python: Path, start: Start) -> None:
    """Python ignores SIGPIPE and SIGXFSZ for itself; a server that is not a Python program does not inherit that."""
    (python.parent / "vllm").write_text("#!/bin/sh\ngrep SigIgn: /proc/self/status\n", encoding="utf-8")
    output, _ = start(python, "m").communicate(timeout=30)
    ignored = int(output.split()[-1], 16)  # a caller may ignore others, as a shell does for what it starts behind it
    assert [number for number in (signal.SIGPIPE, signal.SIGXFSZ) if ignored >> (number - 1) & 1] == []


def test_module_is_started_where_no_script_stands(tmp_path: Path) -> None:
    """An environment without a `vllm` script is started through vLLM's own entry module."""
    python = tmp_path / "python"
    assert command(python, ["m"]) == [str(python), "-m", "vllm.entrypoints.cli.main", "serve", "m"]


def test_missing_interpreter_is_one_sentence(tmp_path: Path) -> None:
    """An environment that is not there is named, and the process lives on to say so."""
    before = signal.getsignal(signal.SIGPIPE)
    with pytest.raises(TunerError, match=r"cannot be started: .*/python: No such file") as raised:
        execute(tmp_path / "python", ["m"], {})
    assert "--python" in raised.value.hint
    assert signal.getsignal(signal.SIGPIPE) == before


def test_script_that_may_not_run_is_one_sentence(python: Path) -> None:
    """A `vllm` without the right to run is named."""
    (python.parent / "vllm").chmod(0o644)
    with pytest.raises(TunerError, match=r"cannot be started: .*/vllm: Permission denied"):
        execute(python, ["m"], {})


@pytest.mark.vllm
@pytest.mark.parametrize(("release", "target"), [("current", "setup"), ("flag-live", "setup-flag-live")])
def test_real_environment_starts_through_script_or_module(release: str, target: str, tmp_path: Path) -> None:
    """The script of one environment and the entry module of the other both lead to `vllm serve`."""
    python = ROOT / ".envs" / release / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/{release}; `make {target}` creates it.")
    vector = command(python, ["--help"])
    if release == "flag-live":
        vector = command(tmp_path / "python", ["--help"])  # no script stands there
        vector[0] = str(python)
    process = subprocess.run(vector, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr[-2000:]
    assert "vllm serve [model_tag] [options]" in process.stdout
