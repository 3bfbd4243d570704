"""Arms of real engines on a CPU: of vLLM 0.19.1, where the flag works, and of 0.32.0, with faults that are planted.

A CPU has neither CUDA graphs nor vLLM's compiler passes, so the arms are eager ones and traced ones.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from fake_environment import ROOT
from real_engines import TRACED, UNBOUND
from real_environment import checkpoint_of, python_of
from reports import report

from rules.ladder import judge_ladder
from rules.ladder_finding import ArmWord, LadderFinding
from rules.report import ArmRun, Ladder, parse_report
from tuner.arguments.serve_arguments import parse
from tuner.cli.inputs import Inputs, Launching, planned
from tuner.engines.engines import EngineLaunch, Supervision
from tuner.ladder.climb import Climb, climbed

pytestmark = pytest.mark.vllm

LIMITS = ("--max-model-len", "160", "--max-num-batched-tokens", "128", "--max-num-seqs", "8")
LIMIT_S = 400.0
PLUGINS = (ROOT / "examples" / "two_expert_sets", ROOT / "tests" / "planted_faults")


def ladder_of(model: Path, folder: Path, environment: str, *args: str, **variables: str) -> Ladder:
    """The ladder of a launch."""
    inner = {"PYTHONPATH": ":".join(map(str, PLUGINS)), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **variables}
    words = [str(model), *LIMITS, *args]
    plan = planned(words, Inputs(str(python_of(environment)), store=str(folder / "verdicts.sqlite")), Launching(), {})
    arguments = parse(words, vllm=plan.subject.environment.vllm)
    launch = EngineLaunch(plan, arguments, {**os.environ, **inner, **UNBOUND})
    supervision = Supervision(lambda _: None, LIMIT_S, None)
    return read(climbed(Climb(launch, supervision, seats=1, prefer="", finished=lambda _: None)))


def read(ladder: Mapping[str, object]) -> Ladder:
    """A ladder as a stored report holds it."""
    return parse_report(report(ladders=[dict(ladder)])).ladders[0]


def arm(ladder: Ladder, name: str) -> ArmRun:
    """One arm by its name."""
    return next(each for each in ladder.arms if each.name == name)


def words(finding: LadderFinding) -> dict[str, str]:
    """Name of each arm -> its word."""
    return {name: str(word) for name, word in finding.arms.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this module's models."""
    return tmp_path_factory.mktemp("ladders")


@pytest.fixture(scope="module")
def two_sets(folder: Path) -> Path:
    """The model that the flag corrupts, with weights."""
    return checkpoint_of("flag-live", folder, "two-expert-sets")


def test_a_run_of_the_wrong_experts_is_found(folder: Path, two_sets: Path) -> None:
    """The answers of the engine with the flag on are the only ones that differ, and by far more than noise."""
    ladder = ladder_of(two_sets, folder, "flag-live", "--enforce-eager")
    finding = judge_ladder(ladder)
    assert words(finding) == {
        "eager": "right",
        "eager_again": "right",
        "as_launched": "right",
        "flag_off": "right",
        "flag_on": "wrong",
    }
    distance = arm(ladder, "flag_on").distance
    assert distance is not None
    assert distance.mean > 0.3
    assert (arm(ladder, "flag_on").engine["flag"], arm(ladder, "flag_off").engine["flag"]) == (True, False)
    texts = arm(ladder, "flag_on").texts
    assert texts is not None
    assert not texts.are_numbers  # the checkpoint has a tokenizer
    assert texts.own != texts.below
    assert any(word.isalpha() for word in texts.own.split())


def test_a_fault_of_compiled_code_is_found_with_its_layer(folder: Path, two_sets: Path) -> None:
    """In 0.32.0 the input of one layer is scaled in traced code alone; made-up weights stand for the model's own."""
    ladder = ladder_of(without_weights(two_sets), folder, "current", *TRACED, PLANTED="compiled")
    finding = judge_ladder(ladder)
    assert finding.word is ArmWord.WRONG
    assert words(finding)["compiled_float32"] == "wrong"
    distance = arm(ladder, "compiled_float32").distance
    assert distance is not None
    assert distance.layer == "model.layers.0.mlp.experts"  # the second that this model registers
    texts = arm(ladder, "as_launched").texts
    assert texts is not None
    assert texts.are_numbers
    assert texts.own != texts.below
    assert (finding.remedy, finding.users) == (None, ("mode",))  # the mode is the user's own


def test_the_sound_twin_of_the_fault_is_not_found(folder: Path, two_sets: Path) -> None:
    """The same code, which scales by one."""
    ladder = ladder_of(without_weights(two_sets), folder, "current", *TRACED, PLANTED="compiled_twin")
    finding = judge_ladder(ladder)
    assert set(words(finding).values()) == {"right"}
    assert finding.remedy is None
    distance = arm(ladder, "compiled_float32").distance
    assert distance is not None
    assert distance.worst < 0.005


@pytest.mark.thorough
def test_a_quantisation_without_kernels_here_is_dropped_and_named(folder: Path, two_sets: Path) -> None:
    """Experts in fp8 need AMX on a CPU: with it they stay quantised, without it they are tried in full precision."""
    bare = folder / "fp8"
    bare.mkdir()
    config = json.loads((two_sets / "config.json").read_text(encoding="utf-8"))
    quantization = {"quant_method": "fp8", "activation_scheme": "dynamic"}
    (bare / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}), encoding="utf-8")
    ladder = ladder_of(bare, folder, "current", "--enforce-eager")
    eager = arm(ladder, "eager")
    changed = " ".join(eager.changed)
    assert words(judge_ladder(ladder))["as_launched"] == "right"
    assert (eager.engine["quantization"] == "fp8") != ("no engine started with made-up quantised weights" in changed)


@pytest.mark.thorough
def test_an_arm_that_crashes_costs_itself_alone(folder: Path, two_sets: Path) -> None:
    """Traced engines abort in their warm-up; the eager ones answer, and the launch is known not to start."""
    ladder = ladder_of(without_weights(two_sets), folder, "current", *TRACED, PLANTED="crash")
    finding = judge_ladder(ladder)
    assert finding.word is ArmWord.NOT_STARTED
    assert "SIGABRT" in arm(ladder, "as_launched").detail
    assert words(finding)["eager_again"] == "right"


def without_weights(model: Path) -> Path:
    """The model's config alone: a thin model with made-up weights stands for it."""
    bare = model.parent / f"{model.name}-config"
    bare.mkdir(exist_ok=True)
    (bare / "config.json").write_bytes((model / "config.json").read_bytes())
    return bare
