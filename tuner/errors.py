"""How a command ends."""

from enum import IntEnum

from rules.errors import ErrorKind, TunerError


class ExitCode(IntEnum):
    """Exit codes of every command; scripts rely on them. `docs/reference/exit-codes.md` says which command gives which.

    Attributes:
        FINE: the command did what it was asked to do, or there was nothing to do.
        ERROR: it failed.
        USAGE: it was given what it cannot use.
        UNKNOWN: no verdict is stored, or it is inconclusive; or something could not be read.
        REFUSED: the launch is unsafe, and no configuration of this vLLM makes it safe.
        CONTRADICTION: a manifest contradicts its verdict, or a server its decision.
        CHANGED: a compile cache is missed: something that its key depends on changed.
        LOG_INCOMPLETE: a server's log does not say what was to be read from it.
        STOPPED: the command was stopped from outside, as by Ctrl-C.
    """

    FINE = 0
    ERROR = 1
    USAGE = 2
    UNKNOWN = 3
    REFUSED = 4
    CONTRADICTION = 5
    CHANGED = 6
    LOG_INCOMPLETE = 7
    STOPPED = 130


def exit_code_of(error: TunerError) -> ExitCode:
    """How a command ends that fails with this error."""
    if error.kind is ErrorKind.USAGE:
        return ExitCode.USAGE
    return ExitCode.UNKNOWN if error.kind is ErrorKind.NO_VERDICT else ExitCode.ERROR
