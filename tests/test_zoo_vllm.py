"""The zoo in real vLLM: models whose verdict is known by construction, in both releases.

A false `uniform` would be shipped and corrupt output; so no model that is unsafe may ever get one. What the order
probe alone can show is a pass that leaves the registered order.
"""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from fake_environment import QWEN, ROOT, model_like, tuner_process
from real_environment import python_of
from zoo.zoo_truth import ZOO

from cache.verdicts.store import VerdictStore

pytestmark = pytest.mark.vllm

WITHOUT_WITNESS = ("HiddenClock", "HiddenTokenSwitch", "HelperSwitch", "MaskSwitch", "Generator", "OverflowSkip")
"""Unsafe models that no scenario leads astray: each hides its branch otherwise."""
IN_CURRENT = (
    *("Plain", "HarmlessBranch", "HiddenClock"),
    *("LargePrefillSwitch", "PositionsSwitch", "ExactBatchSwitch", "RemainderSwitch", "NestedSizesSwitch"),
    *("MiddleSkip", "ConstantMiddleSkip", "Reverse", "Tied", "TokenSwitch", "ModalitySwitch", "StatefulSwitch"),
)
"""Each way to find a witness once."""


class Probed(NamedTuple):
    """What became of one model: its document, and the report that was stored."""

    document: dict[str, Any]
    report: dict[str, Any]

    def left(self, part: str) -> set[str]:
        """Scenarios that left the registered order, of the model as it was cut or of the whole one."""
        shown = self.report if part == "cut" else self.report["whole"]
        if shown is None:
            return set()
        registered = shown["registered"]
        passes = [(scenario["name"], order) for scenario in shown["scenarios"] for order in scenario["passes"]]
        return {name for name, order in passes if order != registered[: len(order)]}


@pytest.fixture(scope="module", params=[pytest.param("current", marks=pytest.mark.thorough), "flag-live"])
def probed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Probed]:
    """Name -> what became of the models of the zoo, probed in one environment."""
    python = python_of(str(request.param))
    folder = tmp_path_factory.mktemp(request.param)
    models = [zoo_model(folder, name) for name in names_for(str(request.param))]
    store = folder / "verdicts.sqlite"
    where = ("--python", python, "--store", store, "--json")
    variables = {"PYTHONPATH": str(ROOT / "tests" / "zoo"), "HOME": str(folder)}
    answer = tuner_process("probe", *where, *models, cwd=folder, env=variables)
    documents = {Path(result["model"]["name"]).name: result for result in answer.document["results"]}
    assert not [document["error"] for document in documents.values() if "error" in document]
    reports = {entry.report["architecture"]: dict(entry.report) for entry in VerdictStore(store).entries()}
    return {name: Probed(document, reports[f"{name}ForCausalLM"]) for name, document in documents.items()}


def names_for(environment: str) -> list[str]:
    """Models that a scenario leads astray, safe ones, and some of the rest; fewer in the release where nothing hinges.

    Of the rest the order probe shows nothing in any release; `make catalogue` runs them all.
    """
    if environment == "current":
        return list(IN_CURRENT)
    shown = [name for name, truth in ZOO.items() if truth.witnessed or truth.verdict == "uniform"]
    return [*shown, *WITHOUT_WITNESS]


def zoo_model(folder: Path, name: str) -> Path:
    """A Qwen3-MoE configuration for one model of the zoo."""
    changes = {"num_hidden_layers": ZOO[name].layers, "skip_token_id": 88}
    return model_like(QWEN, folder / name, architectures=[f"{name}ForCausalLM"], **changes)


def test_a_pass_that_leaves_the_order_is_found_where_there_is_one(probed: dict[str, Probed]) -> None:
    """A witness for each unsafe model that some scenario leads astray, and for no other."""
    witnessed = {name for name, model in probed.items() if model.left("cut") | model.left("whole")}
    assert witnessed == {name for name in probed if ZOO[name].witnessed}
    statuses = {scenario["status"] for model in probed.values() for scenario in model.report["scenarios"]}
    assert statuses <= {"ran", "not_applicable"}


def test_the_witness_decides_the_word(probed: dict[str, Probed]) -> None:
    """What the cut model showed is the verdict, with that scenario."""
    shown = {name: model for name, model in probed.items() if model.left("cut")}
    assert len(shown) >= 9
    for name, model in shown.items():
        assert model.document["verdict"] == ZOO[name].verdict
        assert model.document["witness"]["scenario"] in model.left("cut")


def test_no_unsafe_model_is_called_uniform(probed: dict[str, Probed]) -> None:
    """The worst outcome, counted over the whole zoo."""
    unsafe = [name for name in probed if ZOO[name].verdict != "uniform"]
    assert len(unsafe) >= 13
    assert [name for name in unsafe if probed[name].document["verdict"] == "uniform"] == []


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("LargePrefillSwitch", {1501}),
        ("PositionsSwitch", {1501}),
        ("ExactBatchSwitch", {300}),
        ("RemainderSwitch", {300, 1309}),
        ("NestedSizesSwitch", {1070}),
    ],
)
def test_sizes_are_derived_from_guards(probed: dict[str, Probed], name: str, sizes: set[int]) -> None:
    """Nothing but the code names the number of tokens of the witness: a comparison, arithmetic, one in another."""
    wrong = {scenario for scenario in probed[name].left("cut") if scenario.startswith("derived_")}
    assert {f"derived_tokens_{size}" for size in sizes} <= wrong
    assert wrong <= set(probed[name].report["planned"])


@pytest.mark.parametrize("name", ["Plain", "HarmlessBranch", "HiddenClock"])
def test_no_size_is_derived_where_none_is_compared(probed: dict[str, Probed], name: str) -> None:
    """A model without such a comparison, one that Dynamo cannot trace, and one that changes from pass to pass."""
    assert not [scenario for scenario in probed[name].report["planned"] if scenario.startswith("derived_")]


def test_layers_in_the_middle_are_seen_in_the_whole_model(probed: dict[str, Probed]) -> None:
    """Models that treat layers 8 to 11, or layer 10, otherwise are cut to fewer, and shown with all of their 16."""
    for name in ("MiddleSkip", "ConstantMiddleSkip"):
        model = probed[name]
        assert len(model.report["registered"]) < 8
        assert not model.left("cut")
        assert len(model.report["whole"]["registered"]) == 16
        assert "decode_1" in model.left("whole")
