"""Models of vLLM's Transformers backend in real vLLM: what their traces prove, whatever decorators transformers uses.

The decoder class of transformers is what vLLM compiles there. Its `forward` is wrapped by decorators of transformers,
which Dynamo traces through.
"""

import json
import os

import pytest
from msgspec import convert
from real_environment import python_of

from rules.proof import judge_proof
from rules.proof_finding import ProofFinding, ProofWord
from rules.report import Proof
from tuner.arguments.serve_arguments import parse
from tuner.engines.proof import LaunchToProve, proofs_of
from tuner.environment.environment import read_environment
from tuner.model.model import identify
from tuner.verdicts.identity import Subject

pytestmark = pytest.mark.vllm

SMALL = {
    "dtype": "bfloat16",
    "vocab_size": 1024,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "moe_intermediate_size": 32,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
SOLAR = {
    **SMALL,
    "architectures": ["SolarOpenForCausalLM"],
    "model_type": "solar_open",
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_routed_experts": 8,
    "routed_scaling_factor": 1.0,
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": True,
}
"""vLLM puts its own layer in the place of router and experts, so that the graph holds vLLM's usual operator."""
HUNYUAN = {
    **SMALL,
    "architectures": ["HunYuanMoEV1ForCausalLM"],
    "model_type": "hunyuan_v1_moe",
    "num_experts": 8,
    "moe_topk": 1,
}
"""Its router stays that of transformers, so that the graph holds the operator that hands over the chosen experts."""
LIMIT_S = 600


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ProofFinding]:
    """What the trace of each plain launch proves."""
    environment = read_environment(str(python_of("current")))
    launches: dict[str, LaunchToProve] = {}
    for config in (SOLAR, HUNYUAN):
        folder = tmp_path_factory.mktemp(config["model_type"])
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
        launches[config["model_type"]] = LaunchToProve(
            Subject(identify(str(folder)), environment), parse([str(folder)])
        )
    proofs = proofs_of(list(launches.values()), environment, os.environ, LIMIT_S)
    return {name: judge_proof(convert(proof, Proof)) for name, proof in zip(launches, proofs, strict=True)}


@pytest.mark.parametrize("model", ["solar_open", "hunyuan_v1_moe"])
def test_the_graph_of_a_model_of_transformers_has_no_fault(findings: dict[str, ProofFinding], model: str) -> None:
    """Every layer is called once and in order, by either operator. The code around the region is not proved.

    That code asks for the keys of a dictionary of the model, and for the ranks in its process group
    (vllm/model_executor/models/transformers/base.py, 0.32.0). The contents of a container do not count as fixed.
    """
    finding = findings[model]
    assert {reason.code for reason in finding.reasons} == {"outer_guard"}
    assert (finding.word, finding.layers) == (ProofWord.NOT_PROVED, 4)
