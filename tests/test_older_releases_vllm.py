"""Older releases with a flag that works on a CPU: the order and the decision of a safe and an unsafe model."""

from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, QWEN, tuner_process
from real_environment import ROOT

pytestmark = pytest.mark.vllm

OLDER = ("0.18.1", "0.17.1")
PROVED = {"0.18.1": ("uniform", True), "0.17.1": ("inconclusive", False)}
"""Release -> verdict and flag of the safe model. 0.17.1 drops the guards of a trace with a function of its own, and the
launch worker does not see that, so nothing is proved there."""


@pytest.fixture(scope="module", params=[pytest.param(OLDER[0], marks=pytest.mark.thorough), OLDER[1]])
def documents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The release, and what a probe and a plan say of each model in it."""
    python = ROOT / ".envs" / f"flag-live-{request.param}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"No serving environment .envs/flag-live-{request.param}; `make setup-older` creates it.")
    store = tmp_path_factory.mktemp("older") / "verdicts.sqlite"
    own = ("--python", python, "--store", store)
    tuner_process("probe", *own, QWEN, ERNIE)
    return request.param, {model: planned(own, model) for model in (QWEN, ERNIE)}


def planned(own: tuple[object, ...], model: Path) -> Any:
    """The plan of a model's plain launch."""
    return tuner_process("plan", *own, "--json", model).document


def test_the_environment_is_that_of_the_release(documents: Any) -> None:
    """Its own vLLM is in front of the one that it is made over, by its metadata and by what the probe ran."""
    release, plans = documents
    for plan in plans.values():
        assert (plan["environment"]["vllm"], plan["environment"]["torch"]) == (release, "2.10.0")
        assert plan["environment"]["flag_status"] == "settable"


def test_a_safe_model_gets_true_where_its_trace_is_understood(documents: Any) -> None:
    """All passes keep the order in both; where the trace lacks something, the slower start is chosen."""
    release, plans = documents
    plan = plans[QWEN]
    assert (plan["verdict"], plan["launch"]["compilation_config"]["fast_moe_cold_start"]) == PROVED[release]
    if release == "0.17.1":
        assert any(reason["code"] == "guards_not_seen" for reason in plan["reasons"])


def test_an_unsafe_model_gets_false(documents: Any) -> None:
    """Two sets of experts, of which the input chooses one."""
    _, plans = documents
    assert plans[ERNIE]["verdict"] == "conditional"
    assert plans[ERNIE]["launch"]["compilation_config"] == {"fast_moe_cold_start": False}
