"""Numbers as JSON has them. Pure."""

import math


def finite(text: str) -> float:
    """A number, for `json.loads`; NaN, an infinity and `1e999` are none in JSON, and no key or document holds them.

    Raises:
        ValueError: it is none.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
