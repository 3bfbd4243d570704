"""The documentation site: its table of contents, and pages that are made while it is built.

mkdocs loads this file (`hooks` in mkdocs.yml). A page that is new in `docs/` stands in the contents without a change
here. The pages with every command's help and the members of the document are made here; they are not files of the
repository, so they cannot be out of date.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.testing import CliRunner

from tuner.cli.app import app

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCHEMA = DOCS / "schema" / "launch-2.json"
START = ("index.md", "tutorial.md", "glossary.md")
FIRST_HELP = "wrong-answers.md"
MAX_TYPES = 4
"""Alternatives of a member's type that a row names."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the table of contents; mkdocs calls this first."""
    generated = ["reference/commands.md", "reference/document.md"]
    explanations = [page for page in pages("") if page not in {*START, FIRST_HELP}]
    config.nav = [
        {"Start": list(START)},
        {"How to": [FIRST_HELP, *pages("how-to")]},
        {"Reference": [*pages("reference"), *generated, {"Rules of check": pages("rules")}]},
        {"Explanation": [*explanations, {"Decisions": pages("decisions")}]},
        {"Evidence": [*pages("evidence"), *pages("catalogue")]},
    ]
    return config


def pages(folder: str) -> list[str]:
    """The pages of one folder of `docs/`, its README first, as paths below `docs/`."""
    paths = sorted((DOCS / folder).glob("*.md"), key=_readme_first)
    return [str(path.relative_to(DOCS)) for path in paths]


def _readme_first(path: Path) -> tuple[bool, str]:
    return path.name != "README.md", path.name


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; mkdocs calls this once it has listed the files of `docs/`."""
    files.append(File.generated(config, "reference/commands.md", content=commands_page()))
    files.append(File.generated(config, "reference/document.md", content=document_page()))
    return files


def commands_page() -> str:
    """The help of every command, as `--help` prints it."""
    parts = ["# Every command and option\n", "What each command prints for `--help`.\n"]
    runner = CliRunner()
    for words in commands(typer.main.get_command(app), ()):
        text = runner.invoke(app, [*words, "--help"], prog_name="tuner", env={"COLUMNS": "80"}).stdout
        parts.append(f"## `tuner {' '.join(words)}`\n\n```text\n{text.strip()}\n```\n")
    return "\n".join(parts)


def commands(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The words of a command and of all below it, in the order of its help."""
    if words:
        yield words
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from commands(below, (*words, name))


def document_page() -> str:
    """The members of the JSON document, as its schema describes them."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = [
        "# The JSON document, member by member\n",
        "From the [schema](../schema/launch-2.json). [json.md](json.md) says how to read the document.\n",
    ]
    for name, definition in schema["$defs"].items():
        members = definition.get("properties", {})
        if not members:
            continue
        rows = "\n".join(_row(member, facts, definition) for member, facts in members.items())
        text = definition.get("description", "")
        parts.append(f"## `{name}`\n\n{text}\n\n| member | type | what it is |\n| --- | --- | --- |\n{rows}\n")
    return "\n".join(parts)


def _row(member: str, facts: dict[str, Any], definition: dict[str, Any]) -> str:
    """One member as a row of a table."""
    optional = "" if member in definition.get("required", ()) else "; may be left out"
    text = facts.get("description", "").replace("|", "\\|").replace("<", "&lt;")
    return f"| `{member}` | {_type(facts)}{optional} | {text} |"


def _type(facts: dict[str, Any]) -> str:
    """The type of a member in words. A definition of the schema is named."""
    if "$ref" in facts:
        return f"`{facts['$ref'].rpartition('/')[2]}`"
    if "const" in facts:
        return f"`{json.dumps(facts['const'])}`"
    if "enum" in facts:
        return ", ".join(f"`{json.dumps(value)}`" for value in facts["enum"])
    for joined in ("oneOf", "anyOf", "allOf"):
        if joined in facts:
            return " or ".join(_type(choice) for choice in facts[joined][:MAX_TYPES])
    kinds = facts.get("type", "any")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "array" in kinds and "items" in facts:
        return " or ".join(kinds).replace("array", f"array of {_type(facts['items'])}")
    return " or ".join(kinds)
