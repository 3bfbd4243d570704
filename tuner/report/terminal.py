"""Reports as lines for a terminal of 80 columns: each line in parts, each part with a tone for its colour. Pure."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from tuner.ladder.text import texts_rows
from tuner.report.content import VerdictReport
from tuner.report.overview import Cell, Overview
from tuner.report.starts import Waterfall
from tuner.report.timeline import Call, CallState, Timeline
from tuner.text import counted, terminal_width, visible

Part = tuple[str, str]
"""A text and its tone: `good`, `bad`, `open`, `soft`, `strong`, or nothing."""
Line = tuple[Part, ...]
WIDTH, NARROWEST = 80, 30
"""Columns of a line where the terminal says nothing, and those below which prose is not folded."""
LABEL = 12
"""Columns of what stands in front of a row of calls."""
STATE = 11
"""Columns of the state of a condition."""
BAR, PHASE = 34, 34
"""Columns of a bar, and of the phase in front of it."""
STATES = {CallState.RIGHT: "good", CallState.WRONG: "bad", CallState.ABSENT: "soft"}


def verdict_lines(report: VerdictReport) -> Iterator[Line]:
    """The decision, the timelines, the conditions, and what is not shown."""
    yield from _prose(_title(report), "strong")
    yield ((f"key {report.key[:12]}, probed {visible(report.probed_at)}", "soft"),)
    yield from _prose(report.decision.sentence, report.decision.tone)
    for text in report.decision.holds:
        yield from _prose(text)
    for name, value in report.decision.while_same:
        yield from _prose(f"{name}: {value}", "soft", indent=2)
    for line in report.timelines:
        yield ()
        yield from timeline_lines(line)
    if report.no_timeline:
        yield from _prose(report.no_timeline)
    yield from _conditions(report)
    yield from _engines(report)
    yield ()
    yield (("Not shown", "strong"),)
    for text in report.claims.open:
        yield from _prose(text, indent=2)


def _title(report: VerdictReport) -> str:
    """The model and its architecture, which stands for the name of a model that is not stored."""
    return report.model if report.model == report.architecture else f"{report.model} ({report.architecture})"


def _conditions(report: VerdictReport) -> Iterator[Line]:
    tones = {"met": "good", "not met": "bad", "open": "open"}
    for launch in report.launches:
        yield ()
        yield from _prose(f"Proof of {launch.launch}: {launch.word}", "strong")
        for condition in launch.conditions:
            first, *more = wrap(f"{condition.number}. {condition.text}", _width() - STATE)
            yield ((f"  {condition.state:<{STATE - 2}}", tones[condition.state]), (first, ""))
            yield from (((" " * STATE + text, ""),) for text in more)
            for fault in condition.faults:
                yield from _prose(fault.text, indent=STATE + 3)


def _engines(report: VerdictReport) -> Iterator[Line]:
    """The engines that were compared for each launch, with their reasons, and two texts where answers part."""
    for ladder in report.ladders:
        yield ()
        yield from _prose(f"Engines of {ladder.launch}: {ladder.word}", "strong")
        for arm in ladder.arms:
            yield ((f"  {arm.word:<{STATE}}", arm.tone), (visible(arm.name)[: WIDTH - STATE - 2], ""))
            if arm.tone != "good":
                yield from _prose(arm.reason, "soft", indent=STATE + 2)
            if arm.texts is not None and arm.tone != "good":
                yield from (((row, ""),) for row in texts_rows(arm.name, arm.against, arm.texts))
        for text in ladder.changed:
            yield from _prose(f"otherwise than in the launch: {text}", "soft", indent=2)


def timeline_lines(line: Timeline) -> Iterator[Line]:
    """The calls of a pass, as many in a row as fit; the first wrong one is marked."""
    yield from _prose(line.title, "strong")
    wrong = line.wrong_call
    if wrong is None:
        yield (("every call is right", "good"),)
    else:
        expected, actual = wrong.expected or "no layer", wrong.actual
        yield from _prose(
            f"call {wrong.number} is the first wrong one: {expected} is {line.upper}, {actual} {line.lower}", "bad"
        )
    if line.skipped:
        yield ((f"  {counted(line.skipped, 'call')} before these, all right", "soft"),)
    labels = [str(call.number) for call in line.calls]
    for call in line.calls:
        labels += [visible(call.expected_label), visible(call.actual_label)]
    width = 1 + max(map(len, labels), default=1)
    count = max(1, (_width() - LABEL) // width)
    for begin in range(0, len(line.calls), count):
        yield from _row(line, line.calls[begin : begin + count], width)
    if line.more:
        yield ((f"  {counted(line.more, 'more call')}", "soft"),)


def _row(line: Timeline, calls: Sequence[Call], width: int) -> Iterator[Line]:
    """Numbers, expected layers, actual layers, and a mark below what is wrong."""
    yield ((f"{'call':<{LABEL}}", "soft"), *((f"{call.number:>{width}}", "soft") for call in calls))
    yield (
        (f"{line.upper:<{LABEL}}", ""),
        *((f"{visible(call.expected_label):>{width}}", "") for call in calls),
    )
    yield (
        (f"{line.lower:<{LABEL}}", ""),
        *((f"{visible(call.actual_label):>{width}}", STATES[call.state]) for call in calls),
    )
    if any(call.state is CallState.WRONG for call in calls):
        yield ((" " * LABEL, ""), *((f"{_mark(call, line):>{width}}", "bad") for call in calls))


def _mark(call: Call, line: Timeline) -> str:
    if call.number == line.first_wrong:
        return "^"
    return "x" if call.state is CallState.WRONG else ""


def overview_lines(table: Overview) -> Iterator[Line]:
    """One line for each architecture and release."""
    for name, cells in table.rows:
        yield from _prose(name, "strong")
        for release, cell in zip(table.releases, cells, strict=True):
            if cell is not None:
                where = visible(f"{release.vllm} {release.platform}")
                yield ((f"  {where[:20]:<20}", ""), (f"{cell.word:<13}", cell.tone), (_about(cell), "soft"))


def _about(cell: Cell) -> str:
    more = f", {cell.others} more" if cell.others else ""
    if cell.differ:
        more += " that differ"
    return f"{counted(cell.days, 'day')} old, {cell.key[:12]}{more}"[: WIDTH - 35]


def waterfall_lines(starts: Sequence[Waterfall]) -> Iterator[Line]:
    """Each start with a bar for each phase; all starts have one scale."""
    scale = max((start.total for start in starts), default=0.0) or 1.0
    for start in starts:
        yield from _prose(start.title, "strong")
        for bar in start.bars:
            begin = min(round(BAR * bar.begin / scale), BAR - 1)
            length = max(1, min(round(BAR * bar.seconds / scale), BAR - begin))
            name = visible(f"  {bar.name}" if bar.inner else bar.name)
            drawn = " " * begin + ("░" if bar.inner else "█") * length
            yield ((f"{name[: PHASE - 1]:<{PHASE}}", ""), (f"{drawn:<{BAR}}", "bar"), (f"{bar.seconds:>9.1f} s", ""))
            if bar.note:
                yield from _prose(bar.note, "soft", indent=4)
        for note in start.notes:
            yield from _prose(note, "soft")
        yield ()


def _width() -> int:
    """Characters of a line of prose: the terminal's, or those of a usual one where the output is not a terminal."""
    return max(terminal_width() or WIDTH, NARROWEST)


def _prose(text: str, tone: str = "", indent: int = 0) -> Iterator[Line]:
    """A text in lines of the terminal's width."""
    front = " " * indent
    folded = wrap(visible(text), _width(), initial_indent=front, subsequent_indent=front, break_on_hyphens=False)
    yield from (((line, tone),) for line in folded)
