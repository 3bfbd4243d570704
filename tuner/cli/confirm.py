"""What `tuner confirm` does once its options are read: a log and a decision in, a table or a document out."""

import errno
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from rules.errors import ErrorKind, TunerError
from tuner.cli.output import failures, print_json, result
from tuner.confirm.compare import confirm
from tuner.confirm.expected import read_written
from tuner.confirm.outcome import Result
from tuner.confirm.text import confirmation_document, confirmation_text
from tuner.errors import ExitCode
from tuner.launch.decision_document import load_decision
from tuner.server_log.log import read_server_log
from tuner.server_log.text_lines import text_lines
from tuner.untrusted.files import open_plain

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
        confirmation = confirm(read_log(log, read_server_log, "tuner confirm -"), written)
        if as_json:
            print_json(confirmation_document(confirmation))
        else:
            result(confirmation_text(confirmation))
        raise SystemExit(_EXITS[confirmation.result])


Read = TypeVar("Read")
"""What is made of a log."""


def read_log(path: Path | None, read: Callable[[Iterable[str]], Read], command: str) -> Read:
    """What a function makes of the lines of a named file or of standard input.

    Args:
        path: the file; None or `-`: standard input.
        read: takes the lines.
        command: that a log can be piped into, for the hint of an error.

    Raises:
        TunerError: no log is given (kind `usage`), or it cannot be read (kind `log`).
    """
    if path is None or str(path) == "-":
        return _read_input(read, command)
    try:
        with open_plain(path) as stream:
            return read(text_lines(stream, str(path)))
    except OSError as error:
        hint = f"Pipe it in: kubectl logs POD | {command}" if error.errno == errno.EINVAL else ""
        message = f"{path} cannot be read: {error.strerror}."
        raise TunerError(message, hint=hint, kind=ErrorKind.LOG) from None


def _read_input(read: Callable[[Iterable[str]], Read], command: str) -> Read:
    if sys.stdin.isatty():
        hint = f"Name a file, or pipe one in: kubectl logs POD | {command}"
        raise TunerError("No log is given.", hint=hint, kind=ErrorKind.USAGE)
    try:
        return read(text_lines(sys.stdin.buffer, "standard input"))
    except OSError as error:
        raise TunerError(f"Standard input cannot be read: {error.strerror}.", kind=ErrorKind.LOG) from None
