"""The progress of a probe: a small live table on a terminal, lines elsewhere."""

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from tuner.cli.progress import Board, Work, duration, probing
from tuner.processes.log_tail import LastLines

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def terminal() -> Console:
    """A terminal of 80 columns whose screen is a text."""
    return Console(file=io.StringIO(), force_terminal=True, width=80, _environ={"TERM": "xterm"})


def shown(board: Board, console: Console) -> list[str]:
    """The lines of the live table as they are now, without colours."""
    with console.capture() as capture:
        console.print(board.table())
    return [line.rstrip() for line in ESCAPES.sub("", capture.get()).splitlines()]


def lines(board: Board, console: Console) -> list[str]:
    """What was said where there is no terminal, without the times."""
    assert not board.live
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return [re.sub(r"^\[ *\d+ s\] ", "", line) for line in text.splitlines()]


def test_the_table_has_counts_and_a_line_for_each_worker() -> None:
    """In the order of the workers, with what each is doing and for how long."""
    console = terminal()
    board = Board(0, console, each=True)
    board.expect(40, 3)
    board.stage(1, "import", "B")
    board.stage(0, "import", "A")
    board.stage(0, "probe", "A")
    board.finish("A", "uniform", 4.2)
    board.stage(0, "probe", "C")
    board.finish("X", "conditional", 4.2)
    board.finish("Y", "failed: timeout", 120.0)
    head, first, second = shown(board, console)
    assert head == "3 of 40 done in 0 s  1 uniform  1 conditional  1 failed"
    assert re.fullmatch(r". probing C \(2 of 40\) +0 s", first)
    assert re.fullmatch(r". starting vLLM in the serving environment \(10 to 40 s\), worker 2 +0 s", second)


def test_a_worker_without_a_job_has_no_line() -> None:
    """Its last result takes it off the table; a job it began meanwhile stays."""
    console = terminal()
    board = Board(2, console, each=True)
    board.stage(0, "probe", "A")
    board.stage(1, "probe", "B")
    board.finish("A", "uniform", 1.0)
    assert [line.split()[2] for line in shown(board, console)[1:]] == ["B"]
    board.stage(1, "probe", "C")
    board.finish("B", "uniform", 1.0)
    assert [line.split()[2] for line in shown(board, console)[1:]] == ["C"]


def test_one_model_is_one_line() -> None:
    """Counts would say nothing."""
    console = terminal()
    board = Board(1, console, each=False)
    board.stage(0, "import", "A")
    (line,) = shown(board, console)
    assert "starting vLLM" in line


def test_the_table_stays_small() -> None:
    """Many workers and long names fit a terminal of 80 columns and 15 lines."""
    console = terminal()
    board = Board(400, console, each=True)
    for worker in range(64):
        board.stage(worker, "probe", f"{worker}/" + "long" * 40)
    found = shown(board, console)
    assert len(found) <= 15
    assert max(map(len, found)) <= 80
    assert found[-1] == "  and 52 workers more"


def test_names_are_shown_as_they_are() -> None:
    """Brackets in a path are not markup."""
    console = terminal()
    board = Board(1, console, each=False)
    board.stage(0, "probe", "models/[red]x[/]")
    assert "models/[red]x[/] (1 of 1)" in shown(board, console)[0]


def test_lines_without_a_terminal() -> None:
    """Stages, and verdicts only if asked for."""
    console = Console(file=io.StringIO(), width=20)
    board = Board(2, console, each=True)
    board.stage(0, "probe", "models/[red]x[/] with a long name")
    board.finish("A", "uniform", 4.25)
    assert lines(board, console) == [
        "probing models/[red]x[/] with a long name (1 of 2)",
        "A: uniform (4.2 s; 1 of 2 done)",
    ]
    quiet = Board(2, Console(file=io.StringIO()), each=False)
    quiet.finish("A", "uniform", 4.25)
    assert lines(quiet, quiet._console) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7200, "120 min 00 s")],
)
def test_durations(seconds: float, text: str) -> None:
    """Seconds, and minutes from one minute on."""
    assert duration(seconds) == text


def stopped_while_probing() -> None:
    """Begin, and be stopped after the table was drawn a few times."""
    with probing(3) as board:
        board.stage(0, "probe", "A")
        time.sleep(0.6)
        raise KeyboardInterrupt


def test_the_live_table_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if an error ends the probe; what remains of it is blank."""
    console = terminal()
    monkeypatch.setattr("tuner.cli.progress.Console", lambda **_: console)
    with pytest.raises(KeyboardInterrupt):
        stopped_while_probing()
    screen = console.file.getvalue()  # type: ignore[attr-defined]
    assert "probing A (1 of 3)" in screen
    assert screen.rstrip().endswith("\x1b[2K")


def test_a_step_shows_its_seconds_and_the_last_line_of_the_engine() -> None:
    """The line is cut to the width, and goes with its step."""
    console = terminal()
    work = Work(console)
    work("starting the engine [eager]")
    work.log_line("INFO Loading weights took 3.1 s " + "x" * 200)
    first, second = drawn(work, console)
    assert re.fullmatch(r". starting the engine \[eager\] 0:00:00", first)
    assert second.startswith("INFO Loading weights took 3.1 s xxx")
    assert len(second) == 80
    work("second start")
    (line,) = drawn(work, console)
    assert re.fullmatch(r". second start 0:00:00", line)


def drawn(work: Work, console: Console) -> list[str]:
    """The lines on the screen, without colours."""
    with console.capture() as capture:
        console.print(work.display())
    return [line.rstrip() for line in ESCAPES.sub("", capture.get()).splitlines() if line.strip()]


def test_lines_of_an_engine_are_rare_without_a_terminal() -> None:
    """A step is a line; of the engine's lines one in ten seconds, in 80 columns and without control characters."""
    console = Console(file=io.StringIO(), width=20)
    work = Work(console)
    work("starting")
    work.log_line("\x1b[31mLoading " + "y" * 200)
    work.log_line("another")
    first, second = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first == "[    0 s] starting"
    assert second.startswith("[    0 s] vLLM: ")
    assert "Loading yyy" in second
    assert "\x1b" not in second
    assert len(second) <= 80


def test_a_growing_log_tells_its_last_line_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a line that is new, without secrets, and nothing of a log that is not there yet."""
    monkeypatch.setattr("tuner.processes.log_tail.TELL_S", 0.0)
    log, heard = tmp_path / "log", list[str]()
    lines = LastLines(log, ["hunter2hunter2"])
    lines.tell(heard.append)
    log.write_text("first\nwith hunter2hunter2\n")
    lines.tell(heard.append)
    lines.tell(heard.append)
    assert heard == ["with ***"]
