"""The end of a log that a process of vLLM wrote, made safe to show."""

import re
import time
from collections.abc import Callable, Iterable
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


TELL_S = 1.0
"""Seconds between two looks at the last line."""


def ignored(_line: str) -> None:
    """Hear a line and do nothing."""


class LastLines:
    """The last line of a log that grows.

    Args:
        log: the file; it need not be there yet.
        secrets: as for `log_tail`.
    """

    def __init__(self, log: Path, secrets: Iterable[str] = ()) -> None:
        self._log = log
        self._secrets = tuple(secrets)
        self._next = 0.0
        self._last = ""

    def tell(self, hear: Callable[[str], None]) -> None:
        """Give the last line to `hear` if it is another one than before; looks once a second at most."""
        if hear is ignored or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + TELL_S
        line = "".join(log_tail(self._log, 1, self._secrets))
        if line and line != self._last:
            self._last = line
            hear(line)


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
