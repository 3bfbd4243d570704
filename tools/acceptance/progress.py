"""Lines of progress, and the end of a run in which a promise does not hold."""

import sys
import time

_BEGIN = time.monotonic()


class BrokenPromiseError(Exception):
    """A promise of the product did not hold; the message says which one, and what was seen."""


def tell(text: str) -> None:
    """Print a line on stderr, with the seconds since the start in front."""
    print(f"{time.monotonic() - _BEGIN:6.1f} s  {text}", file=sys.stderr, flush=True)


def require(holds: object, promise: str) -> None:
    """End the run if a promise does not hold.

    Raises:
        BrokenPromiseError: it does not.
    """
    if not holds:
        raise BrokenPromiseError(promise)
