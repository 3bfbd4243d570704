"""How the arms of a launch are started, bisected and ended.

A script stands in for the worker (`arm_bench.py`), because a real engine takes a minute to start and CUDA graphs need a
GPU. The processes, time limits and files are real.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arm_bench import Act, ArmBench, named
from fake_environment import MIXTRAL, sample
from ladder_samples import words
from reports import report

from rules.errors import ErrorKind, TunerError
from rules.ladder import judge_ladder
from rules.ladder_finding import LadderFinding
from rules.report import Ladder, parse_report
from tuner.ladder.climb import climbed

GRAPH_ARMS = ("piecewise", "full_decode", "full", "as_launched")
FIRST = ["eager", "eager", "eager_float32", "compiled_float32", "compiled", "compiled", *GRAPH_ARMS]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArmBench]:
    """Where every arm answers rightly; no process and no folder may be left at the end."""
    made = ArmBench(tmp_path, monkeypatch)
    yield made
    assert made.left() == []


def climb(
    bench: ArmBench, *args: str, acts: dict[str, Act] | None = None, **changes: Any
) -> tuple[Ladder, LadderFinding]:
    """The ladder of a launch, as a stored report holds it, and what it shows."""
    bench.arms(**(acts or {}))
    ladder = parse_report(report(ladders=[climbed(bench.climb(*args, **changes))])).ladders[0]
    return ladder, judge_ladder(ladder)


def test_a_launch_that_is_right_needs_the_first_arms_alone(bench: ArmBench) -> None:
    """Each arm is started once, in the order of the ladder, and compared with the arm below it."""
    ladder, finding = climb(bench)
    assert [engine["name"] for engine in bench.started()] == FIRST
    assert set(words(finding).values()) == {"right"}
    assert [arm.name for arm in ladder.arms][:2] == ["eager", "eager_again"]
    assert named(ladder.arms)["full"].distance is not None
    assert "smaller model" in " ".join(named(ladder.arms)["full"].changed)


@pytest.mark.parametrize(
    ("act", "detail"),
    [
        ("hangs", "vLLM did not answer within 2 s."),
        ("dies", "The process that runs vLLM ended early (exit code 7)."),
        ("ends", "The engine's process ended early (killed by SIGABRT)."),
        ("is refused", "vLLM refuses this launch: ValueError: no memory"),
        ("answers nonsense", "result.json"),
        ("answers damaged prompts", "an engine's answers are damaged"),
        ("answers too much", "more than 4000"),
    ],
)
def test_an_arm_that_fails_costs_itself_alone(bench: ArmBench, act: str, detail: str) -> None:
    """It does not start, and says why; all others are judged, and the one beside it is written if needed."""
    ladder, finding = climb(bench, acts={"full": act}, limit=2.0)
    assert detail in named(ladder.arms)["full"].detail
    assert words(finding)["full"] == "not_started"
    assert {words(finding)[name] for name in words(finding) if name != "full"} == {"right"}
    assert finding.remedy is None


def test_an_arm_that_answers_fewer_prompts_is_not_right(bench: ArmBench) -> None:
    """What it answered agrees, and what it did not answer is not known."""
    _, finding = climb(bench, acts={"full": "answers fewer prompts"})
    assert words(finding)["full"] == "unknown"


def test_without_the_eager_engine_there_is_no_ladder(bench: ArmBench) -> None:
    """The failure of the engine that all others are compared with ends the command, and says why it failed."""
    bench.arms(eager="is refused")
    with pytest.raises(TunerError, match="no memory") as raised:
        climbed(bench.climb())
    assert raised.value.kind is ErrorKind.ARM


@pytest.mark.parametrize(
    ("wrong", "further", "written"),
    [
        # a graph mode helps: nothing else is tried
        (["as_launched", "full", "full_decode"], [], ({"cudagraph_mode": "PIECEWISE"}, ())),
        # one pass helps: neither backends nor uncompiled code are tried
        (
            [*GRAPH_ARMS, "without_fuse_norm_quant"],
            ["without_fuse_norm_quant", "without_eliminate_noops"],
            ({"pass_config": {"eliminate_noops": False}}, ()),
        ),
        # another backend helps
        (
            [*GRAPH_ARMS, "without_fuse_norm_quant", "without_eliminate_noops"],
            ["without_fuse_norm_quant", "without_eliminate_noops", "backend_marlin"],
            ({}, ("--moe-backend", "marlin")),
        ),
        # code that is not compiled keeps its graphs, and compiled code without graphs is the smaller change
        (
            [*GRAPH_ARMS, "without_fuse_norm_quant", "without_eliminate_noops", "backend_marlin"],
            ["without_fuse_norm_quant", "without_eliminate_noops", "backend_marlin", "not_compiled"],
            ({"cudagraph_mode": "NONE"}, ()),
        ),
    ],
)
def test_the_setting_at_fault_is_looked_for_until_one_helps(
    bench: ArmBench, wrong: list[str], further: list[str], written: tuple[dict[str, Any], tuple[str, ...]]
) -> None:
    """Graphs, then passes that are on, then backends that the oracle allows, then code that is not compiled."""
    ladder, finding = climb(bench, acts=dict.fromkeys(wrong, "is frozen"))
    settings = [
        arm.name for arm in ladder.arms if arm.is_setting and arm.name not in {*GRAPH_ARMS, "eager", "compiled"}
    ]
    assert settings == further
    assert finding.remedy is not None
    assert (dict(finding.remedy.config), finding.remedy.options) == written


def test_a_launch_that_could_not_be_judged_is_not_bisected(bench: ArmBench) -> None:
    """Only a fault that was seen is looked for."""
    climb(bench, acts={"as_launched": "answers fewer prompts"})
    assert len(bench.started()) == len(FIRST)


@pytest.mark.parametrize("seats", [2, 4, 30])
def test_arms_run_side_by_side_and_are_judged_alike(bench: ArmBench, seats: int) -> None:
    """Several workers, each arm once, memory shared, and the arms in the order of the ladder."""
    ladder, finding = climb(bench, seats=seats, acts={"full": "is frozen"})
    assert len({engine["pid"] for engine in bench.started()}) == min(seats, len(FIRST))
    assert sorted(engine["name"] for engine in bench.started()) == sorted(FIRST)
    assert words(finding)["full"] == "wrong"
    assert [arm.name for arm in ladder.arms][:3] == ["eager", "eager_again", "eager_float32"]
    assert all("--gpu-memory-utilization" in engine["args"] for engine in bench.started())


def test_an_arm_that_fails_beside_others_is_tried_alone(bench: ArmBench) -> None:
    """They may have taken its memory."""
    ladder, finding = climb(bench, seats=4, acts={"full": ["is refused", "answers"]})
    assert words(finding)["full"] == "right"
    assert named(ladder.arms)["full"].status == "ran"
    alone = [engine for engine in bench.started() if engine["name"] == "full"][-1]
    assert "--gpu-memory-utilization" not in alone["args"]


def test_an_eager_engine_that_cannot_start_ends_the_ladder(bench: ArmBench) -> None:
    """No arm can be compared without it. The worker may have begun the next arm meanwhile."""
    bench.arms(eager=["is refused", "hangs"])
    with pytest.raises(TunerError, match="vLLM refuses this launch: ValueError: no memory"):
        climbed(bench.climb())
    assert len(bench.started()) <= 2


def test_the_eager_engine_is_the_first_that_is_tried_alone(bench: ArmBench) -> None:
    """Each arm fails beside the others; then the eager one alone, and no other."""
    bench.arms(**dict.fromkeys(FIRST, "is refused"))
    with pytest.raises(TunerError, match="vLLM refuses this launch: ValueError: no memory"):
        climbed(bench.climb(seats=4))
    assert [engine["name"] for engine in bench.started()[len(FIRST) :]] == ["eager"]


def test_an_interrupt_ends_every_arm(bench: ArmBench) -> None:
    """Ctrl-C while arms are under way, one of which hangs: no process, no folder, and the interrupt goes on."""
    bench.arms(full="hangs")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        climbed(bench.climb(seats=2, finished=interrupt))


def test_a_worker_of_the_last_arm_does_not_live_on(bench: ArmBench) -> None:
    """Its failure is kept, and must keep no process: further arms need the memory."""
    left: list[list[Path]] = []
    climb(bench, acts=dict.fromkeys([*GRAPH_ARMS], "is refused"), say=lambda _: left.append(bench.left()))
    assert left
    assert not any(left)


# ---- the model that arms serve


@pytest.mark.parametrize(
    ("gib", "seats", "experts", "hidden"),
    [(None, 1, 8, 512), (141, 4, 8, 4096), (80, 4, 4, 4096), (141, 7, 4, 4096), (20, 4, 8, 512), (80, 1, 8, 4096)],
)
def test_the_memory_of_the_gpu_decides_what_is_cut(
    bench: ArmBench, gib: float | None, seats: int, experts: int, hidden: int
) -> None:
    """Arms that run side by side share it; what was cut is named with each arm."""
    bench.memory(gib)
    ladder, _ = climb(bench, seats=seats)
    served = {(engine["thin"]["num_local_experts"], engine["thin"]["hidden_size"]) for engine in bench.started()}
    assert served == {(experts, hidden)}
    changed = " ".join(named(ladder.arms)["full"].changed)
    assert ("num_local_experts 8 -> 4" in changed) == (experts == 4)
    assert ("hidden_size 4096 -> 512" in changed) == (hidden == 512)
    assert "num_hidden_layers 32 -> 4" in changed


def test_tensor_parallel_ranks_each_bring_their_memory(bench: ArmBench) -> None:
    """Two of 80 GiB hold what one does not."""
    bench.memory(80)
    climb(bench, "--tensor-parallel-size", "2", seats=4)
    assert {engine["thin"]["num_local_experts"] for engine in bench.started()} == {8}


@pytest.fixture
def quantised(bench: ArmBench, tmp_path: Path) -> Path:
    """The model with weights in fp8."""
    config = json.loads((MIXTRAL / "config.json").read_text(encoding="utf-8"))
    quantization = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    folder = tmp_path / "quantised"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}), encoding="utf-8")
    bench.serving.remember(bench.store, folder, sample(MIXTRAL, "current"))
    return folder


def test_a_quantised_model_keeps_its_quantisation(bench: ArmBench, quantised: Path) -> None:
    """Its kernels have one dtype, so no arm runs in float32."""
    bench.memory(141)
    ladder, finding = climb(bench, model=quantised, seats=4)
    assert all("quantization_config" in engine["thin"] for engine in bench.started())
    assert "compiled_float32" not in words(finding)
    assert "quantization" not in " ".join(named(ladder.arms)["full"].changed)


def test_a_quantisation_that_no_engine_takes_is_dropped_and_named(bench: ArmBench, quantised: Path) -> None:
    """All arms run again without it, those in float32 too; each says why."""
    bench.memory(141)
    said: list[str] = []
    bench.arms(eager=["needs plain weights", "answers"], eager_again="needs plain weights")
    ladder, finding = climb(bench, model=quantised, say=said.append, acts={"eager": "needs plain weights"})
    assert words(finding)["compiled_float32"] == "right"
    changed = named(ladder.arms)["full"].changed
    assert "smaller model: quantization_config" in changed
    refusal = "vLLM refuses this launch: ValueError: no memory"
    assert f"no engine started with made-up quantised weights: {refusal}" in changed
    assert "once more without the quantisation" in said[0]


def test_weights_that_are_larger_than_estimated_are_named(bench: ArmBench) -> None:
    """The worker counts what was built."""
    bench.memory(141)
    answers = json.loads((bench.folder / "answers.json").read_text(encoding="utf-8"))
    answers["answers"]["arm"]["engine"]["weights"] = 50 << 30
    (bench.folder / "answers.json").write_text(json.dumps(answers), encoding="utf-8")
    ladder, _ = climb(bench)
    assert "the weights take 50.0 GiB, more than the 22.6 GiB that were estimated" in named(ladder.arms)["full"].changed


def test_two_texts_are_kept_where_answers_part(bench: ArmBench) -> None:
    """Of the prompt in which an arm is furthest from the arm below it."""
    ladder, _ = climb(bench, acts={"full": "is apart"})
    texts = named(ladder.arms)["full"].texts
    assert texts is not None
    assert (texts.own, texts.below, texts.are_numbers) == ("0 9", "0 0", True)
    assert named(ladder.arms)["piecewise"].texts is None


def test_the_log_of_an_engine_is_heard_with_its_arm(bench: ArmBench) -> None:
    """Without what vLLM writes in front."""
    lines: list[str] = []
    climb(bench, acts={"eager": "takes its time"}, hear=lines.append)
    assert "eager: Loading weights took 3.1 s" in lines
