"""Limits of what one client may ask: bytes, seconds, requests."""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request

from tuner.service.refusal import BUSY, TOO_LARGE, TOO_MANY, UNREADABLE, ServiceError

BODY_S = 10.0
"""Seconds for a whole body to arrive."""
MAX_BODIES = 256 * 2**20
"""Bytes of all bodies that are here at the same time."""
MAX_CLIENTS = 10_000
"""Addresses that are remembered; the one that asked longest ago is forgotten first."""
BURST_S = 2.0
"""A client may ask at once what the rate allows in so many seconds."""


class _Bucket(Struct):
    """What is left to a client."""

    tokens: float
    at: float


class RateLimit:
    """At most `rate` requests a second of each address.

    Args:
        rate: requests a second.
        clock: the time in seconds.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = rate * BURST_S
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def require(self, address: str) -> None:
        """Count a request.

        Raises:
            ServiceError: the address has asked too often.
        """
        now = self._clock()
        bucket = self._buckets.pop(address, None) or _Bucket(self._most, now)
        bucket.tokens = min(self._most, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        self._buckets[address] = bucket
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if bucket.tokens < 1:
            raise ServiceError(
                TOO_MANY,
                f"More than {self._rate:g} requests a second came from {address}.",
                "Wait a second; --rate raises the limit.",
                headers={"Retry-After": "1"},
            )
        bucket.tokens -= 1


class BodyMemory:
    """The bytes of all bodies that are here at the same time.

    Args:
        most: that may be here.
    """

    def __init__(self, most: int = MAX_BODIES) -> None:
        self._most = most
        self.held = 0

    def hold(self, number: int) -> None:
        """Count bytes that came.

        Raises:
            ServiceError: too many are here.
        """
        if self.held + number > self._most:
            raise ServiceError(BUSY, "Too many large requests are being answered.", "Try again in some seconds.")
        self.held += number

    def release(self, number: int) -> None:
        """Count bytes that are not needed any more."""
        self.held -= number


@asynccontextmanager
async def body_of(request: Request, limit: int, memory: BodyMemory) -> AsyncIterator[bytes]:
    """The body of a request, as long as it is needed.

    Args:
        request: whose body it is.
        limit: its most bytes.
        memory: where its bytes are counted.

    Raises:
        ServiceError: it is longer, does not arrive in time, there is no room for it, or the client went away.
    """
    parts = bytearray()
    try:
        await _read(request, limit, parts, memory)
        yield bytes(parts)
    finally:
        memory.release(len(parts))


async def _read(request: Request, limit: int, parts: bytearray, memory: BodyMemory) -> None:
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and len(stated) < MAX_DIGITS and int(stated) > limit:
        raise _too_large(limit)
    try:
        with anyio.fail_after(BODY_S):
            async for part in request.stream():
                if len(parts) + len(part) > limit:
                    raise _too_large(limit)
                memory.hold(len(part))
                parts += part
    except TimeoutError:
        raise ServiceError(BUSY, f"The body did not arrive within {BODY_S:g} s.") from None
    except ClientDisconnect:
        raise ServiceError(UNREADABLE, "The client went away.") from None


MAX_DIGITS = 20
"""Digits of a length that is read as a number; a longer one is found out by counting."""


def _too_large(limit: int) -> ServiceError:
    return ServiceError(TOO_LARGE, f"The body is larger than {limit >> 10} KiB.", headers={"Connection": "close"})
