"""Arms of a launch: which of them are right, why, and what is written. No engine runs: ladders are written by hand."""

import string
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ladder_samples import (
    ALL_FACTS,
    EAGER_LAUNCH,
    ON_CPU,
    ON_GPU,
    QUANTISED,
    WITH_FLAG,
    all_arms,
    distance,
    failed,
    judged,
    ladder,
    read,
    words,
)
from reports import report, verdict

from rules.arms import Arm, Kind
from rules.errors import ReportError
from rules.ladder import (
    CEILING,
    FLOORS,
    QUANTISED_FLOOR,
    ROUGH_CEILING,
    SHARP_CEILING,
    TIMES_AGAIN,
    TIMES_NOISE,
    judge_ladder,
    limits,
)
from rules.ladder_finding import ArmWord, LadderFinding
from rules.reason import OF_ARMS, Reason
from rules.report import MOST_ARMS, parse_report
from rules.verdict import Word

GRAPH_ARMS = ("piecewise", "full_decode", "full", "as_launched")
LAYER = "model.layers.1.mlp.experts"


def why(finding: LadderFinding, name: str) -> Reason:
    """Why an arm has its word."""
    return finding.arm_reasons[name]


def apart(worst: float, mean: float | None = None) -> dict[str, Any]:
    """Fields of an arm that is so far from the one below it."""
    return {"distance": distance(worst, mean)}


# ---- which arms are right


@pytest.mark.parametrize("facts", ALL_FACTS, ids=str)
def test_arms_that_agree_are_right_and_nothing_is_written(facts: Any) -> None:
    """Every arm agrees with the one below it, and the eager engine stands at the foot."""
    finding = judged(facts)
    assert set(words(finding).values()) == {"right"}
    assert (finding.word, finding.remedy, finding.users) == (ArmWord.RIGHT, None, ())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("eager_again", Kind.NOISE),
        ("compiled_float32", Kind.FLOAT32),
        ("compiled", Kind.COMPILE),
        ("full", Kind.GRAPHS),
        ("flag_on", Kind.FLAG),
    ],
)
def test_each_kind_of_neighbours_has_its_threshold(name: str, kind: Kind) -> None:
    """At the threshold an arm is right, and above it wrong."""
    at = judged(WITH_FLAG, {name: apart(FLOORS[kind])})
    above = judged(WITH_FLAG, {name: apart(FLOORS[kind] + 1e-6)})
    assert (words(at)[name], words(above)[name]) == ("right", "wrong")
    assert why(above, name).fields["threshold"] == FLOORS[kind]


def test_the_worst_prompt_counts_where_engines_round_alike() -> None:
    """A fault in graphs of one token moves one prompt of thirty."""
    finding = judged(changes={"full": apart(0.95, 0.0006)})
    assert words(finding)["full"] == "wrong"
    assert why(finding, "full").fields["counts"] == "worst"


def test_the_mean_counts_where_engines_round_otherwise() -> None:
    """A router that chooses another expert by a hair moves one prompt: that is not a fault."""
    finding = judged(changes={"compiled": apart(0.9, 0.05)})
    assert words(finding)["compiled"] == "right"
    assert why(finding, "compiled").fields["counts"] == "mean"


@pytest.mark.parametrize(
    ("quantization", "mean", "word"),
    [
        (None, 0.3, "wrong"),
        ("fp8", 0.24, "right"),
        ("fp8", 0.3, "unknown"),
        ("fp8", ROUGH_CEILING, "unknown"),
        ("fp8", ROUGH_CEILING + 0.1, "wrong"),
    ],
)
def test_quantised_weights_are_wrong_only_beyond_what_rounding_may_do(
    quantization: str | None, mean: float, word: str
) -> None:
    """Between the limit of compiling and the ceiling nothing is known of them, nor of the arms above."""
    engine = {"mode": "VLLM_COMPILE", "cudagraph_mode": "NONE", "quantization": quantization}
    finding = judged(QUANTISED, {"compiled": {"engine": engine, **apart(mean, mean)}})
    assert words(finding)["compiled"] == word
    assert words(finding)["as_launched"] == word
    if word == "unknown":
        assert why(finding, "compiled").code == "quantised_apart"
        assert finding.remedy is None


def test_what_compiling_changes_is_judged_in_float32() -> None:
    """There rounding is small; every arm that compiles is as wrong."""
    finding = judged(changes={"compiled_float32": apart(0.2)})
    assert words(finding)["compiled"] == "wrong"
    assert why(finding, "compiled").code == "wrong_in_float32"
    assert {words(finding)[name] for name in GRAPH_ARMS} == {"wrong"}
    assert why(finding, "full").code == "as_wrong_as"
    assert why(finding, "full").because == why(finding, "compiled")


@pytest.mark.parametrize(
    ("facts", "changes"),
    [(ON_GPU, {"compiled_float32": failed()}), (ON_GPU, {"eager_float32": failed()}), (QUANTISED, {})],
)
def test_a_float32_arm_that_is_missing_is_said(facts: Any, changes: dict[str, Any]) -> None:
    """The blunt comparison still holds, and the reason says that it says less."""
    finding = judged(facts, changes)
    assert words(finding)["compiled"] == "right"
    assert why(finding, "compiled").code == "not_in_float32"


def test_a_ladder_that_lost_its_float32_arm_says_nothing() -> None:
    """It would have been tried, and may have been wrong."""
    finding = judged(arms=[arm for arm in all_arms(ON_GPU) if arm.name != "compiled_float32"])
    assert words(finding)["compiled"] == "unknown"
    assert str(why(finding, "compiled")) == "the arm compiled_float32 was not tried"


def test_a_frozen_input_is_wrong_whatever_the_answers_are() -> None:
    """The checksum of what enters a layer is the same for different prompts."""
    finding = judged(changes={"full": {"frozen": [LAYER, "model.layers.2.mlp.experts"]}})
    assert words(finding)["full"] == "wrong"
    text = f"what enters the experts of {LAYER} does not depend on the prompt (and of 1 more layers)"
    assert str(why(finding, "full")) == text


def test_numbers_that_are_not_finite_are_wrong() -> None:
    """The eager engine answers with numbers, so they can be expected."""
    finding = judged(changes={"full": {"broken": True, "distance": None}})
    assert (words(finding)["full"], why(finding, "full").code) == ("wrong", "arm_broken")


def test_where_no_engine_answers_with_numbers_nothing_is_known() -> None:
    """Weights that are made up may lead there: that is not a fault of the launch."""
    broken = {"broken": True, "distance": None}
    finding = judged(changes={arm.name: broken for arm in all_arms(ON_GPU)})
    assert set(words(finding).values()) == {"unknown"}


def test_equal_prompts_with_different_answers_are_wrong() -> None:
    """A kernel that adds noise is found, though the mean may be that of the eager engine."""
    finding = judged(changes={"full": {"noise": distance(0.03)}})
    assert (words(finding)["full"], why(finding, "full").code) == ("wrong", "arm_noisy")


def test_an_arm_that_does_not_start_costs_itself_alone() -> None:
    """All others are judged."""
    finding = judged(changes={"full": failed()})
    assert words(finding)["full"] == "not_started"
    assert {words(finding)[name] for name in ("compiled", "piecewise", "as_launched")} == {"right"}
    assert "SIGABRT" in str(why(finding, "full"))


# ---- what cannot be told


def test_arms_above_one_that_does_not_start_are_unknown() -> None:
    """They could not be compared, and the reason says with what, and why."""
    finding = judged(changes={"compiled": failed(), "full": {"distance": None}})
    assert words(finding)["full"] == "unknown"
    assert str(why(finding, "full")).startswith("it could not be compared with compiled (it does not start")


def test_an_arm_that_differs_from_a_wrong_one_is_unknown() -> None:
    """It may be right: only that they differ is known."""
    finding = judged(changes={"compiled": apart(0.9), "full": apart(0.9)})
    assert (words(finding)["compiled"], words(finding)["full"]) == ("wrong", "unknown")
    assert why(finding, "full").code == "apart_from_unsure"


def test_an_eager_engine_that_is_noisy_is_no_reference() -> None:
    """Nothing above it is right, and what agrees with it is unknown."""
    finding = judged(changes={"eager": {"noise": distance(CEILING / TIMES_NOISE + 0.001)}})
    assert words(finding)["eager"] == "unknown"
    assert "right" not in {words(finding)[name] for name in ("compiled", *GRAPH_ARMS)}


def test_an_eager_engine_that_was_compiled_is_no_reference() -> None:
    """Beside a mode of the user's, some releases compile in spite of `--enforce-eager`."""
    engine = {"mode": "VLLM_COMPILE", "cudagraph_mode": "NONE", "enforce_eager": True}
    finding = judged(changes={"eager": {"engine": engine}})
    assert (words(finding)["eager"], why(finding, "eager").code) == ("unknown", "arm_not_eager")
    assert finding.word is ArmWord.UNKNOWN


def test_an_arm_that_lost_its_neighbour_is_no_reference() -> None:
    """Only the eager arms are right by themselves: a launch without a neighbour is not, compiled or not."""
    for mode in ("VLLM_COMPILE", "NONE"):
        engine = {"mode": mode, "cudagraph_mode": "NONE"}
        lost = {"against": "", "kind": "root", "distance": None, "engine": engine}
        finding = judged(changes={"as_launched": lost})
        assert (finding.word, finding.reasons[0].code) == (ArmWord.UNKNOWN, "arm_not_compared")


@pytest.mark.parametrize(
    ("noise", "by", "word"),
    [
        (0.01, 0.15, "right"),  # the floor
        (0.01, 0.16, "wrong"),
        (0.1, 0.3, "right"),  # three times what two starts are apart
        (0.1, 0.31, "wrong"),
        (0.21, 0.02, "unknown"),  # a fault could hide in such noise
        (0.21, 0.64, "wrong"),
    ],
)
def test_noise_between_two_starts_raises_the_threshold_up_to_a_ceiling(noise: float, by: float, word: str) -> None:
    """Graphs are compared with an engine that started twice."""
    finding = judged(changes={"compiled_again": apart(noise), "full": apart(by)})
    assert words(finding)["full"] == word


@pytest.mark.parametrize(("by", "word"), [(QUANTISED_FLOOR, "right"), (QUANTISED_FLOOR + 0.01, "wrong")])
def test_graphs_of_quantised_weights_may_be_further_apart(by: float, word: str) -> None:
    """Sound engines with fp8 weights were, so that a lower threshold would be a false alarm."""
    engine = {"mode": "VLLM_COMPILE", "cudagraph_mode": "FULL", "quantization": "fp8"}
    finding = judged(QUANTISED, {"full": {"engine": engine, **apart(by)}})
    assert words(finding)["full"] == word


def test_noise_of_equal_prompts_raises_the_threshold() -> None:
    """Ten times the noise of the arm below counts."""
    noisy = {"noise": distance(0.02), **apart(0.0)}
    finding = judged(changes={"compiled": noisy, "full": apart(0.2)})
    assert limits(read(ladder(changes={"compiled": noisy})))["full"].nats == TIMES_NOISE * 0.02
    assert words(finding)["full"] == "right"


@pytest.mark.parametrize("lost", ["eager_float32", "compiled_float32"])
def test_a_launch_becomes_right_by_no_loss_of_an_arm(lost: str) -> None:
    """An arm that failed is told in the ladder. One that is not there was lost, with what it showed."""
    data = ladder(changes={"compiled_float32": apart(0.9)})
    data["arms"] = [arm for arm in data["arms"] if arm["name"] != lost]
    finding = judge_ladder(read(data))
    assert words(finding)["compiled"] == "unknown"
    assert why(finding, "compiled").code == "arm_missing"


def test_noise_cannot_hide_a_fault() -> None:
    """No noise lets a distance above the ceiling of its kind be right."""
    for noise in (0.0, 0.005, 0.1, 0.2, 0.21, 1.0, 100.0):
        for by in (SHARP_CEILING + 0.01, 0.95):
            finding = judged(changes={"compiled_again": apart(noise), "full": apart(by)})
            assert words(finding)["full"] != "right"


@pytest.mark.parametrize("again", [failed(), {"distance": None}])
def test_noise_that_was_not_measured_leaves_the_answers_unknown(again: dict[str, Any]) -> None:
    """The second start of the eager engine failed, or answered other prompts."""
    finding = judged(changes={"eager_again": again})
    assert words(finding)["compiled"] == "unknown"
    assert why(finding, "compiled").code == "arm_noise_unknown"


def test_another_launch_is_no_noise() -> None:
    """In an eager launch, an arm that differs does not raise the threshold of the others."""
    finding = judged(EAGER_LAUNCH, {"flag_off": apart(0.9)})
    assert words(finding)["flag_off"] == "wrong"
    assert finding.word is ArmWord.RIGHT


def test_arms_in_a_circle_are_unknown() -> None:
    """None of them leads to the eager engine."""
    finding = judged(changes={"compiled": {"against": "full"}})
    assert {words(finding)[name] for name in ("compiled", "full")} == {"unknown"}
    assert why(finding, "full").code == "arm_in_circle"
    assert words(judged(changes={"full": {"also": "full"}}))["full"] == "unknown"


def test_a_launch_that_was_not_tried_is_unknown() -> None:
    """The other arms say nothing of it."""
    arms = [arm for arm in all_arms(ON_GPU) if arm.name != "as_launched"]
    finding = judged(arms=arms)
    assert (finding.word, finding.remedy) == (ArmWord.UNKNOWN, None)
    assert str(finding.reasons[0]) == "the arm as_launched was not tried"


def test_a_kind_that_this_release_does_not_know_is_unknown() -> None:
    """A later release may have written it."""
    finding = judged(changes={"full": {"kind": "moon_phase"}})
    assert (words(finding)["full"], why(finding, "full").code) == ("unknown", "arm_not_compared")


# ---- what is written

WRONG_GRAPHS = {name: {"frozen": [LAYER]} for name in GRAPH_ARMS}


@pytest.mark.parametrize(
    ("changes", "arm", "config", "options"),
    [
        ({"as_launched": apart(0.9)}, "full", {"cudagraph_mode": "FULL_AND_PIECEWISE"}, ()),
        ({"as_launched": apart(0.9), "full": apart(0.9)}, "full_decode", {"cudagraph_mode": "FULL_DECODE_ONLY"}, ()),
        (
            {name: apart(0.9) for name in ("as_launched", "full", "full_decode")},
            "piecewise",
            {"cudagraph_mode": "PIECEWISE"},
            (),
        ),
        (WRONG_GRAPHS, "compiled", {"cudagraph_mode": "NONE"}, ()),
        ({"compiled": apart(0.9)}, "eager", {}, ("--enforce-eager",)),
        ({"as_launched": failed()}, "full", {"cudagraph_mode": "FULL_AND_PIECEWISE"}, ()),
    ],
)
def test_the_smallest_change_is_written(
    changes: dict[str, Any], arm: str, config: dict[str, Any], options: tuple[str, ...]
) -> None:
    """What keeps CUDA graphs comes before what gives them up, and compiling is given up last."""
    remedy = judged(changes=changes).remedy
    assert remedy is not None
    assert (remedy.arm, dict(remedy.config), remedy.options) == (arm, config, options)


def test_one_compiler_pass_comes_before_the_loss_of_graphs() -> None:
    """Of further arms, the pass at fault is the smallest change; then another backend."""
    changes = {name: {"frozen": [LAYER]} for name in (*GRAPH_ARMS, "without_fuse_norm_quant")}
    remedy = judged(changes=changes, arms=all_arms(ON_GPU)).remedy
    assert remedy is not None
    assert dict(remedy.config) == {"pass_config": {"eliminate_noops": False}}
    changes["without_eliminate_noops"] = {"frozen": [LAYER]}
    remedy = judged(changes=changes, arms=all_arms(ON_GPU)).remedy
    assert remedy is not None
    assert remedy.options == ("--moe-backend", "triton")


def test_a_setting_of_the_users_is_never_written_over() -> None:
    """If only that would help, it is named."""
    changes = {**WRONG_GRAPHS, "compiled": {"users": ["cudagraph_mode"]}, "eager": {"users": ["mode"]}}
    finding = judged(changes=changes)
    assert (finding.word, finding.remedy, finding.users) == (ArmWord.WRONG, None, ("cudagraph_mode",))


def test_an_arm_that_only_serves_to_judge_is_never_written() -> None:
    """Such as one in float32, or the same engine again."""
    changes = {arm.name: {"frozen": [LAYER]} for arm in all_arms(ON_GPU) if arm.is_setting and arm.name != "eager"}
    changes["eager"] = {"users": ["mode"]}
    assert judged(changes=changes, arms=all_arms(ON_GPU)).remedy is None


@pytest.mark.parametrize(("prefer", "field"), [("start", "ready"), ("step", "step")])
def test_what_is_preferred_changes_a_launch_that_is_right(prefer: str, field: str) -> None:
    """An arm must save a tenth of the time; one that is not right is not chosen, however fast."""
    fast = {"seconds": {"ready": 30.0, "step": 0.01, field: 1e-6}}
    slightly = {"seconds": {"ready": 28.0, "step": 0.0095}}
    assert judged(changes={"piecewise": slightly}, prefer=prefer).remedy is None
    assert judged(changes={"piecewise": fast}).remedy is None
    remedy = judged(changes={"piecewise": fast, "full": {**fast, "frozen": [LAYER]}}, prefer=prefer).remedy
    assert remedy is not None
    assert remedy.arm == "piecewise"
    assert judged(changes={"piecewise": {**fast, "users": ["cudagraph_mode"]}}, prefer=prefer).remedy is None


def test_a_launch_that_could_not_be_judged_is_left_as_it_is() -> None:
    """Nothing is written where it is not known that the launch is wrong."""
    finding = judged(changes={"as_launched": {"distance": None}}, prefer="start")
    assert (finding.word, finding.remedy, finding.users) == (ArmWord.UNKNOWN, None, ())


# ---- the flag


def test_a_flag_that_moves_the_answers_takes_a_safe_verdict_back() -> None:
    """Equal answers leave a verdict as it is."""
    assert verdict(report(ladders=[ladder(WITH_FLAG)])).word is Word.UNIFORM
    moved = verdict(report(ladders=[ladder(WITH_FLAG, {"flag_on": apart(0.9)})]))
    assert moved.word is Word.INCONCLUSIVE
    assert moved.reasons[0].code == "arms_contradict"


def test_the_flag_is_suspected_though_its_neighbour_is_unknown() -> None:
    """With the flag off the arm could not be judged; that the flag moves the answers is known all the same."""
    changes = {"compiled": failed(), "flag_off": {"distance": None}, "flag_on": apart(0.9)}
    assert verdict(report(ladders=[ladder(WITH_FLAG, changes)])).word is Word.INCONCLUSIVE


# ---- of all ladders


SECONDS = st.fixed_dictionaries({}, optional={"ready": st.floats(0.1, 900), "step": st.floats(1e-4, 1)})
DISTANCES = st.none() | st.builds(
    lambda worst, part: distance(worst, worst * part),
    st.sampled_from([0.0, 0.001, 0.019, 0.021, 0.04, 0.06, 0.11, 0.2, 0.24, 0.26, 0.5, 0.95, 1.01, 9.0]),
    st.sampled_from([0.0, 0.03, 1.0]),
)
USERS = st.sampled_from([[], [], ["cudagraph_mode"], ["mode", "--moe-backend"]])
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["ran", "ran", "ran", "failed"]),
        "noise": DISTANCES,
        "distance": DISTANCES,
        "broken": st.sampled_from([False, False, True]),
        "frozen": st.sampled_from([[], [], [LAYER]]),
        "users": USERS,
        "seconds": SECONDS,
    },
)
NAMES = sorted({arm.name for facts in ALL_FACTS for arm in all_arms(facts)})
REWIRED = st.fixed_dictionaries(
    {},
    optional={
        "against": st.sampled_from([*NAMES, "", "nobody"]),
        "also": st.sampled_from([*NAMES, "", "nobody"]),
        "kind": st.sampled_from([*Kind, "moon_phase"]),
    },
)


BY_NAME = attrgetter("name")


@st.composite
def ladders(draw: st.DrawFn) -> dict[str, Any]:
    """Ladders of any launch with arms of any outcome; some are wired otherwise than any that this tool writes."""
    facts = draw(st.sampled_from(ALL_FACTS))
    arms = all_arms(facts)
    changes: dict[str, Any] = {
        arm.name: draw(CHANGES) for arm in draw(st.lists(st.sampled_from(arms), max_size=6, unique_by=BY_NAME))
    }
    if draw(st.booleans()):
        for arm in draw(st.lists(st.sampled_from(arms), max_size=3, unique_by=BY_NAME)):
            changes[arm.name] = {**changes.get(arm.name, {}), **draw(REWIRED)}
    present = draw(st.just(arms) | st.lists(st.sampled_from(arms), unique_by=BY_NAME, max_size=len(arms)))
    return ladder(facts, changes, arms=present, prefer=draw(st.sampled_from(["", "start", "step"])))


@given(ladders())
def test_no_arm_is_right_above_one_that_is_not(data: dict[str, Any]) -> None:
    """What agrees with a wrong or unknown arm is not right, and neither is what is broken, frozen or did not run."""
    finding = judge_ladder(read(data))
    held = limits(read(data))
    for arm in data["arms"]:
        if finding.arms[arm["name"]] is not ArmWord.RIGHT:
            continue
        assert arm["status"] == "ran"
        assert not arm["broken"]
        assert not arm["frozen"] or arm["name"] in ("eager", "eager_float32")
        if arm["name"] not in ("eager", "eager_float32"):
            assert finding.arms[arm["against"]] is ArmWord.RIGHT
            assert not arm["also"] or finding.arms[arm["also"]] is not ArmWord.WRONG
            assert arm["distance"]["worst" if held[arm["name"]].by_worst else "mean"] <= CEILING


@given(ladders())
def test_what_is_written_is_right_and_not_the_users(data: dict[str, Any]) -> None:
    """A remedy is an arm that was tried, answers rightly, is a setting, and changes nothing that the user set."""
    finding = judge_ladder(read(data))
    if finding.remedy is None:
        return
    arm = next(arm for arm in data["arms"] if arm["name"] == finding.remedy.arm)
    assert finding.arms[arm["name"]] is ArmWord.RIGHT
    assert (arm["is_setting"], arm["users"]) == (True, [])
    assert (finding.remedy.config, list(finding.remedy.options)) == (arm["config"], list(arm["options"]))
    assert finding.users == ()
    if finding.word is ArmWord.RIGHT:
        assert data["prefer"]


@given(ladders(), st.randoms(use_true_random=False))
def test_the_order_of_arms_does_not_matter(data: dict[str, Any], random: Any) -> None:
    """Arms end in any order, as they run side by side."""
    shuffled = random.sample(data["arms"], len(data["arms"]))
    first, second = judge_ladder(read(data)), judge_ladder(read({**data, "arms": shuffled}))
    assert (first.word, first.arms, first.arm_reasons) == (second.word, second.arms, second.arm_reasons)


FIELDS = {name for text in OF_ARMS.values() for _, name, _, _ in string.Formatter().parse(text) if name}


@given(ladders())
def test_every_reason_is_a_sentence(data: dict[str, Any]) -> None:
    """Its template is there, and every field that it needs; none is longer than a screen."""
    finding = judge_ladder(read(data))
    assert set(finding.arms) == set(finding.arm_reasons) == {arm["name"] for arm in data["arms"]}
    for reason in (*finding.reasons, *finding.arm_reasons.values()):
        assert reason.code in OF_ARMS or reason.code == "noise_too_large"
        assert reason.depth <= 5
        text = str(reason)
        assert not any(f"unknown {field}" in text for field in FIELDS)
        assert reason.code.replace("_", " ") + " (" not in text
        assert "{" not in text
        assert len(text) < 700


@given(ladders())
def test_a_finding_is_stored_as_it_is(data: dict[str, Any]) -> None:
    """A report with a ladder is judged, and its verdict holds one finding for each ladder."""
    seen = verdict(report(ladders=[data]))
    assert list(seen.ladders) == [data["key"]]
    assert seen.ladders[data["key"]] == judge_ladder(read(data))


# ---- ladders that no worker writes


@pytest.mark.parametrize(
    "changes",
    [
        {"distance": distance(-0.5)},
        {"distance": {**distance(0.1), "mean": 0.2}},
        {"distance": {**distance(), "worst": float("inf")}},
        {"noise": distance(-1.0)},
    ],
)
def test_a_distance_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    """A negative one would pass every threshold."""
    with pytest.raises(ReportError):
        parse_report(report(ladders=[ladder(changes={"full": changes})]))


def test_a_long_chain_of_arms_is_judged() -> None:
    """The longest ladder that is read has one finding, and its reasons do not nest."""
    chain = [Arm("eager", Kind.ROOT), Arm("eager_again", Kind.NOISE, "eager")]
    chain += [Arm(f"arm_{index}", Kind.GRAPHS, f"arm_{index - 1}") for index in range(1, MOST_ARMS - 3)]
    chain.insert(2, Arm("arm_0", Kind.GRAPHS, "eager"))
    engine = {"mode": "NONE", "cudagraph_mode": "NONE"}
    changes: dict[str, Any] = {"eager": {"engine": engine}, "arm_0": apart(0.9)}
    finding = judged(changes=changes, arms=chain)
    assert words(finding)[f"arm_{MOST_ARMS - 4}"] == "wrong"
    assert why(finding, f"arm_{MOST_ARMS - 4}").depth == 2
    with pytest.raises(ReportError, match="more than 128 arms"):
        parse_report(report(ladders=[ladder(arms=[*chain, Arm("a", Kind.GRAPHS), Arm("b", Kind.GRAPHS)])]))


def test_limits_are_those_that_arms_are_held_against() -> None:
    """They are shown beside the distance, also where another reason decides."""
    held = limits(read(ladder(changes={"compiled": apart(0.9), "compiled_again": apart(0.1)})))
    assert (held["compiled"].nats, held["compiled"].by_worst) == (0.25, False)
    assert (held["full"].nats, held["full"].by_worst) == (TIMES_AGAIN * 0.1, True)
    assert "eager" not in held


def test_on_a_cpu_the_launch_is_compared_with_eager() -> None:
    """There are no CUDA graphs."""
    finding = judged(ON_CPU, {"as_launched": apart(0.9)})
    assert (finding.word, finding.remedy.arm if finding.remedy else "") == (ArmWord.WRONG, "eager")
