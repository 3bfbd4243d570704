"""The program that writes the page on arms: what it calls as it should be, and that the page is its own."""

import copy
import json
from typing import Any

import pytest
from ladder_samples import distance, judged, ladder, read

from tools.evidence.make_ladder import (
    FAULTS,
    HEALED_BY,
    NUMBERS,
    OF_VLLM,
    PLAIN,
    STORY,
    TWINS,
    WHAT,
    is_right,
    page,
    run_of,
)
from tools.evidence.make_ladder_story import contradictions
from tools.evidence.page import PAGES
from tuner.verdicts.ladder_part import ladder_part

STORY_TOLD = {
    "fault": "compiled",
    "vllm": "0.32.0",
    "device": "cpu",
    "steps": [
        {"title": title, "command": "tuner", "output": output, "code": code, "expected": code}
        for title, output, code in (
            ("A server without the fault", "a", 0),
            ("The same server with the fault", "b", 0),
            ("tune", "table", 5),
            ("serve", "a", 0),
        )
    ],
}
GRAPH_ARMS = ("piecewise", "full_decode", "full", "as_launched")


def document(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """What `tuner tune --json` prints of a ladder."""
    return {
        "model": {"name": "models/Qwen", "architecture": "Qwen3MoeForCausalLM"},
        "environment": {"vllm": "0.26.0", "torch": "2.11.0"},
        "ladder": ladder_part(read(ladder(changes=changes)), judged(changes=changes)),
    }


FROZEN = {name: {"frozen": ["layers.1"]} for name in GRAPH_ARMS}


@pytest.mark.parametrize(
    ("fault", "changes", "expected"),
    [
        (PLAIN, {}, True),
        (PLAIN, FROZEN, False),
        ("copied", {}, True),
        ("copied", FROZEN, False),
        ("frozen", FROZEN, True),
        ("frozen", {}, False),
        ("frozen", {"as_launched": {"frozen": ["layers.1"]}}, False),  # found, and healed by what is not sound
        ("noisy", {"as_launched": {"distance": None}}, True),
    ],
)
def test_a_run_is_as_it_should_be(fault: str, changes: dict[str, Any], expected: bool) -> None:
    """A fault is found with what heals it, and a sound launch is left alone."""
    assert is_right(run_of(fault, document(changes))) is expected


def test_a_run_shows_what_was_held_against_the_limit() -> None:
    """The mean where engines round otherwise."""
    run = run_of(PLAIN, document({"compiled": {"distance": distance(0.9, 0.1)}}))
    arm = next(arm for arm in run["arms"] if arm["name"] == "compiled")
    assert (arm["nats"], arm["limit"], arm["counts"], arm["word"]) == (0.1, 0.25, "mean", "right")


def test_a_run_that_is_not_as_it_should_be_shows() -> None:
    """In bold, so that nobody passes it by."""
    runs = [run_of("frozen", document()), run_of(PLAIN, document({"full": {"frozen": ["layers.1"]}}))]
    text = "\n".join(page(runs, STORY_TOLD))
    assert "| **no** |" in text
    assert "Arms that are called wrong: `full` of Qwen." in text


def test_every_planted_fault_is_described_and_has_a_twin() -> None:
    """Else a run of it could not be shown."""
    assert set(WHAT) == set(FAULTS)
    assert set(TWINS.values()) <= {PLAIN, *FAULTS}
    assert set(FAULTS) == set(TWINS) | (set(TWINS.values()) - {PLAIN})
    assert set(HEALED_BY) == set(TWINS) - {"noisy"}


def test_the_page_is_what_the_program_writes() -> None:
    """Of the numbers beside it, and every run in them is as it should be: no sound launch is called wrong.

    A launch with a fault of vLLM is called wrong, and the page says which fault.
    """
    runs = json.loads(NUMBERS.read_text(encoding="utf-8"))
    assert [run["fault"] for run in runs if run["fault"] and not is_right(run)] == []
    sound = [run for run in runs if not run["fault"] and run["model"] not in OF_VLLM]
    assert {run["word"] for run in sound} <= {"right", "unknown"}
    assert [run["model"] for run in sound if run["remedy"] is not None] == []
    faulty = [run for run in runs if not run["fault"] and run["model"] in OF_VLLM]
    assert [(run["word"], run["remedy"]["arm"]) for run in faulty] == [("wrong", "piecewise")]
    story = json.loads(STORY.read_text(encoding="utf-8"))
    written = (PAGES / "ladder.md").read_text(encoding="utf-8")
    assert written == "\n\n".join(page(copy.deepcopy(runs), story)) + "\n"


def test_the_story_of_a_fault_holds_together() -> None:
    """Each command ended as it should, the fault moved the answer, and the tuned server answers as the sound one."""
    assert contradictions(json.loads(STORY.read_text(encoding="utf-8"))["steps"]) == []


@pytest.mark.parametrize(
    ("title", "changes", "said"),
    [
        ("tune", {"code": 0}, "tune: exit code 0"),
        ("serve", {"output": "b"}, "the tuned server does not answer as the sound one"),
        ("The same server with the fault", {"output": "a"}, "the fault does not move the answer"),
    ],
)
def test_parts_that_tell_different_stories_are_named(title: str, changes: dict[str, Any], said: str) -> None:
    """One that does not fit the others is enough."""
    steps = [{**step, **changes} if step["title"] == title else step for step in STORY_TOLD["steps"]]
    assert contradictions(STORY_TOLD["steps"]) == []
    assert contradictions(steps) == [said]
