"""What the service answers in place of a result."""

from collections.abc import Mapping
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.environment.document import SCHEMA_VERSION

UNREADABLE, NO_TOKEN, FORBIDDEN, UNKNOWN, TOO_LARGE, NOT_TAKEN, TOO_MANY, BROKEN, BUSY = (
    400,
    401,
    403,
    404,
    413,
    422,
    429,
    500,
    503,
)
"""HTTP status codes (RFC 9110, and RFC 6585 for 429)."""


class ServiceError(TunerError):
    """A request that is not answered with a result.

    Args:
        status: the HTTP status code of the answer.
        message: what is wrong; one sentence.
        hint: what to do next; may be empty.
        kind: what the failure is about.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        hint: str = "",
        *,
        kind: ErrorKind = ErrorKind.SERVICE,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, kind=kind)
        self.status = status
        self.headers = dict(headers or {})


def status_of(error: TunerError) -> int:
    """The HTTP status code of a failure: what the client sent cannot be used, unless the error says otherwise."""
    if isinstance(error, ServiceError):
        return error.status
    if error.kind is ErrorKind.STORE:
        return BUSY
    return UNKNOWN if error.kind is ErrorKind.NO_VERDICT else NOT_TAKEN


def error_document(error: TunerError) -> dict[str, Any]:
    """The document of a failure, as the commands print it."""
    return {
        "schema_version": SCHEMA_VERSION,
        "error": {"kind": error.kind, "message": error.message, "hint": error.hint},
    }
