"""Which batch sizes are derived from the guards of a trace; guards are plain functions here, and nothing is traced."""

import json
import subprocess
import sys

import pytest

from tuner.probe.runner import WORKER
from tuner.verdicts.identity import SHARED_WORKER

SCRIPT = """
import json, sys, time

sys.path[:0] = sys.argv[1].split(":")
from moe_probe_worker import guards
from moe_probe_worker.guards import derived_sizes, other_sizes

def holds(text):
    return guards.guard_of(text, 'tokens')

print(json.dumps(eval(sys.argv[2])))
"""


def evaluated(expression: str) -> object:
    """The value of an expression over the worker's functions, in a process of its own: nobody imports the worker."""
    command = [sys.executable, "-c", SCRIPT, f"{WORKER.parent}:{SHARED_WORKER.parent}", expression]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        (["tokens != 300"], [300]),
        (["tokens <= 1500"], [1501, 2048]),
        (["31 * tokens % 1009 != 219"], [300, 1309]),
        (["tokens > 1000", "tokens % 97 != 3"], [1, 1000, 1070, 1167, 1264, 1361]),
        (["tokens % 2 == 1"], [2, 4, 6, 8]),
        (["tokens <= 2048"], []),
        ([], []),
    ],
)
def test_a_guard_is_solved_for_the_sizes_that_break_it(texts: list[str], sizes: list[int]) -> None:
    """The ends of each run of such sizes, at most four a guard, and only sizes that pass the guards before it."""
    assert evaluated(f"other_sizes([holds(text) for text in {texts}])") == sizes


@pytest.mark.parametrize("text", ["tokens // 0 == 1", "unheard_of(tokens) == 2"])
def test_a_guard_that_cannot_be_computed_gives_no_size(text: str) -> None:
    """A formula of a release that is not known costs its own sizes alone."""
    assert evaluated(f"other_sizes([holds({text!r}), holds('tokens != 300')])") == [300]


def test_a_comparison_behind_another_is_found_by_a_second_trace() -> None:
    """Only a batch of more than 1000 tokens comes to the second comparison."""
    traces = (
        "lambda size: [holds('tokens <= 1000')] if size <= 1000 else [holds('tokens > 1000'), holds('tokens != 1234')]"
    )
    assert evaluated(f"derived_sizes({traces}, {{1, 1000, 2048}})") == [1001, 1234]


def test_sizes_that_are_run_anyway_are_not_derived() -> None:
    """Neither those of other scenarios nor that of the first trace, and no size twice."""
    traces = "lambda size: [holds('tokens != 17'), holds('tokens != 64'), holds('tokens != 65')]"
    assert evaluated(f"derived_sizes({traces}, {{64}})") == [65]


def test_there_are_at_most_twelve_sizes() -> None:
    """However many guards there are."""
    many = "lambda size: [holds(f'tokens != {100 + 2 * number}') for number in range(40)]"
    assert evaluated(f"derived_sizes({many}, set())") == [100 + 2 * number for number in range(12)]


def test_traces_end_when_their_time_is_up() -> None:
    """Two traces are made however long they take, and none after the limit."""
    slow = "(setattr(guards, 'LIMIT_S', 0.0), made := [], derived_sizes(lambda size: made.append(size) or "
    slow += "[holds(f'tokens != {size + 1}')], set()), made)"
    _, _, sizes, made = evaluated(slow)  # type: ignore[misc]
    assert (sizes, made) == ([18, 19], [17, 18])
