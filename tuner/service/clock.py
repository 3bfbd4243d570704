"""The time of a service: seconds since 1970 that a jump of the system's clock does not reach."""

import time
from collections.abc import Callable

Clock = Callable[[], float]


def steady_clock(wall: Clock = time.time, steady: Clock = time.monotonic) -> Clock:
    """A clock that is set once, by the system's, and runs on by itself.

    Args:
        wall: the system's clock, which somebody may set.
        steady: seconds from any moment, which nobody sets.
    """
    start = wall() - steady()

    def now() -> float:
        return start + steady()

    return now
