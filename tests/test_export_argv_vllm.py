"""What a server of each real release reads in the argument lists that exported files lead to."""

from typing import Any

import pytest
from export_cases import GIVEN, LAUNCHES, MANIFESTS, MODELS, Case, python_of, read_cases
from exported import RELEASES

from tuner.exports.formats import Format

pytestmark = pytest.mark.vllm

MAKE_TARGETS = {"current": "setup", "flag-live": "setup-flag-live"}


@pytest.fixture(scope="module", params=sorted(RELEASES))
def answers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Case], dict[str, Any]]:
    """Every format of every launch, and a worker's list, read by the vLLM of one release."""
    release = str(request.param)
    if not python_of(release).exists():
        pytest.skip(f"No serving environment .envs/{release}; `make {MAKE_TARGETS[release]}` creates it.")
    return read_cases(release, tmp_path_factory.mktemp(release))


@pytest.fixture
def cases(answers: tuple[list[Case], dict[str, Any]]) -> list[Case]:
    """The exported files."""
    return answers[0]


def test_every_list_is_taken(cases: list[Case]) -> None:
    """No exported launch is refused by the parser of the release it was made for."""
    assert len(cases) == len(MODELS) * len(LAUNCHES) * len(MANIFESTS)
    assert [(case.form, case.name) for case in cases if "refused" in case.exported or "refused" in case.planned] == []


def test_the_compilation_config_is_the_plans(cases: list[Case]) -> None:
    """What vLLM stores is what the plan says, and nothing where it says nothing."""
    found = [(case.form, case.name, case.exported["compilation_config"] or {}) for case in cases]
    assert found == [(case.form, case.name, case.launch["compilation_config"]) for case in cases]


def test_no_other_value_changes(cases: list[Case]) -> None:
    """Every other option has the value that the plan's own list gives it, but for what the format itself gives."""
    for case in cases:
        assert case.changed() <= GIVEN.get(case.form, set()), (case.form, case.name)
        assert case.holds()


def test_the_served_model_is_the_plans(cases: list[Case]) -> None:
    """Named as the plan names it; KServe's template has a folder of its own in its place."""
    for case in cases:
        if case.form != Format.KSERVE_LLMINFERENCESERVICE:
            values = case.exported["values"]
            assert case.model in {values["model"], values["model_tag"]}, (case.form, case.name)


def test_a_workers_list_is_taken_too(answers: tuple[list[Case], dict[str, Any]]) -> None:
    """With its rank, and without a server for requests."""
    others = answers[1]["others"]
    assert (others["nnodes"], others["node_rank"], others["headless"]) == ("2", "1", "True")
