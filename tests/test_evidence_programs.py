"""The programs that write the pages of evidence, as far as they can be tried in seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = sorted(path.stem for path in (ROOT / "tools" / "evidence").glob("make_*.py"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_finds_what_it_imports(name: str) -> None:
    """Most of them run for minutes or hours, so a moved name would be seen late."""
    command = [sys.executable, "-c", f"import tools.evidence.{name}"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
