"""The zoo in real vLLM: models whose verdict is known by construction, in both releases.

A false `uniform` would be shipped and corrupt output; so no model that is unsafe may ever get one.
"""

from pathlib import Path
from typing import Any

import pytest
from fake_environment import QWEN, ROOT, model_like, tuner_process
from real_environment import TARGETS, python_of
from zoo.zoo_truth import ZOO

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module", params=TARGETS)
def verdicts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name -> document of every model of the zoo, probed in one environment."""
    python = python_of(str(request.param))
    folder = tmp_path_factory.mktemp(request.param)
    models = [zoo_model(folder, name) for name in ZOO]
    where = ("--python", python, "--store", folder / "verdicts.sqlite", "--json", "--no-variants", "--workers", 2)
    variables = {"PYTHONPATH": str(ROOT / "tests" / "zoo"), "HOME": str(folder)}
    answer = tuner_process("probe", *where, *models, cwd=folder, env=variables)
    return {Path(one["model"]["name"]).name: one for one in answer.document["results"]}


def zoo_model(folder: Path, name: str) -> Path:
    """A Qwen3-MoE configuration for one model of the zoo."""
    changes = {"num_hidden_layers": ZOO[name].layers, "skip_token_id": 88}
    return model_like(QWEN, folder / name, architectures=[f"{name}ForCausalLM"], **changes)


@pytest.mark.parametrize("name", ZOO)
def test_the_truth_is_found_or_doubted(verdicts: dict[str, Any], name: str) -> None:
    """Each verdict is the true one, or `inconclusive` where no input can be derived from the code."""
    document = verdicts[name]
    assert "verdict" in document, document["error"]
    assert document["verdict"] in ZOO[name].accepted, document["reasons"]


def test_no_unsafe_model_is_called_uniform(verdicts: dict[str, Any]) -> None:
    """The worst outcome, counted over the whole zoo."""
    unsafe = [name for name, truth in ZOO.items() if truth.verdict != "uniform"]
    assert len(unsafe) > 30
    assert [name for name in unsafe if verdicts[name]["verdict"] == "uniform"] == []


def test_what_was_not_explored_is_named(verdicts: dict[str, Any]) -> None:
    """A doubt names file, line, function and condition, and the inputs that were tried."""
    reasons = verdicts["OverflowSkip"]["reasons"]
    assert reasons[0].startswith("zoo.py:")
    assert "ZooModel.run" in reasons[0]
    assert "self.skips(index, hidden, positions, input_ids)" in reasons[0]
    unexplored = verdicts["OverflowLoop"]["evidence"]["exploration"]["unexplored"]
    assert any(branch["kind"] == "loop" and branch["line"] > 0 for branch in unexplored)


def test_inputs_are_derived_from_conditions(verdicts: dict[str, Any]) -> None:
    """Nothing but the code names the token, the position and the batch that the witnesses show."""
    witnesses = {name: document["witness"] for name, document in verdicts.items()}
    assert witnesses["HiddenTokenSwitch"]["scenario"].startswith("derived_token_777")
    assert witnesses["HelperSwitch"]["scenario"].startswith("derived_token_877")
    assert witnesses["LongContextSwitch"]["scenario"].startswith("derived_position_300")
    assert witnesses["LargePrefillSwitch"]["scenario"].startswith("derived_tokens_150")


def test_layers_in_the_middle_are_not_cut_away(verdicts: dict[str, Any]) -> None:
    """Models that treat layers 8 to 11, or layer 10, otherwise are probed with all of their 16 layers."""
    for name in ("MiddleSkip", "ConstantMiddleSkip"):
        assert len(verdicts[name]["evidence"]["registered"]) == 16
        assert "layers_shrunk" not in {item["kind"] for item in verdicts[name]["evidence"]["assumptions"]}
    assert len(verdicts["Plain"]["evidence"]["registered"]) < 6
