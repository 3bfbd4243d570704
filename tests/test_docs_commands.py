"""Commands in the documents can be typed: each parses, and those of one page are run from top to bottom."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tuner.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
]
BLOCK = re.compile(r"^```(sh|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPERATORS = {"|", "||", "&&", ";", ">", ">>", "<", "2>", "&"}
RUN_LIMIT_S = 120


def lines_of(page: Path) -> Iterator[str]:
    """Each command line of a page's blocks, with continued lines joined."""
    for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        text = block.replace("\\\n", " ")
        if kind == "console":
            text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
        yield from text.splitlines()


def tuner_commands(line: str) -> Iterator[list[str]]:
    """What stands behind each `tuner` of a line, up to the next operator of the shell."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(lexer)
    while "tuner" in words:
        words = words[words.index("tuner") + 1 :]
        end = next((place for place, word in enumerate(words) if word in OPERATORS), len(words))
        yield words[:end]
        words = words[end:]


def cases() -> list[Any]:
    """Every command of every page."""
    return [
        pytest.param(command, id=f"{page.relative_to(ROOT)}: {shlex.join(command)}"[:120])
        for page in PAGES
        for line in lines_of(page)
        for command in tuner_commands(line)
    ]


@pytest.mark.parametrize("words", cases())
def test_a_command_of_the_documents_parses(words: list[str]) -> None:
    """The command exists, takes these options, and has all that it needs; nothing is run."""
    command = typer.main.get_command(app)
    context = command.make_context("tuner", list(words))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


def test_the_laptop_page_runs(tmp_path: Path) -> None:
    """Its commands need no vLLM: they run from top to bottom in a folder with the examples and the catalogue."""
    for name in ("examples", "docs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    blocks = [block for kind, block in BLOCK.findall((ROOT / "docs/how-to/laptop.md").read_text()) if kind == "sh"]
    assert len(blocks) == 4
    variables = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    # A catalogue that an older probe made has verdicts of another release: `plan` then ends with 3.
    without_verdict = re.sub(
        r"^tuner (plan|verdict|export) .*", r"\g<0> || test $? = 3", "\n".join(blocks), flags=re.MULTILINE
    )
    process = subprocess.run(
        ["bash", "-euxc", without_verdict],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )

    assert process.returncode == 0, process.stderr
    assert re.search(r"^verdict +(uniform|none stored)$", process.stdout, re.MULTILINE)
    assert '"fast_moe_cold_start": ' in (tmp_path / "config.yaml").read_text()
    assert "2 errors" in process.stdout
