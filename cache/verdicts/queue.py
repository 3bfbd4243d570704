"""The queue of probes: a second table in the file of the verdict store, which one writer changes at a time.

Several processes may use one queue. Every change is one transaction, and it is synced to the disk when a method
returns. Times are seconds since 1970, by the clock of whoever calls.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct

from cache.verdicts.table import change_table, read_table

MOST_FAILURES = 3
"""A probe that failed so often rests until it is queued again."""
_COLUMNS = (
    "id",
    "launch",
    "subject",
    "vllm",
    "platform",
    "torch",
    "plugins",
    "queued_at",
    "failures",
    "reason",
    "worker",
    "lease",
    "lease_until",
)
_MAKE = """
CREATE TABLE IF NOT EXISTS probes (
    id TEXT PRIMARY KEY, launch TEXT NOT NULL, subject TEXT NOT NULL,
    vllm TEXT NOT NULL, platform TEXT NOT NULL, torch TEXT, plugins TEXT,
    queued_at REAL NOT NULL, failures INTEGER NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '',
    worker TEXT NOT NULL DEFAULT '', lease TEXT NOT NULL DEFAULT '', lease_until REAL NOT NULL DEFAULT 0
)
"""
_NAME = "probes"
_ALL = f"SELECT {', '.join(_COLUMNS)} FROM probes"  # noqa: S608  our own constants
_BARE = _ALL.replace("launch", "'' AS launch", 1)
"""A launch holds the config of a model, which may take 200 kB."""
_FITS = "vllm = ? AND platform = ? AND (torch IS NULL OR torch = ?) AND (plugins IS NULL OR plugins = ?)"
_FREE = (
    f"{_ALL} WHERE lease = '' AND failures < ? AND {_FITS} "  # noqa: S608  our own constants
    "AND NOT EXISTS (SELECT 1 FROM probes AS other WHERE other.subject = probes.subject AND other.lease <> '') "
    "ORDER BY failures, queued_at, id LIMIT 1"
)


class Wanted(Struct, frozen=True):
    """A serving environment, as far as it decides who may run a probe; of a worker, nothing is None.

    Attributes:
        vllm: the release, without its local part.
        platform: as in an environment.
        torch: its release, without its local part; None: any.
        plugins: of vLLM, as in the key of a verdict; None: any.
    """

    vllm: str
    platform: str
    torch: str | None = None
    plugins: str | None = None

    def fits(self, here: "Wanted") -> bool:
        """Whether a worker's environment is such a one."""
        same_torch = self.torch in {None, here.torch}
        same_plugins = self.plugins in {None, here.plugins}
        return (self.vllm, self.platform) == (here.vllm, here.platform) and same_torch and same_plugins


class NewProbe(Struct, frozen=True):
    """What is put into the queue.

    Attributes:
        id: names the launch; the same launch has the same.
        launch: what to probe, as a text that the queue does not read.
        subject: names the model and the environment; only one probe of a subject runs at a time, because the verdicts
            of all are one entry.
        wanted: who may run it.
    """

    id: str
    launch: str
    subject: str
    wanted: Wanted


class QueuedProbe(Struct, frozen=True):
    """A row of the queue.

    Attributes:
        id: as in `NewProbe`, and so are `launch`, `subject` and `wanted`.
        launch: see there.
        subject: see there.
        wanted: see there.
        queued_at: when it was first put there.
        failures: how often it failed.
        reason: why it failed last; empty if it never did.
        worker: the name of the worker that has it, or had it last; empty if none had it.
        lease: names the worker's right to it; empty while nobody has it.
        lease_until: when that right ends.
    """

    id: str
    launch: str
    subject: str
    wanted: Wanted
    queued_at: float
    failures: int
    reason: str
    worker: str
    lease: str
    lease_until: float

    def state(self, now: float) -> str:
        """`running`, `resting` after too many failures, or `waiting`."""
        if self.lease and self.lease_until >= now:
            return "running"
        failures = self.failures + bool(self.lease)
        return "resting" if failures >= MOST_FAILURES else "waiting"


class ProbeQueue:
    """The probes that wait, run or rest.

    No handle stays open between calls. A missing file is an empty queue; the first `put` makes it.

    Args:
        path: the file of the verdict store.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self) -> list[QueuedProbe]:
        """All of it, the oldest first, without the texts of the launches, which `row` gives.

        Raises:
            StoreError: the store cannot be used.
        """
        rows = read_table(self._path, _NAME, f"{_BARE} ORDER BY queued_at, id")
        return [_row(tuple(map(_text, values))) for values in rows]

    def row(self, name: str) -> QueuedProbe | None:
        """The row of that id.

        Raises:
            StoreError: the store cannot be used.
        """
        rows = read_table(self._path, _NAME, f"{_ALL} WHERE id = ?", name)
        return _row(tuple(map(_text, rows[0]))) if rows else None

    def put(self, probes: Iterable[NewProbe], now: float, *, retry: bool = False) -> None:
        """Put probes at the end. One that is there already stays as it is.

        Args:
            probes: what to probe.
            now: the time.
            retry: forget the failures of those that rest.

        Raises:
            StoreError: the store cannot be written; then none is there.
        """
        insert = (
            "INSERT OR IGNORE INTO probes (id, launch, subject, vllm, platform, torch, plugins, queued_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        )
        with change_table(self._path, _MAKE) as connection:
            for probe in probes:
                wanted = probe.wanted
                factors = (wanted.vllm, wanted.platform, wanted.torch, wanted.plugins)
                connection.execute(insert, (probe.id, probe.launch, probe.subject, *factors, now))
                if retry:
                    again = "UPDATE probes SET failures = 0, reason = '' WHERE id = ? AND lease = ''"
                    connection.execute(again, (probe.id,))

    def claim(self, here: Wanted, worker: str, lease: str, now: float, seconds: float) -> QueuedProbe | None:
        """Give the next probe to a worker; None if none waits for it. Leases that ran out end first, as failures.

        A lease that ends later than one of this moment would is of a clock that was set back since: it is cut to that.

        Args:
            here: the worker's serving environment.
            worker: its name.
            lease: names the right that it gets.
            now: the time.
            seconds: how long that right lasts without `extend`.

        Raises:
            StoreError: the store cannot be written.
        """
        ended = (
            "UPDATE probes SET failures = failures + 1, reason = 'the lease of ' || worker || ' ran out', lease = '' "
            "WHERE lease <> '' AND lease_until < ?"
        )
        cut = "UPDATE probes SET lease_until = ? WHERE lease <> '' AND lease_until > ?"
        lend = "UPDATE probes SET worker = ?, lease = ?, lease_until = ? WHERE id = ?"
        fits = (here.vllm, here.platform, here.torch, here.plugins)
        with change_table(self._path, _MAKE) as connection:
            connection.execute(ended, (now,))
            connection.execute(cut, (now + seconds, now + seconds))
            rows = connection.execute(_FREE, (MOST_FAILURES, *fits)).fetchall()
            if not rows:
                return None
            name = _row(rows[0]).id
            connection.execute(lend, (worker, lease, now + seconds, name))
            return _row(connection.execute(f"{_ALL} WHERE id = ?", (name,)).fetchone())

    def extend(self, name: str, lease: str, until: float) -> bool:
        """Let a lease last longer. Tells whether it is still the one that counts.

        A lease that ran out, and that nobody took, counts.

        Raises:
            StoreError: the store cannot be written.
        """
        return self._changed("UPDATE probes SET lease_until = ? WHERE id = ? AND lease = ?", until, name, lease)

    def give_back(self, name: str, lease: str) -> bool:
        """End a lease without a failure. Tells whether it counted.

        Raises:
            StoreError: the store cannot be written.
        """
        return self._changed("UPDATE probes SET lease = '' WHERE id = ? AND lease = ?", name, lease)

    def fail(self, name: str, lease: str, reason: str) -> bool:
        """End a lease with a failure. Tells whether it counted.

        Raises:
            StoreError: the store cannot be written.
        """
        query = "UPDATE probes SET lease = '', failures = failures + 1, reason = ? WHERE id = ? AND lease = ?"
        return self._changed(query, reason, name, lease)

    def remove(self, names: Iterable[str]) -> None:
        """Remove rows, whoever has them.

        Raises:
            StoreError: the store cannot be written.
        """
        with change_table(self._path, _MAKE) as connection:
            connection.executemany("DELETE FROM probes WHERE id = ?", [(name,) for name in names])

    def _changed(self, query: str, *values: object) -> bool:
        with change_table(self._path, _MAKE) as connection:
            return connection.execute(query, values).rowcount > 0


def _text(value: object) -> object:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _row(values: tuple[Any, ...]) -> QueuedProbe:
    columns = dict(zip(_COLUMNS, values, strict=True))
    wanted = Wanted(*(columns.pop(name) for name in ("vllm", "platform", "torch", "plugins")))
    return QueuedProbe(wanted=wanted, **columns)
