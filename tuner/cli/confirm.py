"""What `tuner confirm` does once its options are read: a log and a decision in, a table or a document out."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from rules.errors import ErrorKind, TunerError
from tuner.cli.output import failures, print_json, result
from tuner.confirm.compare import confirm
from tuner.confirm.expected import read_written
from tuner.confirm.outcome import Result
from tuner.confirm.text import confirmation_document, confirmation_text
from tuner.errors import ExitCode
from tuner.launch.decision_document import load_decision
from tuner.server_log.line import MAX_LINE
from tuner.server_log.log import ServerLog, read_server_log

_EXITS = {
    Result.CONFIRMED: ExitCode.FINE,
    Result.REPORTED: ExitCode.FINE,
    Result.NOT_SAID: ExitCode.LOG_INCOMPLETE,
    Result.DIFFERS: ExitCode.CONTRADICTION,
}


def run(log: Path | None, decision: Path | None, *, as_json: bool) -> None:
    """Read, compare, print, and end with an exit code."""
    with failures(as_json, None if log is None else str(log)):
        written = None if decision is None else read_written(load_decision(decision), str(decision))
        confirmation = confirm(_log(log), written)
        if as_json:
            print_json(confirmation_document(confirmation))
        else:
            result(confirmation_text(confirmation))
        raise SystemExit(_EXITS[confirmation.result])


def _log(path: Path | None) -> ServerLog:
    named = path is not None and str(path) != "-"
    if not named and sys.stdin.isatty():
        hint = "Name a file, or pipe one in: kubectl logs POD | tuner confirm --decision plan.json"
        raise TunerError("No log is given.", hint=hint, kind=ErrorKind.USAGE)
    try:
        with path.open("rb") if path and named else nullcontext(sys.stdin.buffer) as stream:
            return read_server_log(bounded_lines(stream))
    except OSError as error:
        raise TunerError(f"{path or 'The log'} cannot be read: {error.strerror}.", kind=ErrorKind.LOG) from None


def bounded_lines(stream: BinaryIO) -> Iterator[str]:
    """The lines of a log without their ends, each cut at `MAX_LINE` bytes; what is not UTF-8 is replaced."""
    while line := stream.readline(MAX_LINE):
        rest = line
        while rest and not rest.endswith(b"\n"):
            rest = stream.readline(MAX_LINE)
        yield line.decode("utf-8", "replace").rstrip("\n")
