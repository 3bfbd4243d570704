"""The command line on a real terminal of a known width."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping

from fake_environment import OURS

ROWS = 40


def on_terminal(*args: object, columns: int, code: int = 0, env: Mapping[str, str] | None = None) -> list[str]:
    """The lines that a command writes where both of its streams are a terminal.

    Args:
        args: the arguments.
        columns: characters of a line of the terminal.
        code: the exit code it must have.
        env: variables beside those of this process; of ours none is inherited.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS) and name != "COLUMNS"}
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", *map(str, args)],
        env={**clean, "HF_HUB_OFFLINE": "1", "TERM": "dumb", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = b"".join(iter(lambda: _read(ours), b"")).decode(errors="replace")
    os.close(ours)
    assert "Traceback" not in text, text
    assert process.wait(timeout=60) == code, text
    return text.splitlines()


def _read(terminal: int) -> bytes:
    """What comes next; nothing once nobody can write to the terminal any more, which Linux reports as an error."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
