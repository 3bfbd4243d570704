"""Argument lists for people and files, without what must not be seen."""

from collections.abc import Sequence

_API_KEY = "--api-key"


def without_keys(args: Sequence[str]) -> list[str]:
    """Arguments without the keys that clients must present: output goes into logs and files."""
    shown, hiding = [], False
    for arg in args:
        option, equals, _ = arg.partition("=")
        is_key = option.replace("_", "-") == _API_KEY
        hiding = is_key or (hiding and not arg.startswith("-"))
        hidden = arg if is_key else "***"
        shown.append(f"{option}=***" if is_key and equals else hidden if hiding else arg)
    return shown
