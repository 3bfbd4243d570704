"""The replay probe in real engines of both environments, on a CPU: compiled, without CUDA graphs."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_environment import MODELS, QWEN, ROOT
from real_environment import TRACED, checkpoint_of, python_of
from replay_samples import shown
from vllm_server import SERVER_ENVIRONMENT

from rules.replay import judge_replay
from rules.report import Replay
from tuner.launch_question import Question, asked_of_engines
from tuner.probe.shrink import shrink

pytestmark = pytest.mark.vllm

SMALL = ("--max-model-len", "128", "--max-num-batched-tokens", "64", "--max-num-seqs", "4")
DRAFT = ("--speculative-config", '{"method": "mtp", "num_speculative_tokens": 2}')


def variables(_control: Path) -> Mapping[str, str]:
    """Of the engines: the plugin with the model that owns two sets of experts."""
    own = {"PYTHONPATH": str(ROOT / "examples" / "two_expert_sets"), "VLLM_LOGGING_LEVEL": "WARNING"}
    unbound = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}  # else each process wants a memory node of its own
    return {**os.environ, **SERVER_ENVIRONMENT, **own, **unbound}


def watched(environment: str, model: Path, *args: str, flags: Sequence[bool | None], thin: Any = None) -> list[Replay]:
    """What an engine showed for each value of the flag."""
    engines = [{"flag": flag, "eager": False} for flag in flags]
    question = Question("replay", (str(model), *SMALL, *args), 600, more={"thin": thin}, engines=engines)
    return [shown(answer) for answer in asked_of_engines(question, str(python_of(environment)), variables)]


def test_the_flag_makes_a_compiled_engine_run_other_experts(tmp_path: Path) -> None:
    """Counting gives the second set's calls to layers of both; by name each runs its own. Seen in compiled code."""
    model = checkpoint_of("flag-live", tmp_path, "two-expert-sets")
    on, off = watched("flag-live", model, *TRACED, flags=(True, False))

    assert on.engine["mode"] == off.engine["mode"] == "DYNAMO_TRACE_ONCE"
    assert (on.engine["flag"], off.engine["flag"]) == (True, False)
    assert (judge_replay(on)[0], judge_replay(off)[0]) == ("misresolved", "equal")
    assert {one.ran for one in on.passes} == {on.registered[:3]}
    assert {one.called for one in on.passes} == {one.ran for one in off.passes} == {on.registered[1::2]}
    assert sum(one.count for one in on.passes) > 20


def test_a_model_that_runs_in_order_runs_what_is_meant(tmp_path: Path) -> None:
    """In the current release, whose launch resolves by name, with a prompt that is cut into chunks."""
    [found] = watched("current", checkpoint_of("current", tmp_path), *TRACED, flags=[None])

    assert judge_replay(found) == (
        "equal",
        f"{sum(one.count for one in found.passes)} passes, 0 of them replayed from CUDA graphs",
    )
    assert {one.called for one in found.passes} == {found.registered}
    assert max(one.tokens for one in found.passes) == 64
    assert found.lost == 0


def test_a_cut_model_stands_for_a_published_one() -> None:
    """Counting is right where all layers run in order; the model is cut, its weights are random, its engine is one."""
    thin = {"config": shrink(json.loads((QWEN / "config.json").read_text())).config, "code": None}
    spread = ("--data-parallel-size", "4", "--pipeline-parallel-size", "2")
    [found] = watched("flag-live", QWEN, "--enforce-eager", *spread, flags=[True], thin=thin)

    assert (judge_replay(found)[0], found.engine["flag"]) == ("equal", True)
    assert len(found.registered) == thin["config"]["num_hidden_layers"]
    assert found.changed[1:] == (
        "a thin model with random weights stands for the real one",
        "one engine stands for 4 data-parallel ones",
        "one stage with all layers stands for 2 pipeline stages",
        "dummy weights are drawn so that each layer's output is as large as its input",
    )


def test_an_engine_of_two_processes_is_watched_in_both(tmp_path: Path) -> None:
    """Each has its slice of every layer, and a counter of its own."""
    model = checkpoint_of("flag-live", tmp_path, "two-expert-sets")
    [found] = watched("flag-live", model, "--enforce-eager", "--tensor-parallel-size", "2", flags=[True])

    assert judge_replay(found)[0] == "misresolved"
    assert found.engine["processes"] == 2
    assert sum(one.count for one in found.passes) % 2 == 0


def test_the_passes_of_a_draft_are_watched_as_well() -> None:
    """Its layer stands behind the target's. vLLM 0.19.1 drafts on a GPU alone."""
    folder = MODELS / "deepseek-ai--DeepSeek-V3"
    thin = {"config": shrink(json.loads((folder / "config.json").read_text())).config, "code": None}
    [found] = watched("current", folder, *TRACED, "--dtype", "float32", *DRAFT, flags=[None], thin=thin)

    assert judge_replay(found)[0] == "equal"
    assert {one.called for one in found.passes} == {found.registered[:-1], found.registered[-1:]}


def test_an_engine_that_cannot_be_watched_says_why(tmp_path: Path) -> None:
    """VLLM mixes one class into its workers, and the probe's must be it."""
    model = checkpoint_of("current", tmp_path)
    with pytest.raises(AssertionError, match="has a worker extension of its own"):
        watched("current", model, "--worker-extension-cls", "some.Class", flags=[None])
