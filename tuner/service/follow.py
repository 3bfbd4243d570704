"""A read replica: takes every change of another service into its own store."""

import time
from collections.abc import Callable

import anyio
from anyio.to_thread import run_sync

from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.exchange.transfer import import_text
from tuner.model.patience import at_most
from tuner.service.client import Client
from tuner.service.feed import FEED, Page, read_page
from tuner.verdicts.origin import IMPORTED

POLL_S = 2.0
"""Seconds between two questions for changes."""
PAGE_S = 30.0
"""Seconds that one page of changes may take."""


class Follower:
    """Follows one service. It begins at its first change, and again whenever the feed is another one.

    Args:
        source: the service that is followed.
        store: where the verdicts go; one that was probed there gives way to none.
        tell: is given a sentence when following stops, goes on, or leaves a change out.
    """

    def __init__(self, source: Client, store: VerdictStore, tell: Callable[[str], None]) -> None:
        self._source = source
        self._store = store
        self._tell = tell
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
        """Store the lines of a page; a damaged one is left out, and the others are stored."""
        if not page.items:
            return
        try:
            self._store_lines("".join(item.line for item in page.items))
        except TunerError as error:
            if error.kind is not ErrorKind.BUNDLE:
                raise
            self._import_each(page)

    def _import_each(self, page: Page) -> None:
        for item in page.items:
            try:
                self._store_lines(item.line)
            except TunerError as error:
                if error.kind is not ErrorKind.BUNDLE:
                    raise
                self._tell(f"change {item.sequence} of {self._source.name} is left out: {error.message}")

    def _store_lines(self, lines: str) -> None:
        source = f"the service {self._source.name}"
        import_text(self._store, lines.encode(), source, giving_way=[IMPORTED])
