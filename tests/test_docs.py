"""What the documents promise exists, and what exists is in the documents."""

import re
from pathlib import Path

import pytest
import typer
from packaging.version import Version

from rules.errors import ErrorKind
from rules.releases import OFFICIAL_TORCH, RELEASES, Counter, FlagStatus, Release
from rules.verdict import Word
from tuner.cli.app import app
from tuner.errors import ExitCode
from tuner.exports.formats import Format

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {file.name: file.read_text(encoding="utf-8") for file in sorted((ROOT / "docs" / "reference").glob("*.md"))}
REFERENCE = "\n".join(PAGES.values())
MARKDOWN = [file.relative_to(ROOT) for file in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
SHARED_OPTIONS = {"--help", "--python", "--store", "--json", "--environment", "--revision", "--model-impl"}
"""Explained once for all commands, or by vLLM's own documentation."""
MAX_README_LINES = 150
"""What is longer belongs into the reference."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_section(name: str) -> None:
    """A command that nobody can find does not exist: it has a heading in the reference, and a row in the README."""
    assert re.search(rf"^##? .*`tuner {name}\b", REFERENCE, re.MULTILINE)
    assert f"[`tuner {name}`](docs/reference/" in README


@pytest.mark.parametrize("group", ["cache", "verdicts"])
def test_every_command_of_a_group_is_named(group: str) -> None:
    """The headings of a group's page name its commands."""
    headings = "\n".join(re.findall(rf"^##? .*`tuner {group} .*", REFERENCE, re.MULTILINE))
    for name in COMMANDS[group].commands:
        assert re.search(rf"\b{name}\b", headings), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_its_own_is_explained(name: str) -> None:
    """Options that change what a command does are in the reference."""
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts if option[:2] == "--"}
    assert [option for option in sorted(options - SHARED_OPTIONS) if option not in REFERENCE] == []


def test_verdicts_statuses_formats_and_exit_codes_are_explained() -> None:
    """Every word that scripts may meet is in a table or list."""
    for page, words in (("verdicts.md", Word), ("flag.md", FlagStatus), ("export.md", Format)):
        assert [word for word in words if f"`{word}`" not in PAGES[page]] == []
    assert [code for code in ExitCode if not re.search(rf"^\| {code} \|", PAGES["exit-codes.md"], re.MULTILINE)] == []


def test_the_table_of_kinds_is_that_of_the_enum() -> None:
    """Every kind of failure is described once, and no other."""
    table = PAGES["json.md"].partition("## Kinds of failure")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(ErrorKind)


def test_the_readme_is_short() -> None:
    """A newcomer reads it whole."""
    assert len(README.splitlines()) <= MAX_README_LINES


def test_every_make_target_that_is_named_exists() -> None:
    """Commands to copy from the README work."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert named
    assert named <= set(targets)


def test_every_relative_path_that_is_named_exists() -> None:
    """Links and paths into the repository lead somewhere."""
    paths = set(re.findall(r"\b((?:docs|examples|tests|benchmarks)/[\w./-]*\w)", README))
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", sorted(MARKDOWN), ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A link to another file of the repository is relative to the page that holds it."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / page.parent / link).exists()] == []


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


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.version)
def test_the_readme_says_which_releases_are_affected(release: Release) -> None:
    """Its first table agrees with the table of releases, with the torch of each release's own builds."""
    rows = [line.split(" | ") for line in README.splitlines() if re.match(r"\| (before )?0\.\d+", line)]
    assert len(rows) == 5
    minor = int(release.version.split(".")[1])
    starts = [int(re.search(r"0\.(\d+)", row[0])[1]) for row in rows]  # type: ignore[index]  matched above
    (_, on_gpu, on_cpu, _) = (
        rows[0] if minor < starts[0] else rows[max(place for place in range(1, 5) if starts[place] <= minor)]
    )

    old_torch = Version(OFFICIAL_TORCH[release.version]) < Version("2.11")
    for cell, counter in ((on_gpu, release.gpu), (on_cpu, release.cpu)):
        counts = counter in {Counter.ALWAYS, Counter.FLAG} or (counter is Counter.FLAG_OLD_TORCH and old_torch)
        assert cell.startswith("**yes**") is counts, cell
