"""The value of the flag in each arm of a launch: what others are compared with is never at its mercy."""

from pathlib import Path

import pytest
from fake_environment import MIXTRAL, SETTABLE, sample, serving_in
from msgspec.structs import replace

from rules.arms import FLAG_KEY, LaunchFacts, first_arms
from rules.releases import FlagStatus
from tuner.arguments.serve_arguments import parse
from tuner.cli.inputs import Inputs, Launching, planned
from tuner.ladder.arm_arguments import ArmLaunch, arm_launch
from tuner.launch.plan import Plan

GPU = LaunchFacts(eager=False, graphs=True, float32=True, flag=True)
REFERENCES = {"eager", "eager_again", "eager_float32", "compiled", "compiled_again", "compiled_float32"}
WITH_GRAPHS = {"piecewise", "full_decode", "full"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """The plan of the plain launch of a proved model: the flag can be set, and the plan writes `true`."""
    serving = serving_in(tmp_path / "env", SETTABLE)
    serving.remember(tmp_path / "store", MIXTRAL, sample(MIXTRAL, "flag-live"))
    launch = planned([str(MIXTRAL)], Inputs(str(serving.python), store=str(tmp_path / "store")), Launching(), {})
    assert launch.decision.setting is True
    return launch


def launches(plan: Plan, *args: str, facts: LaunchFacts = GPU) -> dict[str, ArmLaunch]:
    """Name of each arm -> how it is started."""
    arguments = parse([str(MIXTRAL), *args], vllm=plan.subject.environment.vllm)
    return {arm.name: arm_launch(arm, plan, arguments, seats=1) for arm in first_arms(facts)}


def flag_of(launch: ArmLaunch) -> object:
    """The value of the flag that an arm is started with; None where it has none."""
    return parse(launch.arguments, vllm=SETTABLE["vllm_cpu"]).compilation_config.get(FLAG_KEY)


def test_the_flag_is_off_in_all_arms_but_those_that_are_asked_for_it(plan: Plan) -> None:
    """The launch has what the plan writes."""
    flags = {name: flag_of(launch) for name, launch in launches(plan).items()}
    assert flags == {
        **dict.fromkeys(REFERENCES | WITH_GRAPHS, False),
        "as_launched": True,
        "flag_off": False,
        "flag_on": True,
    }


def test_a_users_true_stays_but_in_what_others_are_compared_with(plan: Plan) -> None:
    """An arm that changes it is named as such, so that it is not written."""
    started = launches(plan, "-cc.fast_moe_cold_start=true")
    flags = {name: flag_of(launch) for name, launch in started.items()}
    assert flags == {
        **dict.fromkeys(REFERENCES, False),
        **dict.fromkeys(WITH_GRAPHS, True),
        "as_launched": True,
        "flag_off": False,
        "flag_on": True,
    }
    changing = {name for name, launch in started.items() if FLAG_KEY in launch.users}
    assert changing == REFERENCES | {"flag_off"}


def test_no_arm_has_the_flag_where_it_cannot_be_set(plan: Plan) -> None:
    """A release that does not take the key would not start with it."""
    flag, decision = replace(plan.flag, status=FlagStatus.INERT), replace(plan.decision, setting=None)
    started = launches(replace(plan, flag=flag, decision=decision), facts=replace(GPU, flag=False))
    assert {flag_of(launch) for launch in started.values()} == {None}
    assert set(started) == REFERENCES | WITH_GRAPHS | {"as_launched"}
