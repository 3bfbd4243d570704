"""Progress of a long probe, on stderr. The only module that knows rich."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner


class Reporter(Protocol):
    """Told what is under way: the stage, `import` or `probe`, and the model's name."""

    def __call__(self, stage: str, name: str) -> None:
        """Show the stage."""


@contextmanager
def probing(total: int) -> Iterator[Reporter]:
    """Show each stage of a probe of `total` models: a live line on a terminal, plain lines elsewhere."""
    console = Console(stderr=True)
    begin = time.monotonic()
    started: set[str] = set()

    def sentence(stage: str, name: str) -> str:
        if stage == "import":
            return "starting vLLM in the serving environment (10 to 40 s)"
        started.add(name)
        return f"probing {name} ({len(started)} of {total})"

    if not console.is_terminal:
        yield lambda stage, name: console.print(
            f"[{time.monotonic() - begin:5.0f} s] {sentence(stage, name)}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        return
    spinner = Spinner("dots", "")
    with Live(spinner, console=console, transient=True):
        yield lambda stage, name: spinner.update(text=sentence(stage, name))
