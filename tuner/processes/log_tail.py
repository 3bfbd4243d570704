"""The end of a log that a process of vLLM's wrote, fit to be shown."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cache.secrets import redacted
from tuner.untrusted.files import read_end

READ = 64 * 1024
"""Bytes of a log that are looked at; it may be of any size."""
WIDTH = 400
"""Characters of a line that are shown."""
_ESCAPES = re.compile(r"\x1b\[[0-9;:?]{0,40}[ -/]{0,5}[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Colours, and whatever else would move a terminal's cursor."""


def log_tail(log: Path, lines: int, secrets: Iterable[str] = ()) -> list[str]:
    """The last lines that are not blank, without secrets and control characters; none of a log that cannot be read.

    Args:
        log: the file.
        lines: of so many lines at most.
        secrets: values that are masked, beside all that looks like one.
    """
    with suppress(OSError):
        text = read_end(log, READ).decode("utf-8", "replace").replace("\r", "\n")
        found = redacted(_ESCAPES.sub("", text), secrets).splitlines()[-lines:]
        return [_cut(line) for line in found if line.strip()]
    return []


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}…"
