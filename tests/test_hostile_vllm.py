"""Hostile models in real vLLM: no trace proves a launch in which `true` is wrong, and the safe models are proved.

The proof refuses the code of every plugin. What is tested here is what the four conditions say without that: the models
stand for code that could lie in vLLM itself. `docs/evidence/hostile.md` has all models; here is one of each kind, for a
trace of each takes seconds.
"""

import json
from pathlib import Path

import pytest
from fake_environment import tuner_process
from hostile_models.hostile_truth import ALLOWED, TRUTH, Word
from hostile_samples import FOREIGN, PLUGIN, Asked, findings, hostile_model, own_reasons
from real_environment import python_of

from rules.proof_finding import ProofFinding, ProofWord

pytestmark = pytest.mark.vllm

SAFE = [name for name, truth in TRUTH.items() if truth.word is Word.SAFE]
UNSAFE = [
    "ShapeLastOutside",  # a branch around the region
    "CountedPassesOutside",  # a counter
    "FinallyOutside",  # a handler
    "ThreadOutside",  # what Dynamo cannot follow
    "ThreadInside",
    "TracedArmInside",  # the trace takes the wrong arm
    "TruthinessInside",
    "DeadResult",
    "DeadTail",
    "TimesZero",
    "TimesZeroAlpha",
    "EmptySlice",
    "ZerosLike",
    "ZeroedInPlace",
    "SideBySide",
    "SwappedPair",
    "CalledTwice",
    "OnceTooOften",
    "RewindingOperator",
    "SecondRegion",
    "AlwaysCaught",
    "OneLayer",
    "ForwardPastCall",
    "OverridesCall",
    "DoNotCompile",
    "NotDecorated",
    "SkipCompiled",
    "LazyLayer",
]
"""One of each kind for which `true` is wrong in the plain launch."""
LAUNCHED = ["MaxNumSeqsInside", "MaxNumBatchedTokensOutside", "EnforceEagerInside", "PipelineParallelInside"]
"""Some for which it is wrong in a launch of theirs."""


@pytest.fixture(scope="module")
def proofs(tmp_path_factory: pytest.TempPathFactory) -> dict[Asked, ProofFinding]:
    """Launch -> what its trace proves, in an environment where the launch decides the flag."""
    plain = [Asked(name) for name in (*SAFE, *UNSAFE, *BY_ITS_FILES)]
    launched = [Asked(name, launch.arguments) for name in LAUNCHED if (launch := TRUTH[name].launch)]
    return findings(python_of("flag-live"), tmp_path_factory.mktemp("hostile"), [*plain, *launched])


@pytest.mark.parametrize("name", SAFE)
def test_the_traces_of_safe_models_prove_them(proofs: dict[Asked, ProofFinding], name: str) -> None:
    """Nothing speaks against a safe model but that its code is a plugin's."""
    finding = proofs[Asked(name)]
    assert own_reasons(finding) == []
    assert {reason.code for reason in finding.reasons} == FOREIGN


BY_ITS_FILES = ("HiddenName", "BakedName", "LogitsContext", "WeightsNameInside")
"""What no trace of a pass shows: a name that an operator hides or bakes in, a context of `compute_logits`, and what is
read with the weights. Code that is not vLLM's own is refused for their sake."""


@pytest.mark.parametrize("name", BY_ITS_FILES)
def test_what_no_trace_shows_is_refused_by_whose_code_it_is(proofs: dict[Asked, ProofFinding], name: str) -> None:
    """The file of the plugin is named, and nothing is proved."""
    finding = proofs[Asked(name)]
    assert TRUTH[name].word not in ALLOWED
    assert finding.word is not ProofWord.PROVED
    assert "foreign_code" in {reason.code for reason in finding.reasons}


@pytest.mark.parametrize("name", UNSAFE)
def test_no_trace_proves_an_unsafe_model(proofs: dict[Asked, ProofFinding], name: str) -> None:
    """A condition fails beside that against plugins, wherever wrong experts or none may run."""
    assert TRUTH[name].word not in ALLOWED
    assert own_reasons(proofs[Asked(name)]), TRUTH[name].why


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_launch_that_takes_a_layer_out_is_not_proved(proofs: dict[Asked, ProofFinding], name: str) -> None:
    """The launch in which the branch is taken fails by itself, whatever the plain launch proves."""
    launch = TRUTH[name].launch
    assert launch is not None
    assert own_reasons(proofs[Asked(name, launch.arguments)]), launch


def test_no_plugin_is_proved(proofs: dict[Asked, ProofFinding]) -> None:
    """Code that is not vLLM's own may do what no trace shows, so none of these launches has a proof."""
    assert len(proofs) > 40
    assert [asked for asked, finding in proofs.items() if finding.word is ProofWord.PROVED] == []


def test_the_command_writes_no_true(tmp_path: Path) -> None:
    """`tuner probe MODEL -- VLLM ARGS` and `tuner plan` decide `false` for the launch that takes a layer out."""
    model = hostile_model(tmp_path, "MaxNumSeqsInside")
    where = ("--python", python_of("flag-live"), "--store", tmp_path / "verdicts.sqlite", "--json")
    variables = {"PYTHONPATH": str(PLUGIN), "HOME": str(tmp_path)}
    launch = ("--max-num-seqs", "3")
    tuner_process("probe", *where, model, "--", *launch, cwd=tmp_path, env=variables)
    answer = tuner_process("plan", *where, model, "--", *launch, cwd=tmp_path, env=variables)
    assert '"fast_moe_cold_start": false' in json.dumps(answer.document)
    assert '"fast_moe_cold_start": true' not in json.dumps(answer.document)
