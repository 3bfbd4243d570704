"""Records of warm-ups by the words that people have for them."""

from collections.abc import Sequence

from cache.compiled.warm_record import WarmRecord
from tuner.verdicts.selection import candidates, is_called, is_key_start


def records_called(records: Sequence[WarmRecord], word: str) -> list[WarmRecord]:
    """The records that a word means, in their order.

    Args:
        records: all there are.
        word: the start of a digest, at least 4 characters; or a model, an architecture, or a pattern for one of them.
    """
    by_digest = [record for record in records if is_key_start(word) and record.digest.startswith(word.lower())]
    return by_digest or [record for record in records if is_called(word, (record.model, record.architecture))]


def listed_records(records: Sequence[WarmRecord]) -> str:
    """Records as the lines of a hint; `none` without one."""
    rows = [f"{record.digest[:12]}  {record.made_at}, {record.model}" for record in records]
    return candidates(rows or ["none"])
