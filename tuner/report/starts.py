"""Recorded starts as waterfalls: the phases of each, how long they took, and what came from a cache. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cache.compiled.warm_record import WarmRecord
from rules.arms import LAUNCH
from rules.report import ArmRun, Ladder, Report
from tuner.compile_cache.difference import Difference, Effect, known_differences
from tuner.text import counted
from tuner.verdicts.evidence import launch_text

PHASES = {
    "import": "import vLLM",
    "weights": "build the model and load weights",
    "compile": "compile",
    "profile": "rest of the profile run",
    "kv_cache": "make the KV cache",
    "autotune": "FlashInfer's autotune",
    "kernels": "rest of the warm-up of kernels",
    "graphs": "capture CUDA graphs",
    "warm_up": "rest of the warm-up",
}
"""Phase of an engine that `tuner tune` started -> in words, in the order in which they run."""
NO_PHASE = frozenset({"ready", "step", "step_of_11"})
"""Times of an engine that are not phases of its start."""
HITS = {True: "everything came from the cache", False: "something was compiled again", None: "its log does not say"}
"""What a second start did with the cache -> in words."""
LONGEST_S = 1e7
"""Seconds; no start takes a third of a year."""
MOST_FACTORS = 12
"""Factors of a difference that are shown."""


@dataclass(frozen=True)
class Bar:
    """One phase.

    Attributes:
        name: in words.
        begin: seconds after the begin of the start.
        seconds: how long it took.
        note: what is to be said of it; may be empty.
        inner: it lies within a phase that is shown as well.
    """

    name: str
    begin: float
    seconds: float
    note: str = ""
    inner: bool = False


@dataclass(frozen=True)
class Waterfall:
    """One start.

    Attributes:
        title: which start it is.
        bars: its phases, in the order in which they are shown.
        total: seconds of the whole.
        notes: sentences about it.
    """

    title: str
    bars: tuple[Bar, ...]
    total: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Factor:
    """One factor in which the caches of two warm-ups differ.

    Attributes:
        effect: what the difference does, as a word of `Effect`.
        name: which.
        fix: what to do about it; may be empty.
    """

    effect: str
    name: str
    fix: str


@dataclass(frozen=True)
class WarmView:
    """One warm-up of a compile cache.

    Attributes:
        title: which.
        waterfall: its two starts.
        other: the warm-up before it, with which its factors are compared; empty without one.
        factors: what differs; None if that is not known.
        more: how many factors are not shown.
    """

    title: str
    waterfall: Waterfall
    other: str
    factors: tuple[Factor, ...] | None
    more: int


def engine_starts(report: Report) -> tuple[Waterfall, ...]:
    """The starts of engines that `tuner tune` timed, each with empty caches; those of the launches themselves first."""
    pairs: list[tuple[Ladder, ArmRun]] = []
    for ladder in report.ladders:
        pairs += [(ladder, arm) for arm in ladder.arms if arm.status == "ran" and arm.seconds]
    pairs.sort(key=lambda pair: pair[1].name != LAUNCH)
    return tuple(_engine_start(ladder, arm) for ladder, arm in pairs)


def _engine_start(ladder: Ladder, arm: ArmRun) -> Waterfall:
    times = {name: value for name, value in arm.seconds.items() if is_duration(value)}
    bars: list[Bar] = []
    begin = 0.0
    for name in _in_order(times):
        bars.append(Bar(PHASES.get(name, name), begin, times[name]))
        begin += times[name]
    whole = times.get("ready", 0.0) + times.get("import", 0.0)
    if whole > begin:
        bars.append(Bar("not timed" if bars else "start", begin, whole - begin))
    title = f"{arm.name}, {launch_text(ladder)}, {ladder.gpu or ladder.platform}, cold"
    left_out = len(arm.seconds) - len(times)
    notes = (f"{counted(left_out, 'number')} of it cannot be seconds of a start.",) if left_out else ()
    return Waterfall(title, tuple(bars), max(begin, whole), notes)


def is_duration(seconds: float | None) -> bool:
    """Whether a number can be the seconds of a start; records and bundles are written by others."""
    return seconds is not None and 0 <= seconds <= LONGEST_S


def _in_order(seconds: Mapping[str, float]) -> list[str]:
    """The phases of a start: those that are known in their order, then others."""
    in_order = [name for name in PHASES if name in seconds]
    return in_order + [name for name in seconds if name not in PHASES and name not in NO_PHASE]


def warm_views(records: Sequence[WarmRecord], key: Mapping[str, object]) -> tuple[WarmView, ...]:
    """The warm-ups of an architecture in an environment, newest first.

    Args:
        records: those that lie in a cache root, newest first.
        key: the key of a verdict.
    """
    own = [record for record in records if _fits(record, key)]
    return tuple(_warm_view(record, own[index + 1 :]) for index, record in enumerate(own))


def _fits(record: WarmRecord, key: Mapping[str, object]) -> bool:
    pairs = [(record.architecture, "architecture"), (record.vllm, "vllm"), (record.torch, "torch")]
    return all(value == key.get(name) for value, name in [*pairs, (record.platform, "platform")])


def _warm_view(record: WarmRecord, earlier: Sequence[WarmRecord]) -> WarmView:
    starts = [("first start, empty cache", record.cold_seconds, "")]
    starts.append(("second start", record.warm_seconds, HITS[record.hit]))
    bars = tuple(Bar(name, 0.0, seconds, note) for name, seconds, note in starts if seconds and is_duration(seconds))
    title = f"{record.model}, {record.made_at}"
    note = (f"vLLM's log of the second start: {record.proof}.",) if record.proof else ()
    waterfall = Waterfall(title, bars, max((bar.seconds for bar in bars), default=0.0), note)
    before = next(iter(earlier), None)
    if before is None:
        return WarmView(title, waterfall, "", None, 0)
    factors = _factors(known_differences(before.factors, record.factors) if record.factors else None)
    first_factors = factors if factors is None else factors[:MOST_FACTORS]
    more = 0 if factors is None or first_factors is None else len(factors) - len(first_factors)
    return WarmView(title, waterfall, f"{before.model}, {before.made_at}", first_factors, more)


def _factors(differences: Iterable[Difference] | None) -> tuple[Factor, ...] | None:
    if differences is None:
        return None
    counting = [difference for difference in differences if difference.effect is not Effect.NONE]
    return tuple(Factor(str(each.effect), f"{each.kind} {each.name}", each.fix) for each in counting)
