"""Limits of what one client may ask: bytes, seconds, requests."""

import time
from collections import OrderedDict
from collections.abc import Callable

import anyio
from msgspec import Struct
from starlette.requests import ClientDisconnect, Request

from tuner.service.refusal import BUSY, TOO_LARGE, TOO_MANY, UNREADABLE, ServiceError

BODY_S = 10.0
"""Seconds for a whole body to arrive."""
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


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Raises:
        ServiceError: it is longer than `limit` bytes, does not arrive in time, or the client went away.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and len(stated) < MAX_DIGITS and int(stated) > limit:
        raise _too_large(limit)
    parts = bytearray()
    try:
        with anyio.fail_after(BODY_S):
            async for part in request.stream():
                parts += part
                if len(parts) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise ServiceError(BUSY, f"The body did not arrive within {BODY_S:g} s.") from None
    except ClientDisconnect:
        raise ServiceError(UNREADABLE, "The client went away.") from None
    return bytes(parts)


MAX_DIGITS = 20
"""Digits of a length that is read as a number; a longer one is found out by counting."""


def _too_large(limit: int) -> ServiceError:
    return ServiceError(TOO_LARGE, f"The body is larger than {limit >> 10} KiB.", headers={"Connection": "close"})
