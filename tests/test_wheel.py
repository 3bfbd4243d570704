"""A build of the project holds all of it, and says what it is."""

import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tuner import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cache", "rules", "tuner")
DATA = (".py", ".json", ".html", ".css")


@pytest.fixture(scope="module")
def files() -> list[str]:
    """The files of which the wheel is built."""
    wanted = [*PACKAGES, "pyproject.toml", "README.md", "LICENSE"]
    process = subprocess.run(["git", "ls-files", *wanted], cwd=ROOT, check=True, capture_output=True, text=True)
    return process.stdout.split()


@pytest.fixture(scope="module")
def wheel(files: list[str], tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel of a copy of these files."""
    folder = tmp_path_factory.mktemp("wheel")
    copied = folder / "project"
    for name in files:
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", folder]
    subprocess.run([*command, copied], check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_a_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile, files: list[str]) -> None:
    """What runs from the repository runs from a wheel too: workers and tables are files among the modules."""
    held = set(wheel.namelist())
    wanted = {name for name in files if name.split("/")[0] in PACKAGES and name.endswith(DATA)}
    assert len(wanted) > 150
    assert wanted <= held


def metadata(wheel: zipfile.ZipFile, name: str) -> bytes:
    """A file of the wheel's description of itself."""
    (path,) = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path)


def test_a_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    """Name, version, licence, Pythons, extras, the README as its page, and one command."""
    facts = message_from_bytes(metadata(wheel, "METADATA"))
    assert (facts["Name"], facts["Version"]) == ("vllm-moe-tuner", __version__)
    assert (facts["License-Expression"], facts["License-File"]) == ("Apache-2.0", "LICENSE")
    assert (facts["Requires-Python"], facts["Description-Content-Type"]) == (">=3.11", "text/markdown")
    assert {"service", "sign"} <= set(facts.get_all("Provides-Extra", []))
    assert "Programming Language :: Python :: 3.13" in facts.get_all("Classifier", [])
    assert "fast_moe_cold_start" in facts["Summary"]
    assert str(facts.get_payload()).startswith("# vLLM MoE launch tuner")
    assert b"tuner = tuner.__main__:main" in metadata(wheel, "entry_points.txt")


def test_the_changelog_begins_with_this_version() -> None:
    """What is built is what is described."""
    heads = [line for line in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines() if line[:3] == "## "]
    assert heads[0].startswith(f"## {__version__}")
