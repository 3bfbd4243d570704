"""What the engine of a launch showed, against what the model meant and against the verdict on its code."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from replay_samples import THREE, WRONG_LAYER, ran_as_meant, replay
from reports import report, verdict

from rules.errors import ReportError
from rules.reason import Reason, reason
from rules.report import parse_report
from rules.verdict import Verdict, Word


def seen(*runs: dict[str, Any], **changes: Any) -> Verdict:
    """The verdict on a report with these engines."""
    return verdict(report(replays=list(runs), **changes))


def test_a_report_without_engines_rests_on_order() -> None:
    """The order probe says nothing of engines."""
    observed = seen()
    assert (observed.depth, observed.replays) == ("order", {})


def test_calls_that_ran_what_was_meant_deepen_the_evidence() -> None:
    """A uniform model stays uniform, and the evidence says how many passes were replayed."""
    observed = seen(replay())
    assert (observed.word, observed.depth, observed.replays) == (Word.UNIFORM, "replay", {"flag_on": "equal"})
    assert observed.replay_reasons["flag_on"] == reason("replay_equal", passes=40, replayed=40)


def test_a_number_of_processes_that_is_no_number_is_left_out() -> None:
    """A reason that held it could be stored, and not be read again."""
    observed = seen(replay(engine={"cudagraph_mode": "NONE", "flag": True, "processes": False}))
    assert observed.replay_reasons["flag_on"] == reason("replay_equal", passes=40, replayed=40)
    assert Verdict.from_dict(observed.to_dict()) == observed


def test_passes_of_several_processes_are_told() -> None:
    """Each of them runs every pass, and all are counted."""
    observed = seen(replay(engine={"cudagraph_mode": "NONE", "flag": True, "processes": 2}))
    assert observed.replay_reasons["flag_on"] == reason("replay_equal", passes=40, replayed=40, processes=2)


def test_a_wrong_call_takes_a_safe_verdict_back() -> None:
    """Code that looks uniform and an engine that runs other layers contradict one another: nothing is proved."""
    observed = seen(replay(ran_as_meant(), WRONG_LAYER))
    assert (observed.word, observed.replays["flag_on"], observed.witness) == (Word.INCONCLUSIVE, "wrong_layer", None)
    fields = {"call": 2, "request": "one", "meant": THREE[1], "ran": THREE[2], "passes": 40, "replayed": 40}
    assert observed.reasons[0] == reason("replay_contradicts", Reason("wrong_layer", None, fields), engine="flag_on")


def test_a_wrong_call_leaves_an_unsafe_verdict_standing() -> None:
    """Where counting is known to be wrong, an engine that counts wrongly agrees."""
    skipping = {"orders": {"decode_1": [THREE[0], THREE[2]]}}
    observed = seen(replay(WRONG_LAYER), replay(name="flag_off"), **skipping)
    assert observed.word is Word.CONDITIONAL
    assert observed.replays == {"flag_on": "wrong_layer", "flag_off": "equal"}


@pytest.mark.parametrize(
    ("order", "word"),
    [((THREE[1], THREE[0]), Word.REORDERED), ((THREE[0], THREE[0]), Word.REPEATED)],
)
def test_an_order_that_only_an_engine_showed_is_judged_like_any_other(order: tuple[str, ...], word: Word) -> None:
    """The engine meets inputs that no scenario had; what the model meant there counts."""
    observed = seen(replay(ran_as_meant(order), name="flag_off"))
    assert observed.word is word
    assert observed.witness is not None
    assert observed.witness.scenario == "one of the replay probe"


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (replay(status="failed", detail="no memory", passes=[]), reason("engine_failed", detail="no memory")),
        (replay(engine={"cudagraph_mode": "NONE", "flag": False}), reason("flag_switched_off")),
        (replay(lost=7), reason("records_lost", count=7)),
        (replay(passes=[]), reason("no_call_recorded")),
        (replay(ran_as_meant(()), ran_as_meant(())), reason("no_call_recorded")),
        (replay(ran_as_meant(ran=[THREE[0], THREE[1], None])), reason("call_without_run")),
        (replay(ran_as_meant(called=[None, *THREE[1:]])), reason("call_without_run")),
        (replay(ran_as_meant(ambiguous=True)), reason("calls_overlapped")),
        (replay(ran_as_meant(replayed=False)), reason("none_replayed")),
    ],
)
def test_less_than_proof_is_unknown(run: dict[str, Any], why: Reason) -> None:
    """An engine of which something was not seen proves nothing, and takes nothing back."""
    observed = seen(run)
    assert (observed.word, observed.depth, observed.replays["flag_on"]) == (Word.UNIFORM, "order", "unknown")
    assert observed.replay_reasons["flag_on"] == why


@pytest.mark.parametrize("gap", [{"lost": 7}, {"passes": [WRONG_LAYER, ran_as_meant(ambiguous=True)]}])
def test_one_wrong_call_is_proof_whatever_else_was_missed(gap: dict[str, Any]) -> None:
    """What was not seen cannot make a wrong call right."""
    assert seen(replay(WRONG_LAYER, **gap)).replays["flag_on"] == "wrong_layer"


def test_overlapping_calls_are_not_told_apart() -> None:
    """Where two calls wait at once, which run answers which is a guess."""
    assert seen(replay({**WRONG_LAYER, "ambiguous": True})).replays["flag_on"] == "unknown"


def test_an_engine_without_graphs_needs_no_replayed_pass() -> None:
    """On a CPU nothing is captured."""
    engine = {"mode": "DYNAMO_TRACE_ONCE", "cudagraph_mode": "NONE"}
    observed = seen(replay(ran_as_meant(replayed=False), engine=engine, name="as_launched"))
    assert observed.replay_reasons["as_launched"] == reason("replay_equal", passes=40, replayed=0)


def test_an_equal_engine_makes_nothing_safe() -> None:
    """The engine ran what it was sent; a launch that is not proved stays so."""
    observed = seen(replay(), proofs=[])
    assert (observed.word, observed.depth) == (Word.INCONCLUSIVE, "replay")


def test_a_verdict_with_engines_survives_the_store() -> None:
    """What `to_dict` writes `from_dict` reads."""
    observed = seen(replay(), replay(WRONG_LAYER, name="flag_off"))
    assert Verdict.from_dict(observed.to_dict()) == observed


@pytest.mark.parametrize(
    "damage",
    [
        {"replays": [replay(), replay()]},
        {"replays": [replay(ran_as_meant(ran=[THREE[0]]))]},
        {"replays": [replay(name="flag_sideways")]},
        {"replays": [replay(ran_as_meant(count=0))]},
        {"replays": [{name: value for name, value in replay().items() if name != "lost"}]},
        {"replays": [{name: value for name, value in replay().items() if name != "passes"}]},
    ],
)
def test_a_damaged_engine_is_no_report(damage: dict[str, Any]) -> None:
    """A field whose loss would read as nothing found is required."""
    with pytest.raises(ReportError, match=r"damaged at replay|a replay is named twice"):
        parse_report(report(**damage))


PASSES = st.lists(
    st.sampled_from([ran_as_meant(), WRONG_LAYER, ran_as_meant(ambiguous=True), ran_as_meant(ran=[None, None, None])]),
    max_size=4,
)


@given(kept=PASSES, more=PASSES)
def test_fewer_passes_never_make_an_engine_equal(kept: list[dict[str, Any]], more: list[dict[str, Any]]) -> None:
    """Taking clean passes away can hide nothing: only an engine all of whose passes are right is `equal`."""
    whole = seen(replay(passes=[*kept, *more])).replays["flag_on"]
    if whole == "equal":
        assert seen(replay(passes=kept)).replays["flag_on"] == ("equal" if kept else "unknown")
    if seen(replay(passes=kept)).replays["flag_on"] == "wrong_layer":
        assert whole == "wrong_layer"
