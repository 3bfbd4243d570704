"""A build of the project holds all of it."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("cache", "rules", "tuner")
DATA = (".py", ".json", ".html", ".css")


def test_a_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    """What runs from the repository runs from a wheel too: workers and tables are files among the modules."""
    copied = tmp_path / "project"
    copied.mkdir()
    files = subprocess.run(["git", "ls-files", *PACKAGES, "pyproject.toml", "README.md", "LICENSE"], cwd=ROOT,
                           check=True, capture_output=True, text=True).stdout.split()  # fmt: skip
    for name in files:
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes((ROOT / name).read_bytes())

    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", tmp_path]
    subprocess.run([*command, copied], check=True, capture_output=True)

    held = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    wanted = {name for name in files if name.split("/")[0] in PACKAGES and name.endswith(DATA)}
    assert len(wanted) > 150
    assert wanted <= held
