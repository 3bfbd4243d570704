"""A read replica: takes every change of another service into its own store."""

import time
from collections.abc import Callable
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.exchange.conflict import ImportOutcome
from tuner.exchange.sent_line import SentLine, signed_lines
from tuner.exchange.transfer import import_lines
from tuner.model.patience import at_most
from tuner.service.client import Client
from tuner.service.feed import FEED, Page, read_page
from tuner.verdicts.origin import IMPORTED

POLL_S = 2.0
"""Seconds between two questions for changes."""
PAGE_S = 30.0
"""Seconds that one page of changes may take."""
DAMAGE = frozenset({ErrorKind.BUNDLE, ErrorKind.SIGNATURE})
"""Failures that one line of a page alone may have."""


class Follower:
    """Follows one service. It begins at its first change, and again whenever the feed is another one.

    Args:
        source: the service that is followed.
        store: where the verdicts go; one that was probed there gives way to none.
        tell: is given a sentence when following stops, goes on, or leaves a change out.
        signed_with: file of the public key that must have signed each line; None: none need be signed.
    """

    def __init__(
        self, source: Client, store: VerdictStore, tell: Callable[[str], None], signed_with: Path | None = None
    ) -> None:
        self._source = source
        self._store = store
        self._tell = tell
        self._signed_with = signed_with
        self._feed = ""
        self._since = 0
        self._stopped = ""
        self.followed_at = 0.0
        """When all changes were here, in seconds since 1970; 0: not yet."""

    async def run(self) -> None:
        """Follow until it is cancelled."""
        while True:
            more = await run_sync(self.step, abandon_on_cancel=True)
            if not more:
                await anyio.sleep(POLL_S)

    def step(self) -> bool:
        """Take the next changes, if the service answers. Tells whether there may be more at once."""
        try:
            more = self._take()
        except TunerError as error:
            if error.message != self._stopped:
                self._tell(f"following stops: {error.message}")
            self._stopped = error.message
            return False
        if self._stopped:
            self._tell(f"following {self._source.name} again")
            self._stopped = ""
        return more

    def _take(self) -> bool:
        with at_most(PAGE_S):
            answer = self._source.ask("GET", f"/v1/changes?since={self._since}")
        feed = answer.headers.get(FEED.lower(), "")
        if feed != self._feed and self._since:
            self._feed, self._since = feed, 0
            return True
        try:
            page = read_page(answer.body, answer.headers)
        except ValueError as error:
            problem = f"The answer of {self._source.name} is no feed: {error!s:.200}."
            raise TunerError(problem, kind=ErrorKind.SERVICE) from None
        self._import(page)
        self._feed, self._since = feed, page.next
        if not page.items:
            self.followed_at = time.time()
        return bool(page.items)

    def _import(self, page: Page) -> None:
        """Store the lines of a page; one that is damaged or not signed is left out, and the others are stored."""
        lines = self._signed([SentLine(item.line.encode(errors="replace"), item.signature) for item in page.items])
        if not lines:
            return
        try:
            self._store_lines(lines)
        except TunerError as error:
            if error.kind not in DAMAGE:
                raise
            self._import_each(lines)

    def _signed(self, lines: list[SentLine]) -> list[SentLine]:
        """The lines that may be stored here: all, or those that the right key signed."""
        if self._signed_with is None:
            return lines
        signed = signed_lines(lines, self._signed_with)
        if len(signed) < len(lines):
            left_out = len(lines) - len(signed)
            self._tell(
                f"{left_out} of {len(lines)} changes of {self._source.name} are left out: "
                f"the key in {self._signed_with} did not sign them"
            )
        return signed

    def _import_each(self, lines: list[SentLine]) -> None:
        for line in lines:
            try:
                self._store_lines([line])
            except TunerError as error:
                if error.kind not in DAMAGE:
                    raise
                self._tell(f"a change of {self._source.name} is left out: {error.message}")

    def _store_lines(self, lines: list[SentLine]) -> None:
        source = self._source.name
        imported = import_lines(self._store, lines, f"the service {source}", giving_way=[IMPORTED])
        if older := imported.fates[ImportOutcome.OLDER]:
            self._tell(
                f"{older} of {len(lines)} changes of {source} are left out: "
                "lines of these verdicts came before that were signed later"
            )
