"""What `tuner report` does once its options are read: one verdict, all of them, or a log, as a page or as text."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

from cache.compiled.warm_record import FOLDER, WarmRecord, read_records
from rules.errors import ErrorKind, ReportError, TunerError
from tuner.cli.coloured import coloured
from tuner.cli.confirm import read_log
from tuner.cli.output import failures, result, say
from tuner.errors import ExitCode
from tuner.exchange.transfer import write_whole
from tuner.launch.cache_root import PROOFS
from tuner.launch.cache_root import cache_root as default_cache_root
from tuner.launch.text import command_line
from tuner.report.content import verdict_report
from tuner.report.log_starts import log_notes, log_starts
from tuner.report.overview import overview
from tuner.report.page import log_page, overview_page, verdict_page
from tuner.report.terminal import Line, overview_lines, verdict_lines, waterfall_lines
from tuner.server_log.phases import read_phases
from tuner.text import counted
from tuner.verdicts.lookup import current_report, opened_store, readable_verdict
from tuner.verdicts.selection import entries_called


def run(
    name: str | None, log: Path | None, store: str | None, cache_root: str | None, output: Path | None, *, whole: bool
) -> None:
    """Print or write the report that the options ask for."""
    with failures(as_json=False, name=name):
        if [name is not None, log is not None, whole].count(True) != 1:
            raise TunerError(
                "Name a model or a key, or give --all, or --log LOG; one of them.",
                hint=f"`{opened_store(store, os.environ).place.command('verdicts', 'list')}` shows what is stored.",
                kind=ErrorKind.USAGE,
            )
        if log is not None:
            _report_log(log, output)
        elif name is not None:
            _report_verdict(name, store, cache_root, output)
        else:
            _report_all(store, output)


def _report_verdict(name: str, store_path: str | None, cache_root: str | None, output: Path | None) -> None:
    store = opened_store(store_path, os.environ)
    entry, *others = sorted(entries_called(store, [name]), key=attrgetter("probed_at"), reverse=True)
    if others:
        keys = ", ".join(other.digest[:12] for other in others[:4])
        say(f"tuner: {counted(len(others), 'other verdict')} of it, older: {keys}. Name a key to see it.")
    try:
        observed, verdict = current_report(store, entry)
    except ReportError as error:
        forget = store.place.command("verdicts", "forget", entry.digest[:12])
        raise TunerError(
            f"This release cannot read the verdict {entry.digest[:12]}: {error.message}.",
            hint=f"Probe the model again, or remove it with `{forget}`.",
            kind=ErrorKind.REPORT,
        ) from None
    report = verdict_report(entry, observed, verdict, _records(cache_root))
    if output is not None:
        _write(output, verdict_page(report))
    else:
        _print(verdict_lines(report))
        command = ["tuner", "report", *store.place.options, entry.digest[:12], "--output", "report.html"]
        say(f"tuner: the whole report: {command_line(command, {})}")


def _report_all(store_path: str | None, output: Path | None) -> None:
    store = opened_store(store_path, os.environ)
    now = datetime.now(UTC)
    table = overview(((entry, readable_verdict(store, entry)) for entry in store.entries()), now)
    if output is not None:
        _write(output, overview_page(table, now))
    elif table.rows:
        _print(overview_lines(table))
    else:
        say(f"tuner: No verdict is stored. `{store.place.command('probe', 'MODEL')}` makes one.")


def _report_log(log: Path, output: Path | None) -> None:
    """The starts of a log; it ends with 7 if the log states no phase."""
    starts, cut = read_log(log, read_phases, "tuner report --log -")
    waterfalls, notes = log_starts(starts), log_notes(starts, cut=cut)
    if output is not None:
        _write(output, log_page("standard input" if str(log) == "-" else log.name, waterfalls, notes))
    elif waterfalls:
        _print(waterfall_lines(waterfalls))
    if output is None or not waterfalls:
        for note in notes:
            say(f"tuner: {note}")
    if not waterfalls:
        raise SystemExit(ExitCode.LOG_INCOMPLETE)


def _records(option: str | None) -> list[WarmRecord]:
    """The warm-ups that are recorded in a cache root and in those of its proofs, newest first."""
    root = Path(option or default_cache_root(os.environ)[0]).expanduser()
    records: list[WarmRecord] = []
    for place in (root, *sorted((root / PROOFS).glob("*"))):
        readable, damaged = read_records(place)
        records += readable
        if damaged:
            say(f"tuner: {counted(len(damaged), 'file')} in {place / FOLDER} cannot be read as warm-ups.")
    return sorted(records, key=attrgetter("made_at"), reverse=True)


def _print(lines: Iterable[Line]) -> None:
    result(coloured(lines))


def _write(path: Path, page: str) -> None:
    write_whole(path, page.encode(errors="backslashreplace"), ErrorKind.EXPORT)
    say(f"tuner: written: {path}")
