"""What commands write on a terminal fits its width; to a pipe each sentence is one line."""

from pathlib import Path

import pytest
from fake_environment import INERT, MIXTRAL, serving_in, tuner
from terminal import on_terminal

WIDTHS = (40, 80, 200)
LOG = Path(__file__).parent / "server_logs" / "0.26.0-loaded.log"
MANIFEST = Path(__file__).parent.parent / "examples" / "deployment.yaml"


def too_long(lines: list[str], columns: int) -> list[str]:
    """Lines beyond the width; what has no blank beside its label or indent cannot be folded."""
    return [line for line in lines if len(line.removesuffix(" \\")) > columns and " " in line[14:].rstrip(" \\")]


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_environment_and_a_plan_fit(columns: int, tmp_path: Path) -> None:
    """Labels, reasons, a command, and the paths that nobody can fold."""
    python = serving_in(tmp_path, INERT).python
    for command in (("env",), ("plan", MIXTRAL)):
        lines = on_terminal(*command, "--python", python, columns=columns)
        assert too_long(lines, columns) == []
        assert len(lines) > 5


@pytest.mark.parametrize("columns", WIDTHS)
def test_findings_fit(columns: int) -> None:
    """Further lines are set in, so that each finding begins with its place."""
    lines = on_terminal("check", MANIFEST, columns=columns, code=1)
    assert [line for line in lines if len(line) > columns and " " in line.strip()] == []
    findings = [line for line in lines if line.startswith(str(MANIFEST))]
    assert len(findings) == len([line for line in tuner("check", MANIFEST, code=1).out.splitlines() if ": [" in line])


@pytest.mark.parametrize("columns", WIDTHS)
def test_an_error_and_its_way_out_fit(columns: int) -> None:
    """The way out is set in."""
    lines = on_terminal("check", MANIFEST, "--select", "nosuch", columns=columns, code=2)
    assert lines[0].startswith("tuner: There is no rule nosuch.")
    assert max(map(len, lines)) <= columns
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_log_that_is_compared_fits(columns: int) -> None:
    """Its table and what stands below it."""
    assert too_long(on_terminal("confirm", LOG, columns=columns), columns) == []


@pytest.mark.parametrize("columns", WIDTHS)
def test_a_faulty_call_fits(columns: int) -> None:
    """The example of a right call stays whole."""
    lines = on_terminal("plan", MIXTRAL, "--max-model-len", "3", columns=columns, code=2)
    assert "`tuner plan MODEL -- --max-model-len …`" in "\n".join(lines)
    message = lines[[line.startswith("Error: ") for line in lines].index(True) :]
    assert [line for line in message if len(line) > columns and "`" not in line] == []


def test_a_python_without_vllm_is_told_how_to_name_another() -> None:
    """It says what is missing, not that a version cannot be read."""
    text = tuner("env", "--python", "/usr/bin/python3", code=0).out
    assert "This Python has no vLLM. Name the one that serves: `tuner env --python" in text
    assert "not readable" not in text
