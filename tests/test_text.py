"""Tables and sentences for people: they fit the terminal, and names stay as they are."""

import io
import shlex

import pytest

from tuner.checks.rules.rule import sentence
from tuner.text import LABEL, columns, folded, folded_command, line

HEAD = ("KEY", "VERDICT", "ARCHITECTURE", "NOTE")
ROWS = [
    HEAD,
    ("efdc6ee1a6a5", "conditional", "Ernie4_5_VLMoeForConditionalGeneration", "which MoE layers are called differs"),
    ("ca8c55f09e10", "uniform", "Qwen3MoeForCausalLM", "the code that vLLM compiles calls every MoE layer once"),
]


def test_a_table_that_fits_stays_as_it_is() -> None:
    """One line a row, and nothing is padded at its end."""
    table = columns(ROWS, 200)
    assert table == columns(ROWS)  # the output of a test is not a terminal
    assert len(table.splitlines()) == 3
    assert all(line == line.rstrip() for line in table.splitlines())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_a_table_fits_every_width(width: int) -> None:
    """No line is longer, and no character of a cell is lost."""
    table = columns(ROWS, width)
    assert max(map(len, table.splitlines())) <= width
    heads = 2 if width == 40 else 1  # blocks repeat the head
    cells = [*HEAD * heads, *ROWS[1], *ROWS[2]]
    assert sorted("".join(table.split())) == sorted("".join("".join(cells).split()))


def test_a_narrow_table_is_folded_by_its_widest_columns() -> None:
    """Short columns keep their width, and long cells go on below."""
    lines = columns(ROWS, 80).splitlines()
    assert lines[0].split() == list(HEAD)
    assert lines[1].startswith("efdc6ee1a6a5  conditional  Ernie4_5")
    assert lines[2].startswith(" " * 27)


def test_optional_columns_go_before_the_others_are_folded() -> None:
    """The least needed first, and only where the table does not fit."""
    assert columns(ROWS, 200, optional=("NOTE",)) == columns(ROWS, 200)
    lines = columns(ROWS, 80, optional=("NOTE", "VERDICT")).splitlines()
    assert lines[0].split() == ["KEY", "VERDICT", "ARCHITECTURE"]
    assert len(lines) == 3


def test_a_table_that_cannot_be_folded_is_written_in_blocks() -> None:
    """Each row as lines of a head and its cell, an empty line between two rows."""
    heads = tuple(f"HEAD{number}" for number in range(8))
    table = columns([heads, tuple("cell" for _ in heads), tuple("other" for _ in heads)], 40)
    first, second = table.split("\n\n")
    assert first.splitlines()[0] == "HEAD0  cell"
    assert second.splitlines()[-1] == "HEAD7  other"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mistralai/Mixtral-8x7B-v0.1 has no verdict", "mistralai/Mixtral-8x7B-v0.1 has no verdict."),
        ("gpt-oss-20b: it is not known", "gpt-oss-20b: it is not known."),
        ("cudagraph_mode is set", "cudagraph_mode is set."),
        ("tensor-parallel ranks differ", "Tensor-parallel ranks differ."),
        ("the launch is hidden.", "The launch is hidden."),
    ],
)
def test_names_keep_their_case_at_the_start_of_a_sentence(text: str, said: str) -> None:
    """The id of a model in other letters would be another model."""
    assert sentence(text) == said


class Terminal(io.StringIO):
    """A stream that says that it is a terminal; `COLUMNS` says how wide."""

    def isatty(self) -> bool:
        """As a terminal answers."""
        return True


PROSE = "the code that vLLM compiles calls every MoE layer once; `tuner probe MODEL -- --seed 0` proves it again"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_labelled_line_folds_beside_its_label(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word is there, and a command between backquotes is on one line."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout", Terminal())
    rows = line("reasons", PROSE).splitlines()
    assert max(map(len, rows)) <= max(width, LABEL + len("`tuner probe MODEL -- --seed 0`"))
    assert [row[:LABEL].strip() for row in rows] == ["reasons"] + [""] * (len(rows) - 1)
    assert " ".join(row[LABEL:] for row in rows) == PROSE
    assert (len(rows) == 1) == (width == 200)
    assert any("`tuner probe MODEL -- --seed 0`" in row for row in rows)


def test_a_pipe_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs read lines, and know no width."""
    monkeypatch.setenv("COLUMNS", "40")
    assert line("reasons", PROSE) == f"{'reasons':<{LABEL}}{PROSE}"
    assert folded(PROSE) == PROSE
    assert folded_command("vllm serve " + "x " * 60 + "y", "launch").count("\n") == 0


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_folded_command_is_the_same_command(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied from the terminal can be pasted into a shell; a long word stays whole."""
    words = ["vllm", "serve", "a model", "--served-model-name", "it's", "--x", '{"a": "b c"}', "/a/path" * 12]
    command = f"A=1 {shlex.join(words)} $'tab\\011'"
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout", Terminal())
    text = folded_command(command, "launch")
    rows = text.splitlines()
    assert all(row.endswith(" \\") for row in rows[:-1])
    assert all(len(row) <= width for row in rows if "/a/path" not in row)
    assert shlex.split(text.removeprefix("launch").replace(" \\\n", " ")) == shlex.split(command)


def test_a_path_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line break within it could not be copied."""
    monkeypatch.setenv("COLUMNS", "40")
    path = "/a/very-long/path" * 5
    assert path in folded(f"There is no folder {path}.", stream=Terminal())
