"""What can go wrong, in all three packages: one class, and the kinds of failure.

It lies in `rules`, the lowest package, so that `rules`, `cache` and `tuner` raise the same error without knowing each
other.
"""

from enum import StrEnum


class ErrorKind(StrEnum):
    """What a failure is about: `error.kind` of the JSON documents. `docs/reference/json.md` describes each."""

    USAGE = "usage"
    ARGUMENTS = "arguments"
    NO_VERDICT = "no_verdict"

    MODEL = "model"
    UNKNOWN_ARCHITECTURE = "unknown_architecture"
    REMOTE_CODE = "remote_code"
    PLUGIN = "plugin"
    KERNEL_MISSING = "kernel_missing"

    ENVIRONMENT = "environment"
    CONTROL_FOLDER = "control_folder"
    MEMORY = "memory"
    TIMEOUT = "timeout"
    CRASH = "crash"
    REPORT = "report"

    FACTORS = "factors"
    PROOF = "proof"
    REPLAY = "replay"
    ARM = "arm"
    SERVER = "server"

    STORE = "store"
    BUNDLE = "bundle"
    SIGNATURE = "signature"
    DECISION = "decision"
    EXPORT = "export"
    SERVICE = "service"
    MANIFEST = "manifest"
    LOG = "log"

    CACHE = "cache"
    RECORD = "record"
    ARCHIVE = "archive"
    MISMATCH = "mismatch"


class TunerError(Exception):
    """A failure that the user can act on.

    Args:
        message: what is wrong and where; one sentence.
        hint: what to do next; may be empty.
        kind: what the failure is about.
    """

    def __init__(self, message: str, *, hint: str = "", kind: ErrorKind) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind


class ReportError(TunerError):
    """A probe report that is damaged or of another shape: it is never judged and never stored."""

    def __init__(self, message: str, *, hint: str = "", kind: ErrorKind = ErrorKind.REPORT) -> None:
        super().__init__(message, hint=hint, kind=kind)
