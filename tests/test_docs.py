"""What the README promises exists, and what exists is in the README."""

import re
from pathlib import Path

import pytest
import typer

from rules.releases import FlagStatus
from rules.verdict import Word
from tuner.cli.app import app
from tuner.errors import ExitCode
from tuner.exports.formats import Format

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SHARED_OPTIONS = {"--help", "--python", "--store", "--json", "--environment", "--revision", "--model-impl"}
"""Explained once for all commands, or by vLLM's own documentation."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    """A command that nobody can find does not exist."""
    assert re.search(rf"^### `tuner {name}\b", README, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS["verdicts"].commands)
def test_every_verdicts_command_is_named(name: str) -> None:
    """The group's heading names its commands."""
    assert re.search(rf"^### `tuner verdicts.*`{name}\b|^### `tuner verdicts {name}\b", README, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_its_own_is_explained(name: str) -> None:
    """Options that change what a command does are in the README."""
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option[:2] == "--"}
    assert [option for option in sorted(options - SHARED_OPTIONS) if f"{option}" not in README] == []


def test_verdicts_statuses_formats_and_exit_codes_are_explained() -> None:
    """Every word that scripts may meet is in a table or list."""
    words = [*Word, *FlagStatus, *Format]
    assert [word for word in words if f"`{word}`" not in README and word not in README.split("--format ")[1]] == []
    assert [code for code in ExitCode if not re.search(rf"\b{code} [a-z]", README.split("## Exit codes")[1])] == []


def test_every_make_target_that_is_named_exists() -> None:
    """Commands to copy from the README work."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= set(targets)


def test_every_relative_path_that_is_named_exists() -> None:
    """Links and paths into the repository lead somewhere."""
    links = set(re.findall(r"\]\(([A-Z][\w./-]+)\)", README))
    paths = set(re.findall(r"\b((?:docs|examples|tests|benchmarks)/[\w./-]*\w)", README))
    assert [path for path in sorted(links | paths) if not (ROOT / path).exists()] == []


def test_every_test_that_the_fault_table_names_exists() -> None:
    """A proof that nobody can run is none; and every fault has one."""
    text = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", text))
    assert len(named) > 50
    missing = [
        f"{file}::{name}"
        for file, name in sorted(named)
        if not (ROOT / "tests" / file).exists() or f"def {name}(" not in (ROOT / "tests" / file).read_text("utf-8")
    ]
    assert missing == []
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| fault", "| ---"))]
    assert [row for row in rows if "`test_" not in row] == []
