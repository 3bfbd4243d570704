"""Which arms a launch gets. No engine runs."""

import pytest
from ladder_samples import ALL_FACTS, EAGER_LAUNCH, ON_CPU, ON_GPU, PASSES, QUANTISED, WITH_FLAG, all_arms

from rules.arms import (
    LAUNCH,
    ROOTS,
    Arm,
    Kind,
    LaunchFacts,
    backend_arms,
    first_arms,
    not_compiled_arms,
    pass_arms,
)

FIRST_ON_GPU = [
    "eager",
    "eager_again",
    "eager_float32",
    "compiled_float32",
    "compiled",
    "compiled_again",
    "piecewise",
    "full_decode",
    "full",
    "as_launched",
]
EAGER_WITH_GRAPHS = LaunchFacts(eager=True, graphs=True, float32=True, flag=False)


def names(arms: list[Arm]) -> list[str]:
    """The names of arms."""
    return [arm.name for arm in arms]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (ON_GPU, FIRST_ON_GPU),
        (WITH_FLAG, [*FIRST_ON_GPU, "flag_off", "flag_on"]),
        (QUANTISED, [name for name in FIRST_ON_GPU if "float32" not in name]),
        (ON_CPU, ["eager", "eager_again", "eager_float32", "compiled_float32", "as_launched"]),
        (EAGER_LAUNCH, ["eager", "eager_again", "as_launched", "flag_off", "flag_on"]),
        (EAGER_WITH_GRAPHS, ["eager", "eager_again", "not_compiled_without_graphs", "as_launched"]),
    ],
    ids=str,
)
def test_a_launch_gets_the_arms_that_its_release_and_device_have(facts: LaunchFacts, expected: list[str]) -> None:
    """No graphs on a CPU, no float32 where weights are quantised, no flag where it cannot be set."""
    assert names(first_arms(facts)) == expected


@pytest.mark.parametrize("facts", [*ALL_FACTS, EAGER_WITH_GRAPHS], ids=str)
def test_every_arm_stands_on_another_one_down_to_an_eager_one(facts: LaunchFacts) -> None:
    """Names are unique, the arm below stands before it, and only the eager arms stand on none."""
    before: set[str] = set()
    for arm in all_arms(facts):
        assert arm.name not in before
        assert (arm.against in before) != (arm.name in ROOTS)
        assert (arm.kind is Kind.ROOT) == (arm.name in ROOTS)
        before.add(arm.name)
    assert LAUNCH in before


@pytest.mark.parametrize("facts", ALL_FACTS, ids=str)
def test_arms_of_graphs_differ_from_the_one_below_in_graphs_alone(facts: LaunchFacts) -> None:
    """Else a difference would not name its cause."""
    arms = {arm.name: arm for arm in all_arms(facts)}
    for arm in arms.values():
        if arm.kind is Kind.GRAPHS and arm.name not in {LAUNCH, "flag_off"}:
            below = arms[arm.against]
            assert arm.options == below.options
            assert {**below.config, **arm.config, "cudagraph_mode": ""} == {**below.config, "cudagraph_mode": ""}


@pytest.mark.parametrize("facts", ALL_FACTS, ids=str)
def test_no_arm_in_float32_and_no_second_start_may_be_written(facts: LaunchFacts) -> None:
    """They only serve to judge, and so do those of the flag, which another rule decides."""
    for arm in all_arms(facts):
        serves = arm.kind in {Kind.NOISE, Kind.FLOAT32} or arm.name.startswith("flag_") or "float32" in arm.name
        assert not (serves and arm.is_setting and arm.name != LAUNCH), arm.name


def test_a_pass_is_switched_off_alone() -> None:
    """Each pass has an arm with graphs, one without, and one in float32."""
    arms = pass_arms(PASSES, ON_GPU)
    assert names(arms)[:3] == [
        "without_fuse_norm_quant_float32",
        "without_fuse_norm_quant_compiled",
        "without_fuse_norm_quant",
    ]
    assert [arm.config for arm in arms if arm.is_setting] == [{"pass_config": {name: False}} for name in PASSES]


def test_a_backend_is_compared_with_the_launch_own_backend() -> None:
    """Its own eager engine stands between."""
    arms = backend_arms(["triton"], ON_GPU)
    assert [(arm.name, arm.against) for arm in arms] == [
        ("backend_triton_eager", "eager"),
        ("backend_triton_compiled", "backend_triton_eager"),
        ("backend_triton", "backend_triton_compiled"),
    ]
    assert all(arm.options[:2] == ("--moe-backend", "triton") for arm in arms)


def test_without_graphs_nothing_is_left_to_try_without_compiling() -> None:
    """That is the eager arm."""
    assert not_compiled_arms(ON_CPU) == []
