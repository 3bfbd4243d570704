"""What can go wrong in the application, as one sentence and one way out."""

from enum import IntEnum

from cache.errors import StoreError
from rules.errors import RuleError


class ExitCode(IntEnum):
    """Exit codes of every command; scripts rely on them."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    UNKNOWN = 3
    """No verdict is stored, or it is inconclusive."""
    UNSAFE = 4
    """Unsafe, and no configuration of this vLLM can fix it."""
    CONTRADICTION = 5
    """A manifest contradicts its verdict."""


class TunerError(Exception):
    """A failure the user can act on.

    Args:
        message: what is wrong and where; one sentence.
        hint: what to do next; may be empty.
        kind: stable word for scripts, as in the JSON document's `error.kind`.
        exit_code: how the command ends.
    """

    def __init__(
        self, message: str, *, hint: str = "", kind: str = "error", exit_code: ExitCode = ExitCode.ERROR
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind
        self.exit_code = exit_code


def usage_error(message: str, hint: str) -> TunerError:
    """The failure of a command that was given what it cannot use."""
    return TunerError(message, hint=hint, kind="usage", exit_code=ExitCode.USAGE)


def as_tuner_error(error: TunerError | StoreError | RuleError) -> TunerError:
    """The same failure in the application's words; `kind` says which part it comes from."""
    if isinstance(error, TunerError):
        return error
    return TunerError(error.message, hint=error.hint, kind="report" if isinstance(error, RuleError) else "store")
