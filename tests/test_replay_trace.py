"""From records of the device to passes: the worker's own file, run apart, since nobody imports a worker."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "tuner/engines/worker/vllm_launch_worker/trace.py"
CALLED, RAN = 1, 2
NAMES = ["a", "b", "c"]


@pytest.fixture
def trace() -> Any:
    """The worker's file; it imports nothing."""
    return SimpleNamespace(**runpy.run_path(str(FILE)))


def records(*events: tuple[int, int], number: int = 1, tokens: int = 8) -> list[list[int]]:
    """Records of one pass: (kind, layer) each."""
    return [[kind, layer, number, tokens] for kind, layer in events]


def test_each_call_has_the_run_that_follows_it(trace: Any) -> None:
    """The layer that was meant, and the one that ran."""
    passes = trace.passes(records((CALLED, 1), (RAN, 0), (CALLED, 2), (RAN, 2)), NAMES)
    assert passes == {1: {"called": ["b", "c"], "ran": ["a", "c"], "tokens": 8, "ambiguous": False}}


def test_passes_are_told_apart_by_number(trace: Any) -> None:
    """Two passes of one layer, the second larger."""
    passes = trace.passes(
        [*records((CALLED, 0), (RAN, 0)), *records((CALLED, 0), (RAN, 0), number=2, tokens=64)], NAMES
    )
    assert [(number, one["called"], one["tokens"]) for number, one in passes.items()] == [(1, ["a"], 8), (2, ["a"], 64)]


def test_one_entry_point_that_calls_another_is_one_run(trace: Any) -> None:
    """A chunked implementation enters the plain one, and both are stamped."""
    passes = trace.passes(records((CALLED, 0), (RAN, 0), (RAN, 0), (CALLED, 1), (RAN, 1)), NAMES)
    assert passes[1]["ran"] == ["a", "b"]


def test_a_run_that_nobody_called_has_no_call(trace: Any) -> None:
    """A fused path that goes round the layer's forward."""
    passes = trace.passes(records((CALLED, 0), (RAN, 0), (RAN, 1)), NAMES)
    assert (passes[1]["called"], passes[1]["ran"]) == (["a", None], ["a", "b"])


def test_a_call_that_nothing_answered_has_no_run(trace: Any) -> None:
    """As when vLLM's counter ran past its list."""
    assert trace.passes(records((CALLED, 0)), NAMES)[1]["ran"] == [None]  # fmt: skip


def test_calls_that_overlap_are_marked(trace: Any) -> None:
    """Two calls wait at once: which run answers which is not told."""
    passes = trace.passes(records((CALLED, 0), (CALLED, 1), (RAN, 1), (RAN, 0)), NAMES)
    assert passes[1]["ambiguous"]


def test_equal_passes_are_kept_once(trace: Any) -> None:
    """With how often they ran, the largest batch, and apart from those that were not replayed."""
    one = {"called": ["a"], "ran": ["a"], "ambiguous": False, "replayed": True, "tokens": 8, "request": "one"}
    found = trace.group([one, {**one, "tokens": 64, "request": "many"}, {**one, "replayed": False}])
    assert [(group["count"], group["tokens"], group["request"], group["replayed"]) for group in found] == [
        (2, 64, "one", True),
        (1, 8, "one", False),
    ]
