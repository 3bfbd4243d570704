"""A pipe, a device or a socket in the place of a file is refused at once, wherever a command reads one."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fake_environment import MIXTRAL, OURS, Serving

ROOT = Path(__file__).parents[1]
AT_ONCE_S = 40
"""A command that waits for a pipe waits for ever; this leaves time for a busy machine."""


@pytest.fixture(params=["pipe", "device", "socket"])
def odd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is none, named as a configuration of vLLM must be."""
    file = tmp_path / "odd.yaml"
    if request.param == "pipe":
        os.mkfifo(file)
    elif request.param == "device":
        file.symlink_to("/dev/zero")
    else:
        monkeypatch.chdir(tmp_path)  # the name of a socket is short
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(file.name)
    return file


def refused(*words: object) -> str:
    """What a command says that must end with a sentence and an exit code, and soon."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    env = {**clean, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "LC_ALL": "C.UTF-8"}
    command = [sys.executable, "-m", "tuner", *map(str, words)]
    process = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=AT_ONCE_S, check=False
    )
    assert process.returncode in {1, 2}, process
    assert "Traceback" not in process.stderr
    return process.stderr


def test_a_named_file_that_is_none(serving: Serving, store: Path, tmp_path: Path, odd: Path) -> None:
    """Each option and argument that names a file."""
    place = ["--python", serving.python, "--store", serving.store_of(store, MIXTRAL)]
    bundle = tmp_path / "bundle.jsonl"
    bundle.write_text("{}\n", encoding="utf-8")
    (tmp_path / "bundle.jsonl.minisig").write_text("", encoding="utf-8")
    for words in (
        ["serve", *place, "--decision", odd, "--dry-run", MIXTRAL],
        ["verdict", "--environment", odd, "--store", store, MIXTRAL],
        ["plan", *place, MIXTRAL, "--", "--config", odd],
        ["env", "--python", odd],
        ["verdicts", "import", "--store", store, odd],
        ["verdicts", "import", "--store", store, "--require-signed", odd, bundle],
        ["verdicts", "export", "--store", store, "--output", tmp_path / "new", "--sign-with", odd],
        ["cache", "unpack", "--cache-root", tmp_path / "root", "--python", serving.python, odd],
    ):
        problem = refused(*words)
        assert "not a regular file" in problem, words


def test_a_pipe_among_the_files_of_an_environment(serving: Serving) -> None:
    """It counts as unreadable, and holds no look-up."""
    for name in ("x-1.0.dist-info/entry_points.txt", "y-1.0.dist-info/METADATA", "z.pth"):
        path = serving.site / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
    assert serving.read().vllm == "0.19.1"


def test_a_pipe_among_the_files_of_a_model(serving: Serving, store: Path, tmp_path: Path) -> None:
    """In the place of config.json, and beside it."""
    folder = tmp_path / "model"
    folder.mkdir()
    os.mkfifo(folder / "config.json")
    assert "not a regular file" in refused("verdict", "--python", serving.python, "--store", store, folder)
