"""What `tuner report` does once its options are read: one verdict, all of them, or a log, as a page or as text."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

from cache.compiled.warm_record import FOLDER, WarmRecord, read_records
from rules.errors import ErrorKind, ReportError, TunerError
from tuner.cli.coloured import coloured
from tuner.cli.output import failures, result, say
from tuner.exchange.transfer import write_whole
from tuner.launch.cache_root import PROOFS
from tuner.launch.cache_root import cache_root as default_cache_root
from tuner.report.content import verdict_report
from tuner.report.overview import overview
from tuner.report.page import overview_page, verdict_page
from tuner.report.terminal import Line, overview_lines, verdict_lines
from tuner.text import counted
from tuner.verdicts.lookup import current_report, opened_store, readable_verdict
from tuner.verdicts.selection import entries_called


def run(name: str | None, store: str | None, cache_root: str | None, output: Path | None, *, whole: bool) -> None:
    """Print or write the report that the options ask for."""
    with failures(as_json=False, name=name):
        if (name is not None) == whole:
            raise TunerError(
                "Name a model or a key, or give --all.",
                hint="`tuner verdicts list` shows what is stored.",
                kind=ErrorKind.USAGE,
            )
        if name is None:
            _report_all(store, output)
        else:
            _report_verdict(name, store, cache_root, output)


def _report_verdict(name: str, store_path: str | None, cache_root: str | None, output: Path | None) -> None:
    store = opened_store(store_path, os.environ)
    entry, *others = sorted(entries_called(store, [name]), key=attrgetter("probed_at"), reverse=True)
    if others:
        keys = ", ".join(other.digest[:12] for other in others[:4])
        say(f"tuner: {counted(len(others), 'other verdict')} of it, older: {keys}. Name a key to see it.")
    try:
        observed, verdict = current_report(store, entry)
    except ReportError as error:
        raise TunerError(
            f"This release cannot read the verdict {entry.digest[:12]}: {error.message}.",
            hint=f"Probe the model again, or remove it with `tuner verdicts forget {entry.digest[:12]}`.",
            kind=ErrorKind.REPORT,
        ) from None
    report = verdict_report(entry, observed, verdict, _records(cache_root))
    if output is not None:
        _write(output, verdict_page(report))
    else:
        _print(verdict_lines(report))
        say(f"tuner: the whole report: tuner report {entry.digest[:12]} --output report.html")


def _report_all(store_path: str | None, output: Path | None) -> None:
    store = opened_store(store_path, os.environ)
    now = datetime.now(UTC)
    table = overview(((entry, readable_verdict(store, entry)) for entry in store.entries()), now)
    if output is not None:
        _write(output, overview_page(table, now))
    elif table.rows:
        _print(overview_lines(table))
    else:
        say("tuner: No verdict is stored. `tuner probe MODEL` makes one.")


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
