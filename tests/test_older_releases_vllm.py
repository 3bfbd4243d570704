"""Older releases with a flag that works on a CPU: the order and the decision of a safe and an unsafe model."""

from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, QWEN, tuner_process
from hostile_samples import Asked, findings, own_reasons
from real_environment import ROOT

pytestmark = pytest.mark.vllm

OLDER = ("0.18.1", "0.17.1")
UNSAFE = [
    Asked("TracedArmInside"),
    Asked("ShapeLastOutside"),
    Asked("DeadResult"),
    Asked("MaxNumSeqsInside", ("--max-num-seqs", "3")),
]
"""Hostile models: a branch in the trace, one around the region, a result that nobody reads, a launch that decides."""


@pytest.fixture(scope="module", params=[pytest.param(OLDER[0], marks=pytest.mark.thorough), OLDER[1]])
def release(request: pytest.FixtureRequest) -> str:
    """A release whose environment is here."""
    version: str = request.param
    if not python_of_release(version).exists():
        pytest.skip(f"No serving environment .envs/flag-live-{version}; `make setup-older` creates it.")
    return version


def python_of_release(version: str) -> Path:
    """The interpreter of a release's environment."""
    return ROOT / ".envs" / f"flag-live-{version}" / "bin" / "python"


@pytest.fixture(scope="module")
def documents(release: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The release, and what a probe and a plan say of each model in it."""
    python = python_of_release(release)
    store = tmp_path_factory.mktemp("older") / "verdicts.sqlite"
    own = ("--python", python, "--store", store)
    tuner_process("probe", *own, QWEN, ERNIE)
    return release, {model: planned(own, model) for model in (QWEN, ERNIE)}


def planned(own: tuple[object, ...], model: Path) -> Any:
    """The plan of a model's plain launch."""
    return tuner_process("plan", *own, "--json", model).document


def test_the_environment_is_that_of_the_release(documents: Any) -> None:
    """Its own vLLM is in front of the one that it is made over, by its metadata and by what the probe ran."""
    release, plans = documents
    for plan in plans.values():
        assert (plan["environment"]["vllm"], plan["environment"]["torch"]) == (release, "2.10.0")
        assert plan["environment"]["flag_status"] == "settable"


def test_a_safe_model_gets_true(documents: Any) -> None:
    """All passes keep the order, and the trace of the plain launch is proved."""
    _, plans = documents
    assert plans[QWEN]["verdict"] == "uniform"
    assert plans[QWEN]["launch"]["compilation_config"]["fast_moe_cold_start"] is True


def test_an_unsafe_model_gets_false(documents: Any) -> None:
    """Two sets of experts, of which the input chooses one."""
    _, plans = documents
    assert plans[ERNIE]["verdict"] == "conditional"
    assert plans[ERNIE]["launch"]["compilation_config"] == {"fast_moe_cold_start": False}


def test_no_trace_proves_an_unsafe_model(release: str, tmp_path: Path) -> None:
    """Each release has a wrapper of its own around `torch.compile`, and the proof reads guards and graph in all."""
    proofs = findings(python_of_release(release), tmp_path, [Asked("Plain"), *UNSAFE])
    assert own_reasons(proofs[Asked("Plain")]) == []
    assert [asked for asked in UNSAFE if not own_reasons(proofs[asked])] == []
