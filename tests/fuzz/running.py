"""Runs many cases of one target, and keeps what was found instead of stopping at the first."""

import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import StopTest, UnsatisfiedAssumption

from fuzz.limit import Hang
from fuzz.mutate import Draw

Case = Callable[[Draw, Any], str]


@dataclass
class Tally:
    """What came of the cases of one target.

    Attributes:
        words: how often each outcome came; a case that broke a promise has none.
        findings: place and message of each broken promise -> how often it was broken, and one traceback.
        seconds: wall time.
    """

    words: Counter[str] = field(default_factory=Counter)
    findings: dict[str, tuple[int, str]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def cases(self) -> int:
        """How many cases ran."""
        return sum(self.words.values()) + sum(times for times, _ in self.findings.values())


def run(case: Case, ground: Any, count: int) -> Tally:
    """Run so many cases, each drawn anew, and count what comes of them."""
    tally, begin = Tally(), time.monotonic()
    counting(tally, case, ground, count)()
    tally.seconds = time.monotonic() - begin
    return tally


def counting(tally: Tally, case: Case, ground: Any, count: int) -> Callable[[], None]:
    """A test of so many cases, which counts what comes of them and fails for none."""
    fresh = settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], print_blob=False)

    @settings(fresh, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def each(data: st.DataObject) -> None:
        _count(tally, case, data.draw, ground)

    return each


def _count(tally: Tally, case: Case, draw: Draw, ground: Any) -> None:
    try:
        tally.words[case(draw, ground)] += 1
    except (StopTest, UnsatisfiedAssumption):
        raise
    except (Exception, Hang, SystemExit) as broken:  # noqa: BLE001  whatever it is, it is what is looked for
        name = f"{_place(broken)} {type(broken).__name__}: {str(broken)[:80]}"
        times, first = tally.findings.get(name, (0, ""))
        tally.findings[name] = (times + 1, first or "".join(traceback.format_exception(broken)))


def _place(broken: BaseException) -> str:
    frames = traceback.extract_tb(broken.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"
