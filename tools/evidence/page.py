"""Helpers of all pages of evidence: they run commands, show commands, make tables, and write the page."""

import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

from vllm_server import SERVER_ENVIRONMENT

from tools.evidence import ROOT

PAGES = ROOT / "docs" / "evidence"
TUNER = str(Path(sys.executable).with_name("tuner"))


def python_of(environment: str) -> str:
    """The interpreter of a serving environment, relative to the repository."""
    return f".envs/{environment}/bin/python"


def split_words(words: list[str]) -> tuple[list[str], list[str]]:
    """The words of a script itself, and those behind `--`, which are for vLLM."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def run(*command: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository's root, with stdout and stderr captured separately."""
    environment = {**os.environ, **SERVER_ENVIRONMENT, **(extra or {})}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)


def write(name: str, *parts: str) -> None:
    """Write a page, with an empty line between its parts. It replaces the old page at once."""
    draft = PAGES / f".{name}.draft"
    draft.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draft.replace(PAGES / name)


def footer(target: str) -> str:
    """The last line of a page: this machine, and the make target of the page."""
    cores, version = os.cpu_count(), platform.python_version()
    return f"Made on {platform.machine()}, {cores} cores, no GPU, Python {version}, by `make {target}`."


def bare(text: str) -> str:
    """Text without folders of this machine: that of the repository, and those in which packages are installed."""
    return re.sub(r"/[\w./+-]*/(?:site-packages|site)/", "", text).replace(f"{ROOT}/", "")


def shell_block(*command: str) -> str:
    """A command as a fenced block."""
    return f"```sh\n{shlex.join(command)}\n```".replace("'examples/models/*'", "examples/models/*")


def table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(map(table_line, lines))


def table_line(cells: tuple[str, ...]) -> str:
    """A line of a Markdown table; a bar in a cell would end the cell."""
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
