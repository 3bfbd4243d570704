"""Images in the replay probe, in real engines of both environments on a CPU: a cut Qwen3-VL-MoE with random weights."""

import shutil
import subprocess
from pathlib import Path

import pytest
from fake_environment import MODELS, ROOT
from real_engines import TRACED, cut, watched
from real_environment import python_of

from rules.reason import reason
from rules.replay import judge_replay

pytestmark = pytest.mark.vllm

QWEN_VL = MODELS / "Qwen--Qwen3-VL-30B-A3B-Instruct"
MODES = {"current": (*TRACED, "--dtype", "float32"), "flag-live": ("--enforce-eager",)}
"""Traced, and not. In bfloat16 0.32.0 takes its AMX kernel for heads of this size wherever
there is AMX, and dies there of an illegal instruction (examples/tiny_checkpoint.py)."""
PASSES = 34 + 74 + 6 + 8 + 7
"""Of text, and of the prompts that are scored, as an engine without images has them; of the picture
among text, joining, and by itself in a batch."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published config.json with processor files of the current release, which the older one reads too."""
    made = tmp_path_factory.mktemp("qwen-vl")
    shutil.copy(QWEN_VL / "config.json", made)
    script = ROOT / "tools" / "evidence" / "processors.py"
    subprocess.run([python_of("current"), script, made], check=True, cwd=ROOT)
    return made


@pytest.mark.parametrize(
    ("environment", "flag"), [pytest.param("current", None, marks=pytest.mark.thorough), ("flag-live", True)]
)
def test_pictures_run_the_layers_that_are_meant(folder: Path, environment: str, flag: bool | None) -> None:
    """Text and pictures share the experts here, so that the flag does no harm; all requests are answered."""
    [found] = watched(environment, folder, *MODES[environment], flags=[flag], thin=cut(folder))

    assert found.changed == (
        "prompts are token ids",
        "a thin model with random weights stands for the real one",
        "at most one image a prompt, and the encoder is not profiled at start",
        "dummy weights are drawn so that each layer's output is as large as its input",
    )
    assert judge_replay(found) == ("equal", reason("replay_equal", passes=PASSES, replayed=0))
    assert {replay_pass.called for replay_pass in found.passes} == {found.registered}
    assert found.engine["flag"] is bool(flag)
