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
KIMI = CONFIGS / "made--KimiLinearForCausalLM"
BAILING: dict[str, Any] = {
    "architectures": ["BailingMoeV3ForCausalLM"],
    "model_type": "bailing_hybrid",
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
    "layer_group_size": 3,
    "no_kda_lora": True,
    "first_k_dense_replace": 0,
    "head_dim": 128,
    "hidden_size": 512,
    "intermediate_size": 256,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "max_position_embeddings": 2048,
    "moe_intermediate_size": 256,
    "moe_shared_expert_intermediate_size": 256,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 3,
    "num_shared_experts": 1,
    "n_group": 4,
    "topk_group": 2,
    "short_conv_kernel_size": 4,
    "rms_norm_eps": 1e-06,
    "rope_theta": 600000.0,
    "q_lora_rank": None,
    "score_function": "sigmoid",
    "tie_word_embeddings": False,
    "use_bias": False,
    "hidden_act": "silu",
    "vocab_size": 1024,
}
"""Its linear attention calls a kernel of Triton, which a CPU lacks, and writes its result into an argument."""
DELTA = {"current": ("bailing", "BailingMoeV3KimiDeltaAttention"), "flag-live": ("kimi", "KimiDeltaAttention")}
"""Environment -> a model with such attention that vLLM compiles there, and the class."""
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
    models = {"bailing": BAILING}
    for name, source in {"ling": LING, "pangu": PANGU, "intern": INTERN, "kimi": KIMI}.items():
        models[name] = shrink(json.loads((source / "config.json").read_text(encoding="utf-8"))).config
    for name, config in models.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "ling" / "configuration_bailing_moe.py").write_text(REMOTE, encoding="utf-8")
    launches = {name: [str(folder / name)] for name in models}
    return {**launches, "trusted": [str(folder / "ling"), "--trust-remote-code"]}


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    """Each environment."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def proofs(target: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Proof]:
    """The proof of each launch, in each environment."""
    environment = read_environment(str(python_of(target)))
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


def require_proved(proof: Proof) -> None:
    """Every MoE layer is called once and in order."""
    finding = judge_proof(proof)
    assert [(reason.code, dict(reason.fields)) for reason in finding.reasons] == []
    assert finding.word is ProofWord.PROVED
    assert finding.layers > 1


def errors_of(proof: Proof) -> list[Any]:
    """What vLLM raised while the launch was built or traced."""
    failures = [failure for rank in proof.ranks for failure in rank.failures]
    return [failure.fields["error"] for failure in failures if "error" in failure.fields]


@pytest.mark.parametrize("model", ["ling", "pangu"])
def test_a_sound_model_is_proved(proofs: Mapping[str, Proof], model: str) -> None:
    """Also if its config has no class here, or a weight of it names its device."""
    require_proved(proofs[model])


def test_a_plain_config_is_an_assumption(proofs: Mapping[str, Proof]) -> None:
    """The model's own code did not run, and could have added fields."""
    assert "plain_config" in kinds_of(proofs["ling"])
    assert errors_of(proofs["ling"]) == []


def test_a_launch_that_trusts_the_model_s_code_gets_it(proofs: Mapping[str, Proof]) -> None:
    """A plain config does not stand in for it: the proof is about this launch."""
    assert "plain_config" not in kinds_of(proofs["trusted"])
    assert ["the model's own code ran" in error for error in errors_of(proofs["trusted"])] == [True]


def test_attention_that_writes_into_an_argument_is_stood_in_for(proofs: Mapping[str, Proof], target: str) -> None:
    """Where its kernel is missing: both of its arguments count as written, and the report names the class."""
    model, kind = DELTA[target]
    require_proved(proofs[model])
    noted = [(each.kind, each.detail) for rank in proofs[model].ranks for each in rank.assumptions]
    assert ("attention_stubbed", kind) in noted
    assert [detail for noted_kind, detail in noted if noted_kind == "attention_not_run" and detail.startswith(kind)]


def test_frequencies_are_selected_by_their_values(proofs: Mapping[str, Proof], target: str) -> None:
    """The proof builds this class as vLLM 0.19.1 does; vLLM 0.32.0 cannot build it at all."""
    if target == "current":
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
