"""Names of others neither begin a line of ours nor move the cursor, in whatever a command prints."""

import io
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_environment import ERNIE, MIXTRAL, Serving, sample, tuner
from rich.console import Console

from rules.errors import ErrorKind, TunerError
from tuner.cli.output import complain
from tuner.cli.progress import Board, working
from tuner.probe.models import Probed
from tuner.probe.text import probed_text
from tuner.text import columns, line

FORGED = "n\nverdict       forged\x1b[31m\x1b]0;pwn\x07\u202ex"
"""A line of our own, a colour, a window's title, and text from right to left."""
ESCAPED = r"n\nverdict       forged\x1b[31m\x1b]0;pwn\x07\u202ex"


def shows_no_control(text: str) -> bool:
    """Whether every line of a text is printable."""
    return all(row.isprintable() for row in text.split("\n"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model whose folder has such a name."""
    folder = tmp_path / FORGED
    shutil.copytree(MIXTRAL, folder)
    return folder


@pytest.mark.parametrize("command", ["verdict", "plan", "serve"])
def test_a_models_name_is_shown_escaped(serving: Serving, store: Path, model: Path, command: str) -> None:
    """On both streams, with a verdict and without."""
    options = ["--dry-run"] if command == "serve" else []
    for path in (store, serving.store_of(store, MIXTRAL)):
        answer = tuner(command, "--python", serving.python, "--store", path, *options, model)
        assert shows_no_control(answer.out)
        assert shows_no_control(answer.err)
        assert "\nverdict       forged" not in answer.out


def test_a_dry_run_prints_the_very_command(serving: Serving, store: Path, model: Path) -> None:
    """A shell reads the escaped line as the arguments that the server gets."""
    answer = tuner("serve", "--python", serving.python, "--store", store, "--dry-run", model)
    printed = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {answer.out}"], capture_output=True, text=True, check=True
    ).stdout.split("\0")
    assert str(model) in printed


def test_an_error_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Message and hint; a hint of several lines, as the end of a log, stays indented."""
    complain(f"{FORGED} is not here.", f"The end of its log:\n  {FORGED}")
    message, *hint = capsys.readouterr().err.splitlines()
    assert message == f"tuner: {ESCAPED} is not here."
    assert all(row.startswith("  ") and row.isprintable() for row in hint)


def test_a_missing_model_is_named_escaped(serving: Serving, store: Path, tmp_path: Path) -> None:
    """In the sentence that refuses it."""
    answer = tuner("verdict", "--python", serving.python, "--store", store, tmp_path / FORGED, code=1)
    assert shows_no_control(answer.err)
    assert ESCAPED in answer.err


def test_labelled_lines_and_columns_are_escaped() -> None:
    """So every table is: of verdicts, of cache entries, of facts of a log."""
    assert line("model", FORGED) == f"model         {ESCAPED}"
    assert columns([("A", "B"), (FORGED, "b")]).split("\n")[1] == f"{ESCAPED}  b"


def test_stored_names_are_shown_escaped(serving: Serving, store: Path, tmp_path: Path) -> None:
    """Of verdicts: the list, and one of them whole."""
    folder = tmp_path / FORGED
    shutil.copytree(ERNIE, folder)
    entry, _ = serving.remember(store, folder, sample(ERNIE, "flag-live"))
    for words in (["verdicts", "list"], ["verdicts", "show", entry.digest]):
        answer = tuner(*words, "--store", store, code=0)
        assert shows_no_control(answer.out)
        assert "[31m" in answer.out


def test_a_probes_table_is_escaped() -> None:
    """The name of a model that failed, and why."""
    probed = Probed(FORGED, None, None, None, TunerError(f"{FORGED} hangs.", kind=ErrorKind.TIMEOUT))
    assert shows_no_control(probed_text([probed]))


def test_the_progress_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no terminal and where there is one."""
    file = io.StringIO()
    board = Board(1, Console(file=file), each=True)
    board.stage(0, "probe", FORGED)
    board.finish(FORGED, "uniform", 1.0)
    with monkeypatch.context() as patched:
        patched.setattr("tuner.cli.progress.Console", lambda **_: Console(file=file))
        with working() as show:
            show(FORGED)
    assert shows_no_control(file.getvalue())
    assert file.getvalue().count(ESCAPED) == 3
    terminal = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=400)
    live = Board(1, terminal, each=True)
    live.stage(0, "probe", FORGED)
    with terminal.capture() as captured:
        terminal.print(live.table())
    assert ESCAPED in captured.get()
