"""Real engines asked for tokens and their log-probabilities: of vLLM 0.19.1, where the flag works, and of 0.32.0.

The model with two expert sets runs the wrong ones with the flag on and logs no error: the answers show it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from fake_environment import ROOT
from real_engines import TRACED, UNBOUND
from real_environment import checkpoint_of, python_of
from reports import report

from rules.output import FLOOR, TIMES_NOISE, distance, judge_outputs, noise_floor
from rules.report import Output, parse_report
from tuner.arguments.serve_arguments import parse
from tuner.cli.inputs import Inputs, Launching, planned
from tuner.engines import output as output_check
from tuner.engines.engines import EngineLaunch, Supervision, answers

pytestmark = pytest.mark.vllm

LIMITS = ("--max-model-len", "256", "--max-num-batched-tokens", "256", "--max-num-seqs", "8")
LIMIT_S = 400.0
FLAG = "flag_on_against_flag_off"
EAGER = ("eager", "eager_again")
Engines = Mapping[str, Output]


def answered(model: Path, folder: Path, *names: str, environment: str = "flag-live") -> Engines:
    """What the engines of these names answered; of a launch that is traced at most."""
    mode = TRACED if environment == "current" else ("--enforce-eager",)
    inner = {"PYTHONPATH": str(ROOT / "examples" / "two_expert_sets"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    words = [str(model), *LIMITS, *mode]
    plan = planned(words, Inputs(str(python_of(environment)), store=str(folder / "verdicts.sqlite")), Launching(), {})
    starting = EngineLaunch(plan, parse(words, vllm=plan.subject.environment.vllm), {**os.environ, **inner, **UNBOUND})
    asked = [engine for engine in output_check.engines(plan) if engine.name in names]
    found = answers(output_check.QUESTION, asked, starting, Supervision(lambda _: None, LIMIT_S, None))
    return {one.name: one for one in parse_report(report(outputs=found)).outputs}


def configuration(folder: Path, model: Path) -> Path:
    """A model of which no weights are here."""
    made = folder / f"{model.name}-config"
    made.mkdir()
    (made / "config.json").write_bytes((model / "config.json").read_bytes())
    return made


def size(engines: Engines, one: str, other: str) -> float:
    """Nats between two engines."""
    found = distance(engines[one], engines[other])
    assert found is not None
    return found.size


def noise(engines: Engines) -> float:
    """Nats of the noise floor."""
    found = noise_floor(dict(engines), engines["flag_off"])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this module's models."""
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def two_sets(folder: Path) -> Engines:
    """The model that the flag corrupts."""
    return answered(checkpoint_of("flag-live", folder, "two-expert-sets"), folder, *EAGER, "flag_on", "flag_off")


@pytest.fixture(scope="module")
def uniform(folder: Path) -> Engines:
    """A model that it does not corrupt; with the flag off this launch is the eager engine."""
    return answered(checkpoint_of("flag-live", folder), folder, *EAGER, "flag_on")


def test_a_run_of_the_wrong_experts_is_caught(two_sets: Engines) -> None:
    """Far above the noise, which is nothing here, and above the threshold."""
    assert judge_outputs(list(two_sets.values()))[FLAG][0] == "moved"
    wrong = size(two_sets, "flag_on", "flag_off")
    assert wrong > 10 * FLOOR
    assert wrong > 100 * TIMES_NOISE * noise(two_sets)


def test_only_the_engine_with_the_flag_on_moved(two_sets: Engines) -> None:
    """With the flag off the launch answers as the eager engine does."""
    words = {name: word for name, (word, _) in judge_outputs(list(two_sets.values())).items()}
    assert words == {FLAG: "moved", "flag_on_against_eager": "moved", "flag_off_against_eager": "same"}


def test_a_uniform_model_answers_the_same(uniform: Engines) -> None:
    """With the flag on as with it off."""
    words = {name: word for name, (word, _) in judge_outputs(list(uniform.values())).items()}
    assert words == {"flag_on_against_eager": "same"}
    assert size(uniform, "flag_on", "eager") < FLOOR / 10


def test_each_engine_is_what_it_is_called(two_sets: Engines) -> None:
    """By what vLLM made of the launch."""
    assert {name: one.engine["flag"] for name, one in two_sets.items()} == {
        "eager": False,
        "eager_again": False,
        "flag_on": True,
        "flag_off": False,
    }
    assert [len(one.prompts) for one in two_sets.values()] == [9] * 4


def test_without_weights_the_wrong_experts_are_caught_as_well(folder: Path, two_sets: Engines) -> None:
    """The numbers drawn in their place give experts a say, and are the same in every engine.

    Engines of two processes are asked in `test_replay_vllm.py`, by the same code.
    """
    assert two_sets  # its checkpoint is written
    model = configuration(folder, folder / "two-expert-sets")
    thin = answered(model, folder, "eager", "flag_on")
    assert "a thin model with random weights stands for the real one" in thin["eager"].changed
    assert size(thin, "flag_on", "eager") > 10 * FLOOR
    assert any("dummy weights are drawn" in said for said in thin["flag_on"].changed)


def test_a_traced_engine_answers_as_the_eager_one(folder: Path, two_sets: Engines) -> None:
    """In the current release, whose launch resolves by name whatever the model calls."""
    assert two_sets  # its checkpoint is written
    model = folder / "two-expert-sets"
    engines = answered(model, folder, *EAGER, "as_launched", environment="current")
    assert engines["as_launched"].engine["mode"] == "DYNAMO_TRACE_ONCE"
    words = {name: word for name, (word, _) in judge_outputs(list(engines.values())).items()}
    assert words == {"as_launched_against_eager": "same"}
