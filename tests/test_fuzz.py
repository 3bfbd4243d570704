"""A few hundred hostile inputs for each place where foreign input enters.

`tools/evidence/make_fuzz.py` makes 10,000.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from fuzz import limit, running
from fuzz.limit import Hang, limited
from fuzz.mutate import HOSTILE, Draw, by_depth, mutated, paths
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CASES = {"config": 300, "report": 200, "row": 150, "arguments": 200, "archive": 150, "folder": 150}
CASES |= {"manifest": 150, "unit": 120, "recipe": 60, "ray": 120, "settings": 60, "tree": 300, "service": 120}
"""Target -> cases: a few seconds each."""
CHOSEN = settings(database=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("target", CASES)
def test_no_input_breaks_a_promise(target: str, tmp_path: Path) -> None:
    """No traceback, no hang, no safe verdict from damage, nothing written where it should not be."""
    module = import_module(f"fuzz.fuzz_{target}")
    prepared = module.ground(tmp_path)

    @settings(CHOSEN, max_examples=CASES[target])
    @given(st.data())
    def each(data: st.DataObject) -> None:
        module.case(data.draw, prepared)

    each()


@settings(CHOSEN, max_examples=100)
@given(st.data())
def test_damage_leaves_the_original_alone(data: st.DataObject) -> None:
    """Mutators work on a copy, so that the cases of one run do not depend on each other."""
    value = {"a": [1, {"b": HOSTILE[:4]}], "c": "text"}
    before = repr(value)
    mutated(data.draw, value, by_depth(paths(value)))
    assert repr(value) == before


def test_a_hang_is_a_finding() -> None:
    """A case that does not end is interrupted, and counted with its place."""

    def endless(_: Draw, __: None) -> str:
        with limited(0.01):
            while True:
                pass

    assert limit.SECONDS < 60
    tally = running.run(endless, None, 1)
    assert tally.cases == 1
    assert [name.partition(": ")[0].split()[1] for name in tally.findings] == [Hang.__name__]


@pytest.mark.parametrize("broken", [AssertionError, ValueError, RecursionError, SystemExit])
def test_a_broken_promise_does_not_end_a_run(broken: type[BaseException]) -> None:
    """Every exception that is not the product's own is a finding; the run goes on and counts the others."""
    seen: list[int] = []

    def third_breaks(_: Draw, __: None) -> str:
        seen.append(1)
        if len(seen) % 3 == 0:
            raise broken("no")
        return "fine"

    def drawing(case: Callable[[Draw, None], str]) -> Callable[[Draw, None], str]:
        return lambda draw, ground: (draw(st.integers(0, 10**9)) or True) and case(draw, ground)

    tally = running.run(drawing(third_breaks), None, 30)
    assert tally.cases == len(seen)
    assert sum(times for times, _ in tally.findings.values()) == len(seen) // 3
