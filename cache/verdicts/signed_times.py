"""When the newest signed line of each verdict was signed: a table beside the verdicts, in the file of their store.

A right signature stays right. Whoever demands signatures keeps these times, so that nobody can give an older line in
place of a newer one.
"""

from collections.abc import Mapping
from pathlib import Path

from cache.verdicts.table import change_table, read_table

MOST_AHEAD_S = 24 * 3600
"""Seconds that the clock of a signer may be ahead. A later time does not count: else a clock that was ten years ahead
once would keep new lines out for ten years."""
_NAME = "signed_times"
_MAKE = f"CREATE TABLE IF NOT EXISTS {_NAME} (digest TEXT PRIMARY KEY, signed_at INTEGER NOT NULL)"


class SignedTimes:
    """The times, by the digest of the verdict's key, in seconds since 1970.

    Args:
        path: the file of the verdict store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def newest(self, now: float) -> dict[str, int]:
        """All times that count.

        Args:
            now: the time.

        Raises:
            StoreError: the store cannot be used.
        """
        whole = f"SELECT digest, signed_at FROM {_NAME} WHERE typeof(signed_at) = 'integer'"  # noqa: S608  a constant
        rows = read_table(self._path, _NAME, whole)
        return {
            digest.decode(errors="replace"): signed_at for digest, signed_at in rows if signed_at <= now + MOST_AHEAD_S
        }

    def keep(self, times: Mapping[str, int], now: float) -> None:
        """Keep times that are later than those before, and that count; nothing is written where there is none.

        Args:
            times: of lines that were taken.
            now: the time.

        Raises:
            StoreError: the store cannot be written.
        """
        before = self.newest(now) if times else {}
        later = {
            digest: signed_at
            for digest, signed_at in times.items()
            if before.get(digest, 0) < signed_at <= now + MOST_AHEAD_S
        }
        if not later:
            return
        keep = (
            f"INSERT INTO {_NAME} VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET signed_at = excluded.signed_at "  # noqa: S608  a constant
            "WHERE excluded.signed_at > signed_at OR signed_at > ?"
        )
        with change_table(self._path, _MAKE) as connection:
            rows = [(digest, signed_at, int(now) + MOST_AHEAD_S) for digest, signed_at in later.items()]
            connection.executemany(keep, rows)
