"""What can go wrong with the memory, as one sentence and one way out."""


class StoreError(Exception):
    """The verdict store, or one record in it, cannot be used.

    Args:
        message: what is wrong and where; one sentence.
        hint: what to do next; may be empty.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ArchiveError(Exception):
    """A compile cache cannot be packed, or an archive of one is refused.

    Args:
        reason: what is wrong and where; the end of a sentence that names the archive or the cache.
        hint: what to do next; may be empty.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
