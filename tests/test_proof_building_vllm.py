"""What the proof in real vLLM does with a model that needs something else than vLLM's classes while it is built.

The proofs of an environment come from one process; importing vLLM takes most of its time.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import convert
from real_environment import ROOT, TARGETS, answer_of, python_of

from rules.proof import judge_proof
from rules.proof_finding import ProofWord
from rules.report import Proof
from tuner.arguments.serve_arguments import parse
from tuner.engines.proof import LaunchToProve, proofs_of
from tuner.environment.environment import read_environment
from tuner.model.model import identify
from tuner.model.shrink import shrink
from tuner.verdicts.identity import Subject

pytestmark = pytest.mark.vllm

CONFIGS = ROOT / "examples" / "architectures"
LING = CONFIGS / "inclusionAI--Ling-plus"
"""vLLM has its class, and only the model's own code has the class of its config."""
PANGU = CONFIGS / "made--PanguProMoEV2ForCausalLM"
"""Its attention names the device of a weight, and normalises this weight while the model is built."""
INTERN = CONFIGS / "internlm--Intern-S1-Pro"
"""Its rotary embedding selects from its frequencies by their values."""
LIMIT_S = 300

REMOTE = """
from transformers import PretrainedConfig

class BailingMoeConfig(PretrainedConfig):
    model_type = "bailing_moe"

    def __init__(self, **fields):
        raise ValueError("the model's own code ran")
"""


def launches_in(folder: Path) -> dict[str, list[str]]:
    """Name -> arguments of each launch. The models are cut."""
    models = {"ling": LING, "pangu": PANGU, "intern": INTERN}
    for name, source in models.items():
        config = json.loads((source / "config.json").read_text(encoding="utf-8"))
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(shrink(config).config), encoding="utf-8")
    (folder / "ling" / "configuration_bailing_moe.py").write_text(REMOTE, encoding="utf-8")
    launches = {name: [str(folder / name)] for name in models}
    return {**launches, "trusted": [str(folder / "ling"), "--trust-remote-code"]}


@pytest.fixture(scope="module", params=TARGETS)
def proofs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Proof]:
    """The proof of each launch, in each environment."""
    environment = read_environment(str(python_of(request.param)))
    launches = launches_in(tmp_path_factory.mktemp("models"))
    subjects = []
    for args in launches.values():
        subject = Subject(identify(args[0]), environment, trust_remote_code=len(args) > 1)
        subjects.append(LaunchToProve(subject, parse(args)))
    answers = proofs_of(subjects, environment, os.environ, LIMIT_S)
    return {name: convert(proof, Proof) for name, proof in zip(launches, answers, strict=True)}


def kinds_of(proof: Proof) -> set[str]:
    """The kinds of stand-ins that a proof lists."""
    return {assumption.kind for rank in proof.ranks for assumption in rank.assumptions}


def errors_of(proof: Proof) -> list[Any]:
    """What vLLM raised while the launch was built or traced."""
    failures = [failure for rank in proof.ranks for failure in rank.failures]
    return [failure.fields["error"] for failure in failures if "error" in failure.fields]


@pytest.mark.parametrize("model", ["ling", "pangu"])
def test_a_sound_model_is_proved(proofs: Mapping[str, Proof], model: str) -> None:
    """Also if its config has no class here, or a weight of it names its device."""
    finding = judge_proof(proofs[model])
    assert [(reason.code, dict(reason.fields)) for reason in finding.reasons] == []
    assert finding.word is ProofWord.PROVED
    assert finding.layers > 1


def test_a_plain_config_is_an_assumption(proofs: Mapping[str, Proof]) -> None:
    """The model's own code did not run, and could have added fields."""
    assert "plain_config" in kinds_of(proofs["ling"])
    assert errors_of(proofs["ling"]) == []


def test_a_launch_that_trusts_the_model_s_code_gets_it(proofs: Mapping[str, Proof]) -> None:
    """A plain config does not stand in for it: the proof is about this launch."""
    assert "plain_config" not in kinds_of(proofs["trusted"])
    assert ["the model's own code ran" in error for error in errors_of(proofs["trusted"])] == [True]


def test_frequencies_are_selected_by_their_values(proofs: Mapping[str, Proof], request: pytest.FixtureRequest) -> None:
    """The proof builds this class as vLLM 0.19.1 does; vLLM 0.32.0 cannot build it at all."""
    if "current" in request.node.name:
        assert ["has no attribute 'model_config'" in error for error in errors_of(proofs["intern"])] == [True]
        return
    assert errors_of(proofs["intern"]) == []
    assert all(len(rank.calls) == len(rank.registered) > 1 for rank in proofs["intern"].ranks)


@pytest.mark.parametrize("environment", TARGETS)
def test_a_result_of_tensors_with_and_without_memory_has_none(environment: str) -> None:
    """An operation that may write to a tensor in memory is refused: the values there would be wrong."""
    assert answer_of(environment, "proof_memory_cases.py") == {
        **dict.fromkeys(("product", "list", "keyword", "operator"), "meta"),
        "alone": "cpu",
        **dict.fromkeys(("operator_of_many", "sizes", "item", "copy", "out"), "refused"),
    }
