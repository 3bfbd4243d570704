"""Images in the replay probe, in real engines of both environments on a CPU: a cut Qwen3-VL-MoE with random weights."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_environment import MODELS, ROOT
from real_environment import TRACED, python_of
from replay_samples import shown
from vllm_server import SERVER_ENVIRONMENT

from rules.replay import judge_replay
from tuner.launch_question import Question, asked_of_engines
from tuner.probe.shrink import shrink

pytestmark = pytest.mark.vllm

QWEN_VL = MODELS / "Qwen--Qwen3-VL-30B-A3B-Instruct"
SMALL = ("--max-model-len", "128", "--max-num-batched-tokens", "64", "--max-num-seqs", "4")
MODES = {"current": (*TRACED, "--dtype", "float32"), "flag-live": ("--enforce-eager", "--tensor-parallel-size", "2")}
"""Traced in one process, and not in two. In bfloat16 0.32.0 takes its AMX kernel for heads of this size wherever
there is AMX, and dies there of an illegal instruction (examples/tiny_checkpoint.py)."""
PASSES = 34 + 74 + 6 + 8 + 7
"""In each process: of text, and of the output probe's requests, as an engine without images has them; of the picture
among text, joining, and by itself in a batch."""
VARIABLES = {**os.environ, **SERVER_ENVIRONMENT, "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Unbound: else each process wants a memory node of its own."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published config.json with processor files of the current release, which the older one reads too."""
    made = tmp_path_factory.mktemp("qwen-vl")
    shutil.copy(QWEN_VL / "config.json", made)
    script = ROOT / "docs" / "evidence" / "processors.py"
    subprocess.run([python_of("current"), script, made], check=True, cwd=ROOT)
    return made


@pytest.mark.parametrize(("environment", "flag"), [("current", None), ("flag-live", True)])
def test_pictures_run_the_layers_that_are_meant(folder: Path, environment: str, flag: bool | None) -> None:
    """Text and pictures share the experts here, so that the flag does no harm; all requests are answered."""
    thin = {"config": shrink(json.loads((folder / "config.json").read_text())).config, "code": None}
    args = (str(folder), *SMALL, *MODES[environment])

    question = Question("replay", args, 600, more={"thin": thin}, engines=[{"flag": flag, "eager": False}])
    [answer] = asked_of_engines(question, str(python_of(environment)), lambda _control: VARIABLES)

    found = shown(answer)
    assert found.changed == (
        "prompts are token ids",
        "a thin model with random weights stands for the real one",
        "at most one image a prompt, and the encoder is not profiled at start",
        "dummy weights are drawn so that each layer's output is as large as its input",
    )
    assert judge_replay(found)[0] == "equal"
    assert sum(one.count for one in found.passes) == PASSES * found.engine["processes"]
    assert {one.called for one in found.passes} == {found.registered}
    assert found.engine["flag"] is bool(flag)
