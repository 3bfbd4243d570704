"""The key of a verdict: named factors, their digest, and what tells two keys apart."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def canonical(factors: Mapping[str, Any]) -> str:
    """Write factors as JSON that is the same for equal factors, whatever their order.

    Keys are sorted at every level, there are no spaces, and characters stand for themselves.

    Raises:
        TypeError: a factor is not a JSON value. It is never replaced by its `repr`.
        ValueError: a factor is NaN or infinite, which JSON does not have.
    """
    return _text(dict(factors))


def digest(factors: Mapping[str, Any]) -> str:
    """SHA-256 of `canonical(factors)` in UTF-8, as 64 hexadecimal characters.

    Raises:
        TypeError, ValueError: as `canonical`.
    """
    # JSON may spell half of a surrogate pair (model configurations are foreign input); strict UTF-8 may not.
    return hashlib.sha256(canonical(factors).encode("utf-8", "surrogatepass")).hexdigest()


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the factors that differ, sorted; a factor that only one side has differs.

    Values are compared as the digest sees them: `1`, `1.0` and `true` are three values.
    """
    shared = left.keys() & right.keys()
    changed = {name for name in shared if _text(left[name]) != _text(right[name])}
    return tuple(sorted((left.keys() ^ right.keys()) | changed))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def finite(text: str) -> float:
    """A number, for `json.loads`; NaN, an infinity and `1e999` are none in JSON, and no key or document holds them.

    Raises:
        ValueError: it is none.
    """
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
