"""The replay probe in real engines of both environments, on a CPU: compiled, without CUDA graphs."""

from pathlib import Path

import pytest
from fake_environment import MODELS, QWEN
from real_engines import TRACED, cut, watched
from real_environment import checkpoint_of

from rules.reason import reason
from rules.replay import judge_replay

pytestmark = pytest.mark.vllm

HAS_AMX = "amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
DTYPE = "bfloat16" if HAS_AMX else "float32"
"""With AMX the kernel of vLLM 0.32.0's experts takes no float32 (fused_moe/experts/cpu_moe.py)."""
DRAFT = ("--speculative-config", '{"method": "mtp", "num_speculative_tokens": 2}')


def test_the_flag_makes_a_compiled_engine_run_other_experts(tmp_path: Path) -> None:
    """Counting gives the second set's calls to layers of both; by name each runs its own. Seen in compiled code."""
    model = checkpoint_of("flag-live", tmp_path, "two-expert-sets")
    on, off = watched("flag-live", model, *TRACED, flags=(True, False))

    assert on.engine["mode"] == off.engine["mode"] == "DYNAMO_TRACE_ONCE"
    assert (on.engine["flag"], off.engine["flag"]) == (True, False)
    assert (judge_replay(on)[0], judge_replay(off)[0]) == ("wrong_layer", "equal")
    assert {replay_pass.ran for replay_pass in on.passes} == {on.registered[:3]}
    assert (
        {replay_pass.called for replay_pass in on.passes}
        == {replay_pass.ran for replay_pass in off.passes}
        == {on.registered[1::2]}
    )
    assert sum(replay_pass.count for replay_pass in on.passes) > 20


def test_a_model_that_runs_in_order_runs_what_is_meant(tmp_path: Path) -> None:
    """In the current release, whose launch resolves by name, with a prompt that is cut into chunks."""
    [found] = watched("current", checkpoint_of("current", tmp_path), *TRACED, flags=[None])

    assert judge_replay(found) == (
        "equal",
        reason("replay_equal", passes=sum(replay_pass.count for replay_pass in found.passes), replayed=0),
    )
    assert {replay_pass.called for replay_pass in found.passes} == {found.registered}
    assert max(replay_pass.tokens for replay_pass in found.passes) == 64
    assert found.lost == 0


def test_a_cut_model_stands_for_a_published_one() -> None:
    """Counting is right where all layers run in order; the model is cut, its weights are random, its engine is one."""
    thin = cut(QWEN)
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


@pytest.mark.thorough
def test_an_engine_of_two_processes_is_watched_in_both(tmp_path: Path) -> None:
    """Each has its slice of every layer, and a counter of its own."""
    model = checkpoint_of("flag-live", tmp_path, "two-expert-sets")
    [found] = watched("flag-live", model, "--enforce-eager", "--tensor-parallel-size", "2", flags=[True])

    assert judge_replay(found)[0] == "wrong_layer"
    assert found.engine["processes"] == 2
    assert sum(replay_pass.count for replay_pass in found.passes) % 2 == 0


def test_the_passes_of_a_draft_are_watched_as_well() -> None:
    """Its layer stands behind the target's. vLLM 0.19.1 drafts on a GPU alone."""
    folder = MODELS / "deepseek-ai--DeepSeek-V3"
    args = (*TRACED, "--dtype", DTYPE, *DRAFT)
    [found] = watched("current", folder, *args, flags=[None], thin=cut(folder))

    assert judge_replay(found)[0] == "equal"
    assert {replay_pass.called for replay_pass in found.passes} == {found.registered[:-1], found.registered[-1:]}


def test_an_engine_that_cannot_be_watched_says_why(tmp_path: Path) -> None:
    """VLLM mixes one class into its workers, and the probe's must be it."""
    model = checkpoint_of("current", tmp_path)
    with pytest.raises(AssertionError, match="has a worker extension of its own"):
        watched("current", model, "--worker-extension-cls", "some.Class", flags=[None])
