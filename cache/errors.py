"""The failures of the verdict store and of packed compile caches."""

from rules.errors import ErrorKind, TunerError


class StoreError(TunerError):
    """The verdict store, or one record in it, cannot be used."""

    def __init__(self, message: str, *, hint: str = "", kind: ErrorKind = ErrorKind.STORE) -> None:
        super().__init__(message, hint=hint, kind=kind)


class ArchiveError(TunerError):
    """A compile cache cannot be packed, or an archive of one is refused.

    The message is the end of a sentence: who catches the error puts the archive or the cache in front of it.
    """

    def __init__(self, message: str, *, hint: str = "", kind: ErrorKind = ErrorKind.ARCHIVE) -> None:
        super().__init__(message, hint=hint, kind=kind)
