"""The end of a log that a process of vLLM wrote, made safe to show."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from cache.secrets import redacted
from tuner.untrusted.files import read_end

READ = 64 * 1024
"""Bytes that are read from the end of a log, which may have any size."""
WIDTH = 400
"""Characters of a line that are shown."""
_ESCAPES = re.compile(r"\x1b\[[0-9;:?]{0,40}[ -/]{0,5}[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Colours, and whatever else would move a terminal's cursor."""


def log_tail(log: Path, lines: int, secrets: Iterable[str] = ()) -> list[str]:
    """The last lines without blank lines, secrets and control characters; none if the log cannot be read.

    Args:
        log: the file.
        lines: how many lines at most.
        secrets: values that are masked, beside everything that looks like a secret.
    """
    with suppress(OSError):
        text = read_end(log, READ).decode("utf-8", "replace").replace("\r", "\n")
        last_lines = redacted(_ESCAPES.sub("", text), secrets).splitlines()[-lines:]
        return [_cut(line) for line in last_lines if line.strip()]
    return []


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}…"
