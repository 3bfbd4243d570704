"""The documentation site: it is built without a broken link, fetches nothing, and names every command."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tuner.cli.app import app

ROOT = Path(__file__).parents[1]
BUILD_LIMIT_S = 400  # 5 s on an idle machine; a busy one took 120 s
FETCHED = re.compile(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=[\"']?((?:https?:)?//[^\s\"'>]+)")


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that a user can type, with its words."""
    for name, below in getattr(command, "commands", {}).items():
        yield (*words, name), below
        yield from commands(below, (*words, name))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it; a link or an anchor that leads nowhere ends the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--quiet", "--site-dir", folder]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=BUILD_LIMIT_S)
    assert process.returncode == 0, process.stderr
    return folder


def test_every_page_is_in_the_site(site: Path) -> None:
    """A page that is new in docs/ is built without a change elsewhere."""
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*.md")}
    assert len(pages) > 100
    for page in pages:
        name = "index.html" if page.name == "README.md" else f"{page.stem}.html"
        assert (site / page.parent / name).is_file(), page


def test_every_page_is_in_the_contents(site: Path) -> None:
    """What the table of contents lacks nobody opens."""
    contents = (site / "index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="([^"#]+\.html)"', contents))
    built = {str(page.relative_to(site)) for page in site.rglob("*.html")} - {"404.html", "index.html"}
    assert built - linked == set()


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    """Who reads it tells no third party."""
    fetched = {url for page in site.rglob("*.html") for url in FETCHED.findall(page.read_text(encoding="utf-8"))}
    assert fetched == set()


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    """The page is made of the commands themselves, so one that is new is on it."""
    text = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for words, command in commands(typer.main.get_command(app)):
        if command.hidden:
            continue
        title = f"<code>tuner {' '.join(words)}</code>"
        assert title in text, title
        section = text.partition(title)[2].partition("<h2")[0]
        options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
        hidden = {
            name for parameter in command.params if getattr(parameter, "hidden", False) for name in parameter.opts
        }
        assert [name for name in sorted(options - hidden) if name not in section] == [], words


def test_the_members_of_the_document_are_on_their_page(site: Path) -> None:
    """A reader of the JSON finds each member's type and meaning."""
    text = (site / "reference" / "document.html").read_text(encoding="utf-8")
    assert "<code>holds_for</code>" in text
    assert "SHA-256 over all of the configuration that could matter." in text
