"""The starts in a server's log, as waterfalls. Pure."""

from collections.abc import Sequence

from tuner.report.starts import Bar, Waterfall
from tuner.server_log.phases import LoggedStart, Phase
from tuner.text import counted

SLACK_S = 1.0
"""Seconds by which stamps of whole seconds may be wrong."""
NO_TIMES = "The lines state no times, so phases are drawn one behind the other."
NO_FIT = "The times of the lines do not fit the seconds that they state, so phases are drawn one behind the other."


def log_starts(starts: Sequence[LoggedStart]) -> list[Waterfall]:
    """One waterfall for each start; of processes that did the same the slowest counts."""
    return [_waterfall(start, number) for number, start in enumerate(starts, 1)]


def log_notes(starts: Sequence[LoggedStart], *, cut: bool) -> list[str]:
    """What is to be said of the whole log."""
    notes: list[str] = []
    if not starts:
        notes.append("No line of this log states how long a phase of a start took. `tuner confirm` reads the rest.")
    if cut or any(start.cut for start in starts):
        notes.append("The log has more starts or phases than are shown.")
    return notes


def _waterfall(start: LoggedStart, number: int) -> Waterfall:
    phases = _slowest(start.phases)
    begin = _begin(start)
    fits = begin is not None and all(_fits(phase, begin) for phase, _ in phases)
    bars = _timed(start, phases, begin) if fits and begin is not None else _untimed(phases)
    notes: list[str] = []
    if not fits:
        notes.append(NO_TIMES if begin is None else NO_FIT)
    total = max((bar.begin + bar.seconds for bar in bars), default=0.0)
    if fits and start.listening is not None:
        seconds = start.listening - (begin or 0.0)
        notes.append(f"From its first line to the one that says it listens: {seconds:.0f} s.")
    return Waterfall(_title(start, number), tuple(bars), total, (*_cache_notes(start), *notes))


def _title(start: LoggedStart, number: int) -> str:
    words = [f"start {number}"]
    words += [start.source] if start.source else []
    words += [start.model] if start.model else []
    words += [f"vLLM {start.vllm}"] if start.vllm else []
    return ", ".join([*words, f"from line {start.first}"])


def _cache_notes(start: LoggedStart) -> list[str]:
    if not start.loaded and not start.compiled:
        return ["No line says whether compiled graphs came from a cache."]
    return [f"Compile cache: {counted(start.loaded, 'graph')} loaded, {start.compiled} compiled."]


def _slowest(phases: Sequence[Phase]) -> list[tuple[Phase, int]]:
    """Of each phase the slowest process, and how many processes went through it.

    A process that goes through a phase twice has both.
    """
    groups: dict[tuple[str, int], list[Phase]] = {}
    times: dict[tuple[str, str], int] = {}
    for phase in phases:
        turn = times.get((phase.name, phase.process), 0)
        times[phase.name, phase.process] = turn + 1
        groups.setdefault((phase.name, turn), []).append(phase)
    slowest = [(max(group, key=lambda phase: phase.seconds), len(group)) for group in groups.values()]
    return sorted(slowest, key=lambda pair: pair[0].line)


def _begin(start: LoggedStart) -> float | None:
    """The time at which the start begins; None if a line of it states none."""
    times = [start.begun, *(phase.ended for phase in start.phases)]
    return None if None in times or start.begun is None else start.begun


def _fits(phase: Phase, begin: float) -> bool:
    return phase.ended is not None and phase.ended - phase.seconds >= begin - SLACK_S


def _timed(start: LoggedStart, phases: Sequence[tuple[Phase, int]], begin: float) -> list[Bar]:
    """Each phase ends where its line stands; between the first line and the engine's the server gets ready."""
    bars = []
    if start.engine is not None and start.engine > begin:
        bars.append(Bar("imports and arguments", 0.0, start.engine - begin))
    for phase, count in phases:
        if phase.ended is not None:
            at = max(0.0, phase.ended - phase.seconds - begin)
            bars.append(Bar(phase.name, at, phase.seconds, _of_processes(count), _is_inner(phase, phases)))
    bars.sort(key=_in_order)
    last = max((bar.begin + bar.seconds for bar in bars), default=0.0)
    if start.listening is not None and start.listening - begin > last:
        bars.append(Bar("until the server listens", last, start.listening - begin - last))
    return bars


def _in_order(bar: Bar) -> tuple[float, float]:
    """What bars are sorted by: an earlier one comes first, and of two that begin together the longer one."""
    return bar.begin, -bar.seconds


def _untimed(phases: Sequence[tuple[Phase, int]]) -> list[Bar]:
    """The phases one behind the other; one that has parts begins with the first of them."""
    bars: list[Bar] = []
    begin = 0.0
    firsts: dict[str, float] = {}
    for phase, count in phases:
        inner = _is_inner(phase, phases)
        at = firsts.get(phase.name, begin)
        if inner:
            firsts.setdefault(phase.within, at)
        bars.append(Bar(phase.name, at, phase.seconds, _of_processes(count), inner))
        begin = max(begin, at + phase.seconds)
    return bars


def _is_inner(phase: Phase, phases: Sequence[tuple[Phase, int]]) -> bool:
    """Whether the phase that this one is a part of follows: its line stands behind those of its parts."""
    return any(other.name == phase.within and other.line > phase.line for other, _ in phases)


def _of_processes(count: int) -> str:
    return f"the slowest of {count} processes" if count > 1 else ""
