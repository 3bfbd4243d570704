"""What every page of evidence is made with: commands run, commands shown, tables, the page itself."""

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
    """A script's own words, and those behind `--`, which are vLLM's."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def run(*command: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository's root; stdout and stderr apart."""
    environment = {**os.environ, **SERVER_ENVIRONMENT, **(extra or {})}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)


def write(name: str, *parts: str) -> None:
    """Put a page in place whole, its parts with a line between."""
    draft = PAGES / f".{name}.draft"
    draft.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    draft.replace(PAGES / name)


def footer(target: str) -> str:
    """The last line of a page: this machine, and the target that made the page."""
    cores, version = os.cpu_count(), platform.python_version()
    return f"Made on {platform.machine()}, {cores} cores, no GPU, Python {version}, by `make {target}`."


def bare(text: str) -> str:
    """Text without the folders of the machine that said it: of the repository, and up to where a package lies."""
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
