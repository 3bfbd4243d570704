"""Progress of a long probe, on stderr. The only module that knows rich."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock

from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from tuner.cli.output import is_quiet
from tuner.server_log.line import without_front
from tuner.text import brief, visible

LINE_S = 10.0
"""Seconds between two lines of an engine's log where there is no terminal."""
LINE_WIDTH = 62
"""Characters of such a line, so that it fits 80 columns behind its time."""
SHOWN_WORKERS = 12
"""Rows of the live table, so that it fits a small terminal."""
COLOURS = {
    "uniform": "green",
    "no_moe": "green",
    "repeated": "red",
    "conditional": "red",
    "reordered": "red",
    "inconclusive": "yellow",
    "failed": "magenta",
}


@dataclass
class Row:
    """What a worker is doing: `text`, about the model `name`, since `begin` on the monotonic clock, in seconds."""

    name: str
    text: str
    begin: float


class Board:
    """What is under way and what was reached. Its methods may be called from any thread.

    Args:
        total: models to probe.
        console: where to show it.
        each: say each verdict in a line of its own where there is no terminal.
    """

    def __init__(self, total: int, console: Console, *, each: bool) -> None:
        self.total = total
        self.live = console.is_terminal and not console.is_dumb_terminal
        self._console = console
        self._each = each
        self._begin = time.monotonic()
        self._lock = Lock()
        self._rows: dict[int, Row] = {}
        self._started: set[str] = set()
        self._counts: Counter[str] = Counter()
        self._spinner = Spinner("dots")

    def expect(self, total: int, stored: int) -> None:
        """Take notice of how many models there are to probe, and how many more have a stored verdict."""
        self.total = total
        self._say(f"{total} to probe, {stored} stored before")

    def stage(self, worker: int, stage: str, name: str) -> None:
        """Show what a worker begins: `import`, `probe` or `list`, and the model's name."""
        with self._lock:
            text = visible(self._sentence(worker, stage, name))
            self._rows[worker] = Row(name, text, time.monotonic())
            self._say(text)

    def finish(self, name: str, word: str, seconds: float) -> None:
        """Count what came of a model: a verdict's word, or `failed` and what kind of failure."""
        with self._lock:
            self._counts[word.partition(":")[0]] += 1
            for worker in [worker for worker, row in self._rows.items() if row.name == name]:
                del self._rows[worker]
            if self._each:
                self._say(f"{visible(name)}: {word} ({seconds:.1f} s; {self._counts.total()} of {self.total} done)")

    def _sentence(self, worker: int, stage: str, name: str) -> str:
        if stage == "probe":
            self._started.add(name)
            return f"probing {name} ({len(self._started)} of {self.total})"
        if stage == "list":
            return "asking vLLM which MoE architectures it registers (10 to 40 s)"
        which = f", worker {worker + 1}" if worker else ""
        return f"starting vLLM in the serving environment (10 to 40 s){which}"

    def _say(self, text: str) -> None:
        if not self.live:
            passed = time.monotonic() - self._begin
            self._console.print(f"[{passed:5.0f} s] {text}", markup=False, highlight=False, soft_wrap=True)

    def table(self) -> Group:
        """The live table: one line of counts if there are several models, then one line a worker."""
        now = time.monotonic()
        grid = Table.grid(padding=(0, 1))
        grid.add_column()
        grid.add_column(no_wrap=True, overflow="ellipsis")
        grid.add_column(justify="right", no_wrap=True)
        with self._lock:
            rows = [self._rows[worker] for worker in sorted(self._rows)]
            head = [self._head(now - self._begin)] if self.total > 1 else []
        for row in rows[:SHOWN_WORKERS]:
            grid.add_row(self._spinner, Text(row.text), Text(duration(now - row.begin)))
        more = [Text(f"  and {len(rows) - SHOWN_WORKERS} workers more")] if len(rows) > SHOWN_WORKERS else []
        return Group(*head, grid, *more)

    def _head(self, passed: float) -> Text:
        head = Text(f"{self._counts.total()} of {self.total} done in {duration(passed)}", no_wrap=True)
        for word in [word for word in COLOURS if self._counts[word]]:
            head.append("  ").append(f"{self._counts[word]} {word}", COLOURS[word])
        return head


def duration(seconds: float) -> str:
    """`42 s`, or `3 min 05 s` from a minute on."""
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder:02} s" if minutes else f"{remainder} s"


@contextmanager
def probing(total: int, *, each: bool = False) -> Iterator[Board]:
    """Show a probe of `total` models: a live table on a terminal, plain lines elsewhere.

    Args:
        total: models to probe; `Board.expect` corrects it.
        each: say each verdict in a line of its own where there is no terminal.
    """
    console = Console(stderr=True, quiet=is_quiet())
    board = Board(total, console, each=each)
    if not board.live:
        yield board
        return
    with Live(get_renderable=board.table, console=console, transient=True, refresh_per_second=4):
        yield board


class Work:
    """Shows what a command does, one step at a time, with its seconds and the last line that an engine logged.

    Its methods may be called from any thread. Called, it shows a step that begins.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self.live = console.is_terminal and not console.is_dumb_terminal
        self._console = console
        self._begin = time.monotonic()
        self._next_line = 0.0
        self._lock = Lock()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._step: TaskID | None = None
        self._line = ""

    def __call__(self, text: str) -> None:
        """Show a step that begins."""
        if not self.live:
            self._print(text)
            return
        with self._lock:
            if self._step is not None:
                self._progress.remove_task(self._step)
            self._step = self._progress.add_task(visible(text), total=None)
            self._line = ""

    def log_line(self, text: str) -> None:
        """Show the last line that an engine logged: at once on a terminal, elsewhere one in ten seconds."""
        line = visible(without_front(text))
        with self._lock:
            if self.live:
                self._line = line
            elif time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + LINE_S
                self._print(f"vLLM: {brief(line, LINE_WIDTH)}")

    def display(self) -> Group:
        """The step with its seconds and, below it, the engine's last line, cut to the terminal's width."""
        line = Text(self._line, style="dim", no_wrap=True, overflow="ellipsis")
        return Group(self._progress.get_renderable(), *([line] if self._line else []))

    def _print(self, text: str) -> None:
        passed = time.monotonic() - self._begin
        self._console.print(f"[{passed:5.0f} s] {visible(text)}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def working() -> Iterator[Work]:
    """Show what is under way: a spinner on a terminal, plain lines elsewhere."""
    console = Console(stderr=True, quiet=is_quiet())
    work = Work(console)
    if not work.live:
        yield work
        return
    with Live(get_renderable=work.display, console=console, transient=True, refresh_per_second=4):
        yield work
