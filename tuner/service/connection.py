"""Connections: each has so long for a request and its answer, and one address has so many of them.

uvicorn bounds only the time between an answer and the first byte of the next request. A client that never ends its
request, or never reads its answer, would hold a connection for ever, and some hundred of these all of them.
"""

from collections import Counter
from typing import Any, ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S = 10.0
"""Seconds for the head of a request, from the connection or from the answer before."""
REQUEST_S = 90.0
"""Seconds from the head of a request to the last byte of its answer; the longest answer may take 60 to make."""
MOST_OF_ADDRESS = 256
"""Connections that one address may have at the same time."""


class BoundedProtocol(H11Protocol):
    """A connection that is cut when its time is over, whatever still goes on. Arguments are those of uvicorn."""

    of_address: ClassVar[Counter[str]] = Counter()
    """How many connections each address has, in this process."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._address = ""
        self._deadline: Any = None

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self.of_address[self._address] += 1
        if self.of_address[self._address] > MOST_OF_ADDRESS:
            transport.abort()
        else:
            self._allow(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._allow(None)
        self.of_address[self._address] -= 1
        if not self.of_address[self._address]:
            del self.of_address[self._address]
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Bytes came in, or an answer was sent behind which others wait."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._allow(REQUEST_S)

    def on_response_complete(self) -> None:
        """An answer was sent; what comes now belongs to the next request, or is an endless body."""
        self._allow(HEAD_S)
        super().on_response_complete()

    def _allow(self, seconds: float | None) -> None:
        """Let the connection live so long from now; None: nothing ends it."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(seconds, self.transport.abort)
