"""`tuner serve` in the places where servers start: containers, other users, read-only file systems, process 1.

Every test runs the whole command in a process of its own, and a stand-in server that shows what arrived.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from fake_environment import MIXTRAL, OURS, QWEN, Serving
from stand_in_server import CODE, config_in, facts_of, with_server

ROOT = Path(__file__).parents[1]
FLAG = "fast_moe_cold_start"
NOBODY = 65534
NEW_PROCESSES = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
NEW_MOUNTS = ("unshare", "--mount")
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all")


@pytest.fixture
def serving(serving: Serving) -> Serving:
    """It has a stand-in for `vllm`."""
    return with_server(serving)


@pytest.fixture
def store(serving: Serving, tmp_path: Path) -> Path:
    """A store that knows Mixtral."""
    path = tmp_path / "store" / "verdicts.sqlite"
    path.parent.mkdir()
    serving.remember(path, MIXTRAL)
    return path


def environ(**variables: str) -> dict[str, str]:
    """The variables of these tests, with none that decide."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**clean, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8", **variables}


def command(serving: Serving, store: Path, *args: object) -> list[str]:
    """`tuner serve` with our options for environment and store first."""
    own = ("-m", "tuner", "serve", "--python", serving.python, "--store", store)
    return [sys.executable, *map(str, (*own, *args))]


def run(words: Sequence[str], cwd: Path, env: dict[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(words, cwd=cwd, env=env, input=text, capture_output=True, text=True, timeout=120, check=False)


def possible(*words: str) -> None:
    """Skip where this machine does not allow what a test is about."""
    if shutil.which(words[0]) is None:
        pytest.skip(f"no {words[0]} on this machine")
    process = subprocess.run([*words, sys.executable, "-c", "pass"], capture_output=True, text=True, check=False)
    if process.returncode:
        pytest.skip(f"{' '.join(words)[:60]} is not allowed here: {process.stderr.strip()[:200]}")


@pytest.mark.parametrize("cache", [[], ["--cache-root", "/big"]])
def test_the_server_is_the_command(serving: Serving, store: Path, tmp_path: Path, cache: list[str]) -> None:
    """Same PID, standard input, folder and variables, but for the cache root where one is asked for; its exit code."""
    env = environ(ODD="a\nb", EMPTY="")
    words = command(serving, store, *cache, MIXTRAL, "--read")
    process = subprocess.Popen(
        words, cwd=tmp_path, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = process.communicate("from standard input", timeout=120)
    facts = facts_of(out)
    assert (facts["pid"], facts["cwd"], facts["read"]) == (process.pid, str(tmp_path), "from standard input")
    assert facts["env"] == env | ({"VLLM_CACHE_ROOT": "/big"} if cache else {})
    assert (process.returncode, len(err.splitlines())) == (CODE, 2)
    assert "does not know the option --read" in err  # which the stand-in has


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_server(serving: Serving, store: Path, tmp_path: Path, number: signal.Signals) -> None:
    """What stops vLLM stops it here: the handlers are the server's own, whatever Python had set before."""
    words = command(serving, store, MIXTRAL, "--wait")
    process = subprocess.Popen(words, cwd=tmp_path, env=environ(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    out, _ = process.communicate(timeout=120)
    assert (out, process.returncode) == (f"stopped by {number.name}\n", CODE)


def test_it_works_as_process_1(serving: Serving, store: Path, tmp_path: Path) -> None:
    """The server of a container is process 1, gets the signals and ends the container with its exit code."""
    possible(*NEW_PROCESSES)
    words = [*NEW_PROCESSES, *command(serving, store, MIXTRAL, "--wait")]
    outer = subprocess.Popen(words, cwd=tmp_path, env=environ(), stdout=subprocess.PIPE, text=True)
    assert outer.stdout is not None
    facts = facts_of(outer.stdout.readline())
    assert facts["pid"] == 1
    assert config_in(facts) == {FLAG: False}  # nobody proved the launch with --wait
    (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
    os.kill(int(inner), signal.SIGTERM)
    out, _ = outer.communicate(timeout=120)
    assert (out, outer.returncode) == ("stopped by SIGTERM\n", CODE)


def test_it_works_where_nothing_can_be_written(serving: Serving, store: Path, tmp_path: Path) -> None:
    """With a read-only root file system, store included, the verdict is found and nothing is complained of."""
    remount = (*NEW_MOUNTS, "sh", "-c", 'mount -o remount,ro,bind / && ! touch "$0" 2>/dev/null && exec "$@"')
    possible(*remount, str(tmp_path / "proof"))
    process = run([*remount, str(tmp_path / "proof"), *command(serving, store, MIXTRAL)], tmp_path, environ())
    assert config_in(facts_of(process.stdout)) == {FLAG: True}
    assert (process.returncode, len(process.stderr.splitlines())) == (CODE, 1)


def test_it_works_for_a_user_without_a_home(serving: Serving, store: Path, tmp_path: Path) -> None:
    """Nobody, without HOME and without the right to write anywhere near the store, finds the verdict."""
    user, python = AS_NOBODY if os.getuid() == 0 else (), python_for_all()
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own are closed to others
        if folder.owner() == tmp_path.owner() and folder.is_relative_to(tempfile.gettempdir()):
            folder.chmod(folder.stat().st_mode | 0o755)
    packages = tmp_path / "packages"
    shutil.copytree(Path(msgspec.__file__).parent, packages / "msgspec")  # all that `tuner serve` needs beside itself
    if user:
        possible(*user)
    serving.python.unlink()
    serving.python.symlink_to(python)
    env = environ(PYTHONPATH=f"{ROOT}:{packages}")
    env.pop("HOME", None)
    process = run([*user, python, *command(serving, store, MIXTRAL)[1:]], tmp_path, env)
    assert process.returncode == CODE, process.stderr
    facts = facts_of(process.stdout)
    assert config_in(facts) == {FLAG: True}
    assert "HOME" not in facts["env"]
    assert facts["user"] != 0
    assert len(process.stderr.splitlines()) == 1


def python_for_all() -> str:
    """A Python of our release that every user of this machine may run, without the packages of ours."""
    candidates = [
        os.path.realpath(sys.executable),
        *filter(None, [shutil.which("python3", path="/usr/bin:/usr/local/bin")]),
    ]
    for python in candidates:
        open_to_all = all(folder.stat().st_mode & 0o001 for folder in Path(python).parents)
        new = subprocess.run(
            [python, "-c", f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"], check=False
        )
        if open_to_all and new.returncode == 0:
            return python
    pytest.skip("no Python here that every user may run")


@pytest.mark.parametrize("rank", [[], ["--headless"]])
def test_nothing_known_and_nowhere_to_look_is_one_line(serving: Serving, tmp_path: Path, rank: list[str]) -> None:
    """Without HOME, store and verdict the server starts with the safe value, and one line says why."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "tuner", "serve", "--python", str(serving.python), str(QWEN), *rank]
    process = run(words, tmp_path, env)
    facts = facts_of(process.stdout)
    assert config_in(facts) == {FLAG: False}
    assert facts["args"][:2] == ["serve", str(QWEN)]
    (line,) = process.stderr.splitlines()
    assert line.startswith("tuner: no verdict (")
    assert process.returncode == CODE
