"""The two arms that differ in the flag alone: what they take back of a verdict, and that they give nothing."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins
from replay_samples import WRONG_LAYER, replay
from reports import layers, report, verdict

from rules.arms import FLAG_OFF, FLAG_ON, Kind, LaunchFacts, first_arms
from rules.ladder import FLOORS
from rules.ladder_finding import ArmWord
from rules.reason import reason
from rules.verdict import Verdict, Word

COMPILED_ON_A_GPU = LaunchFacts(eager=False, graphs=True, float32=True, flag=True)
COMPILED_ON_A_CPU = LaunchFacts(eager=False, graphs=False, float32=True, flag=True)
EAGER = LaunchFacts(eager=True, graphs=False, float32=True, flag=True)
GRAPHS_OF_UNCOMPILED_CODE = LaunchFacts(eager=True, graphs=True, float32=True, flag=True)
LAUNCHES = [COMPILED_ON_A_GPU, COMPILED_ON_A_CPU, EAGER, GRAPHS_OF_UNCOMPILED_CODE]
SAME_NATS, OTHER_NATS = 0.001, 1.5


def ladder(launch: LaunchFacts = COMPILED_ON_A_GPU, key: str = "launch", **nats: float | None) -> dict[str, Any]:
    """A ladder in which every arm agrees with the one below it, but for those that are named.

    Args:
        launch: decides which arms there are.
        key: of the launch.
        nats: name of an arm -> how far its answers are from those of the arm below; None: it does not start.
    """
    arms = [
        {**to_builtins(arm), "users": [], **_ran(nats.get(arm.name, SAME_NATS), is_root=not arm.against)}
        for arm in first_arms(launch)
    ]
    return {
        "key": key,
        "arguments": ["--max-model-len", "512"],
        "platform": "cuda",
        "gpu": "NVIDIA H200",
        "made_at": "2026-11-29T10:00:00+00:00",
        "worker": "a" * 64,
        "prefer": "",
        "variables": {},
        "arms": arms,
    }


def _ran(nats: float | None, *, is_root: bool) -> dict[str, Any]:
    """What was seen of an arm."""
    distance = None if nats is None or is_root else _distance(nats)
    modes = ("NONE", "NONE") if is_root else ("VLLM_COMPILE", "FULL_AND_PIECEWISE")
    return {
        "status": "failed" if nats is None else "ran",
        "detail": "no memory" if nats is None else "",
        "engine": dict(zip(("mode", "cudagraph_mode"), modes, strict=True)),
        "passes": {},
        "backends": ["TRITON"],
        "candidates": [],
        "seconds": {"ready": 20.0},
        "cache": 0,
        "changed": [],
        "broken": False,
        "noise": _distance(0.0),
        "distance": distance,
        "frozen": [],
    }


def _distance(nats: float) -> dict[str, Any]:
    return {"mean": nats, "worst": nats, "prompt": "tokens_7", "parted": 0, "layer": ""}


def seen(*ladders: Mapping[str, Any], **changes: Any) -> Verdict:
    """The verdict on a report with these ladders."""
    return verdict(report(ladders=list(ladders), **changes))


@pytest.mark.parametrize("launch", LAUNCHES)
def test_every_launch_whose_flag_can_be_set_has_both_values_of_it_as_arms(launch: LaunchFacts) -> None:
    """An eager launch, too: some releases count MoE layers in eager code."""
    arms = {arm.name: arm for arm in first_arms(launch)}
    assert arms[FLAG_ON].against == FLAG_OFF
    assert (arms[FLAG_ON].config, arms[FLAG_OFF].config) == (
        {"fast_moe_cold_start": True},
        {"fast_moe_cold_start": False},
    )
    assert not arms[FLAG_ON].is_setting
    assert not arms[FLAG_OFF].is_setting


@pytest.mark.parametrize(
    ("launch", "kind", "below"),
    [
        (COMPILED_ON_A_GPU, Kind.GRAPHS, "compiled"),
        (COMPILED_ON_A_CPU, Kind.COMPILE, "eager"),
        (EAGER, Kind.NOISE, "eager"),
        (GRAPHS_OF_UNCOMPILED_CODE, Kind.GRAPHS, "not_compiled_without_graphs"),
    ],
)
def test_with_the_flag_off_the_arm_is_compared_with_what_differs_in_one_thing(
    launch: LaunchFacts, kind: Kind, below: str
) -> None:
    """That arm is among those that run first."""
    arms = {arm.name: arm for arm in first_arms(launch)}
    assert (arms[FLAG_OFF].kind, arms[FLAG_OFF].against) == (kind, below)
    assert below in arms


@pytest.mark.parametrize("launch", LAUNCHES)
def test_equal_answers_leave_a_safe_verdict_as_it_is(launch: LaunchFacts) -> None:
    """All arms are right."""
    observed = seen(ladder(launch))
    assert set(observed.ladders["launch"].arms.values()) == {ArmWord.RIGHT}
    assert (observed.word, observed.reasons) == (Word.UNIFORM, verdict(report()).reasons)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_flag_that_moves_the_answers_takes_a_safe_verdict_back(launch: LaunchFacts) -> None:
    """Code that looks uniform and a flag that changes answers contradict one another."""
    observed = seen(ladder(launch, flag_on=OTHER_NATS))
    finding = observed.ladders["launch"]
    assert (finding.arms[FLAG_ON], finding.arms[FLAG_OFF]) == (ArmWord.WRONG, ArmWord.RIGHT)
    assert observed.word is Word.INCONCLUSIVE
    assert observed.reasons == (
        reason("arms_contradict", finding.arm_reasons[FLAG_ON]),
        *verdict(report()).reasons,
    )
    assert finding.arm_reasons[FLAG_ON].fields["worst"] == OTHER_NATS


def test_one_launch_of_many_is_enough() -> None:
    """Another launch without a difference does not speak for the model."""
    observed = seen(ladder(key="one"), ladder(key="another", flag_on=OTHER_NATS), ladder(key="third"))
    assert observed.word is Word.INCONCLUSIVE
    assert set(observed.ladders) == {"one", "another", "third"}


@pytest.mark.parametrize(("part", "word"), [(0.99, Word.UNIFORM), (1.0, Word.UNIFORM), (1.01, Word.INCONCLUSIVE)])
def test_the_threshold_is_that_of_the_flag(part: float, word: Word) -> None:
    """A distance at the threshold is still the same."""
    assert seen(ladder(flag_on=part * FLOORS[Kind.FLAG])).word is word


def test_an_engine_that_is_wrong_with_the_flag_off_as_well_is_wrong_for_another_cause() -> None:
    """CUDA graphs are at fault here, whatever the flag."""
    observed = seen(ladder(flag_off=OTHER_NATS, full=OTHER_NATS))
    assert observed.ladders["launch"].arms[FLAG_ON] is ArmWord.WRONG
    assert observed.word is Word.UNIFORM


@pytest.mark.parametrize("missing", [FLAG_ON, FLAG_OFF])
def test_an_arm_that_does_not_start_takes_nothing_back_by_itself(missing: str) -> None:
    """Nothing was compared."""
    failed: dict[str, float | None] = {missing: None}
    arms = ladder(**failed)
    for arm in arms["arms"]:
        if arm["against"] in failed:
            arm["distance"] = None
    assert seen(arms).word is Word.UNIFORM


def test_an_unsafe_verdict_stands() -> None:
    """Where counting is known to be wrong, the answers agree with that."""
    order = layers(3)
    observed = seen(ladder(flag_on=OTHER_NATS), orders={"decode_1": [order[0], order[2]]})
    assert observed.word is Word.CONDITIONAL
    assert observed.witness is not None


def test_what_watched_engines_showed_stays_beside_it() -> None:
    """A contradiction of arms takes away the word, and no evidence."""
    observed = seen(ladder(flag_on=OTHER_NATS), replays=[replay()])
    assert (observed.word, observed.replays, observed.depth) == (Word.INCONCLUSIVE, {"flag_on": "equal"}, "replay")
    both = seen(ladder(flag_on=OTHER_NATS), replays=[replay(WRONG_LAYER)])
    assert both.reasons[0].code == "replay_contradicts"


@given(
    on=st.sampled_from([SAME_NATS, 0.09, 0.2, OTHER_NATS]),
    off=st.sampled_from([SAME_NATS, OTHER_NATS]),
    full=st.sampled_from([SAME_NATS, OTHER_NATS]),
    launch=st.sampled_from(LAUNCHES),
    unproved=st.booleans(),
)
def test_arms_never_make_a_verdict_safer(
    on: float, off: float, full: float, launch: LaunchFacts, *, unproved: bool
) -> None:
    """They keep its word, or make a safe one inconclusive."""
    more: dict[str, Any] = {"proofs": []} if unproved else {}
    before = seen(**more)
    after = seen(ladder(launch, flag_on=on, flag_off=off, full=full), **more)
    moves = after.ladders["launch"].flag_moves_answers
    assert after.word is (Word.INCONCLUSIVE if moves and before.word.safe else before.word)


def test_a_verdict_with_ladders_survives_the_store() -> None:
    """What `to_dict` writes `from_dict` reads, and the flag still moves the answers."""
    observed = seen(ladder(flag_on=OTHER_NATS))
    again = Verdict.from_dict(observed.to_dict())
    assert again == observed
    assert again.ladders["launch"].flag_moves_answers
