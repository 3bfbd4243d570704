"""The time that a line of a log states. Pure.

vLLM's own stamp has no year and whole seconds (`INFO 01-20 10:00:00`, vllm/logger.py, 0.19.1 to 0.32.0). JSON lines
and what `kubectl logs --timestamps` puts in front have a date as ISO 8601 writes it.
"""

import re
from datetime import UTC, datetime

MAX_FRONT = 2000
"""Characters of a line in which a time is looked for."""
_BETWEEN = r"(?:\x1b\[[0-9;]{0,20}m|\s){1,9}"
_OWN = re.compile(
    rf"(?:TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL){_BETWEEN}(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?!\d)", re.ASCII
)
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,6}))?", re.ASCII)
_LEAP_YEAR = 2000
"""Stands for the year that vLLM's stamp lacks."""


def stated_time(line: str) -> float | None:
    """Seconds since some begin that all lines of one form share; None if the line states no time."""
    front = line[:MAX_FRONT]
    own = _OWN.search(front)
    if own is not None:
        return _seconds([_LEAP_YEAR, *map(int, own.groups())], 0.0)
    iso = _ISO.search(front)
    if iso is None:
        return None
    *numbers, fraction = iso.groups()
    return _seconds(list(map(int, numbers)), float(f"0.{fraction or 0}"))


def _seconds(numbers: list[int], fraction: float) -> float | None:
    try:
        year, month, day, hour, minute, second = numbers
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp() + fraction
    except ValueError:  # such as the 99th of a month
        return None
