"""The launch worker forks its engines: its own file, in a process apart, since nobody imports a worker."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parents[1] / "tuner" / "engines" / "worker"
SHARED_WORKER = Path(__file__).parents[1] / "tuner" / "processes" / "worker"


def said(folder: Path, body: str) -> list[str]:
    """What a script says that has `run_in_fork` and a folder; each line once, whichever process said it."""
    begin = "import os, sys, tempfile\nfrom pathlib import Path\nfrom vllm_launch_worker.forks import run_in_fork\n"
    script = f"{begin}folder = Path(sys.argv[1])\n{body}"
    environment = {**os.environ, "PYTHONPATH": f"{WORKER}:{SHARED_WORKER}", "VLLM_CACHE_ROOT": "untouched"}
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def test_each_engine_has_caches_of_its_own(tmp_path: Path) -> None:
    """Below its folder, temporary files too; the process that forks it keeps its own."""
    body = """
tempfile.gettempdir()
def engine(own):
    print(own, os.environ["VLLM_CACHE_ROOT"], os.environ["TORCHINDUCTOR_CACHE_DIR"], tempfile.gettempdir())
for name in ("a", "b"):
    run_in_fork(engine, folder / name)
print(os.environ["VLLM_CACHE_ROOT"])
"""
    one, other = (tmp_path / name for name in ("a", "b"))
    assert said(tmp_path, body) == [
        f"{one} {one / 'cache'} {one / 'inductor'} {one / 'tmp'}",
        f"{other} {other / 'cache'} {other / 'inductor'} {other / 'tmp'}",
        "untouched",
    ]


@pytest.mark.parametrize(
    ("body", "end"),
    [("pass", ""), ("raise ValueError", "exit code 1"), ("os.kill(os.getpid(), 9)", "killed by SIGKILL")],
)
def test_how_an_engine_ended_is_told(tmp_path: Path, body: str, end: str) -> None:
    """Empty where it ended as it should; the process that made the fork goes on."""
    script = f"def engine(_):\n    {body}\nprint(repr(run_in_fork(engine, folder / 'a')))"
    assert said(tmp_path, script) == [repr(end)]


def test_nothing_is_written_twice(tmp_path: Path) -> None:
    """What the parent had not written yet is no business of the child's."""
    script = "print('once', end='\\n')\nrun_in_fork(lambda _: print('child'), folder / 'a')"
    assert said(tmp_path, script) == ["once", "child"]
