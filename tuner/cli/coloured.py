"""Lines with colours: as a terminal shows them; plain where stdout is not a terminal, or NO_COLOR is set."""

import io
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from tuner.report.terminal import Line

STYLES = {"good": "green", "bad": "bold red", "open": "yellow", "soft": "dim", "strong": "bold", "bar": "cyan", "": ""}
"""Tone of a part -> style of rich."""


def coloured(lines: Iterable[Line]) -> str:
    """The lines as one text, with the colours of a terminal if stdout is one."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=1000, highlight=False, markup=False)
    for line in lines:
        console.print(Text.assemble(*((text, STYLES[tone]) for text, tone in line)), soft_wrap=True)
    written = console.file
    assert isinstance(written, io.StringIO)  # noqa: S101  the one above
    return "\n".join(row.rstrip() for row in written.getvalue().splitlines())
