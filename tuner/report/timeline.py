"""The MoE calls of a pass beside those that were expected, call by call. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress, zip_longest

from rules.judge import is_prefix
from rules.report import Replay, Report, Scenario
from rules.verdict import WRONG_LAYER, Verdict, Witness
from tuner.verdicts.text import first_difference

MOST_CALLS = 256
"""Calls of a pass that are shown."""
BEFORE = 16
"""Calls in front of the first wrong one that are shown at least, where not all fit."""
LONGEST_LABEL = 7
"""Characters of a layer's label."""
_WORDS = re.compile(r"[^._]+")
COUNTED = "counted"
"""The way of observing that hides the order which the model meant."""


class CallState(StrEnum):
    """What a call is beside the expected one."""

    RIGHT = "right"
    """The expected layer."""
    WRONG = "wrong"
    """Another one."""
    ABSENT = "absent"
    """The pass ended before it."""


@dataclass(frozen=True)
class Call:
    """One call of a pass.

    Attributes:
        number: counted from 1.
        expected: name of the layer that was expected; empty beyond the last one.
        actual: name of the layer that was called; empty where the pass had ended.
        expected_label: its name in short, for a narrow cell; `-` if there is none.
        actual_label: `actual` in short.
        state: what it is.
    """

    number: int
    expected: str
    actual: str
    expected_label: str
    actual_label: str
    state: CallState


@dataclass(frozen=True)
class Timeline:
    """A pass, call by call.

    Attributes:
        title: what pass it is, without a full stop.
        upper: what is expected, such as `registered`.
        lower: what the names below are, such as `executed`.
        calls: those that are shown, in order.
        first_wrong: number of the first wrong call; None if all are right.
        skipped: how many calls stand in front of those that are shown.
        more: how many stand behind them.
    """

    title: str
    upper: str
    lower: str
    calls: tuple[Call, ...]
    first_wrong: int | None
    skipped: int
    more: int

    @property
    def wrong_call(self) -> Call | None:
        """The first wrong call; None if all are right."""
        return next((call for call in self.calls if call.number == self.first_wrong), None)


def timelines(report: Report, verdict: Verdict) -> tuple[Timeline, ...]:
    """The pass that proves the verdict wrong, a right pass beside it, and wrong passes of watched engines."""
    passes: list[Timeline] = []
    if verdict.witness is not None:
        passes.append(_wrong_pass(verdict.witness))
    right = _right_pass(report, verdict.witness)
    if right is not None:
        passes.append(right)
    for replay in report.replays:
        if verdict.replays.get(replay.name) == WRONG_LAYER:
            passes += _wrong_replay(replay)
    return tuple(passes)


def missing_timeline(report: Report, verdict: Verdict) -> str:
    """Why a wrong or a right pass is not shown, as sentences; empty if both are, or if all is right."""
    if not report.registered and verdict.witness is None:
        return "The model registers no MoE layer, so there is no call to show."
    if report.observation_method == COUNTED:
        return "MoE calls were resolved by the counter during the probe. That hides the order that was meant."
    if _right_pass(report, verdict.witness) is None:
        return "No pass in the registered order was seen."
    return ""


def _wrong_pass(witness: Witness) -> Timeline:
    title = f"Wrong pass: scenario {witness.scenario}"
    return timeline(title, "registered", "executed", witness.registered, witness.executed)


def _right_pass(report: Report, witness: Witness | None) -> Timeline | None:
    """The longest pass in the registered order, of another scenario than the wrong one; None if none was seen."""
    if report.observation_method == COUNTED:
        return None
    wrong = witness.scenario if witness else ""
    name = ""
    longest: tuple[str, ...] = ()
    for scenario in report.scenarios:
        if scenario.name == wrong:
            continue
        for order in _right_orders(scenario, report):
            if len(order) > len(longest):
                name, longest = scenario.name, order
    if not longest:
        return None
    expected = report.registered[: len(longest)]
    return timeline(f"Right pass: scenario {name}", "registered", "executed", expected, longest)


def _right_orders(scenario: Scenario, report: Report) -> Iterable[tuple[str, ...]]:
    return (order for order in scenario.passes if order and is_prefix(order, report.registered))


def _wrong_replay(replay: Replay) -> list[Timeline]:
    """The first pass of an engine in which another layer ran than was meant."""
    for run in replay.passes:
        pairs = list(zip(run.called, run.ran, strict=True))
        if not run.ambiguous and any(called and ran and called != ran for called, ran in pairs):
            called, ran = [name or "" for name, _ in pairs], [name or "" for _, name in pairs]
            title = f"Wrong pass of the engine {replay.name}: request {run.request}"
            return [timeline(title, "meant", "ran", called, ran)]
    return []


def timeline(title: str, upper: str, lower: str, expected: Sequence[str], actual: Sequence[str]) -> Timeline:
    """A pass beside what was expected; of a long one the part around the first wrong call."""
    labels = short_labels([*expected, *actual])
    pairs = list(zip_longest(expected, actual, fillvalue=""))
    wrong = first_difference(expected, actual)
    first_wrong = wrong if wrong < len(actual) else None
    skipped = 0 if first_wrong is None else max(0, first_wrong + BEFORE - MOST_CALLS)
    calls = [
        Call(number, name, ran, labels.get(name, "-"), labels.get(ran, "-"), _state(name, ran))
        for number, (name, ran) in enumerate(pairs, 1)
    ]
    drawn = calls[skipped : skipped + MOST_CALLS]
    number = None if first_wrong is None else first_wrong + 1
    return Timeline(title, upper, lower, tuple(drawn), number, skipped, len(calls) - skipped - len(drawn))


def _state(expected: str, actual: str) -> CallState:
    if not actual:
        return CallState.ABSENT
    return CallState.RIGHT if expected == actual else CallState.WRONG


def short_labels(names: Iterable[str]) -> dict[str, str]:
    """Each name in short: the words in which the names differ, those of letters cut as far as cells need it.

    Where no cut tells all names apart, they are numbered in the order given.
    """
    words = {name: _WORDS.findall(name) or [name] for name in names if name}
    telling = _telling(words)
    for letters in (LONGEST_LABEL, 3, 2, 1):
        labels = {name: _label(own, letters) for name, own in telling.items()}
        fits = max(map(len, labels.values()), default=0) <= LONGEST_LABEL
        if fits and len(set(labels.values())) == len(labels):
            return labels
    return {name: f"#{number}" for number, name in enumerate(telling, 1)}


def _telling(words: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Of each name the words in which it differs from others; the last word of a name that stands alone."""
    if len(words) == 1:
        return {name: own[-1:] for name, own in words.items()}
    if len(set(map(len, words.values()))) == 1:
        columns = [len(set(column)) > 1 for column in zip(*words.values(), strict=True)]
        return {name: list(compress(own, columns)) for name, own in words.items()}
    front = _shared(list(words.values()))
    end = _shared([own[front:][::-1] for own in words.values()])
    return {name: own[front : len(own) - end] or own[-1:] for name, own in words.items()}


def _shared(lists: Sequence[Sequence[str]]) -> int:
    """How many leading words all lists share."""
    count = 0
    for column in zip(*lists, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count


def _label(words: Sequence[str], letters: int) -> str:
    """Words with a point between them; each that is not a number is cut to so many letters."""
    return ".".join(word if word.isdigit() else word[:letters] for word in words)
