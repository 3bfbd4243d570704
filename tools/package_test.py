"""Builds the wheel and the sdist into `dist/`, installs each into an empty environment, and tries its commands.

Usage: python -m tools.package_test
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
UV = str(ROOT / ".venv/bin/uv")
LIMIT_S = 600


def run(*command: object, code: int = 0, folder: Path = ROOT) -> str:
    """The output of a command, which must end with this code.

    Raises:
        SystemExit: it ended with another one.
    """
    words = [str(word) for word in command]
    process = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if process.returncode != code:
        sys.exit(
            f"{' '.join(words)} ended with {process.returncode}, not with {code}:\n{process.stdout}{process.stderr}"
        )
    return process.stdout


def build() -> list[Path]:
    """The sdist and, made from it, the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", DIST)
    packages = sorted([*DIST.glob("*.whl"), *DIST.glob("*.tar.gz")])
    if len(packages) != 2:  # noqa: PLR2004  one of each
        sys.exit(f"{DIST} holds {len(packages)} packages, not a wheel and an sdist")
    return packages


def try_out(package: Path, folder: Path) -> None:
    """Install a package with its extras, and run commands outside of the repository."""
    run(UV, "venv", "--quiet", "--python", sys.executable, folder / "env")
    python = folder / "env/bin/python"
    run(UV, "pip", "install", "--quiet", "--python", python, f"{package}[service,sign]")
    tuner, store = folder / "env/bin/tuner", folder / "verdicts.sqlite"
    version = package.name.split("-")[1].removesuffix(".tar.gz")
    expect(run(tuner, "--version", folder=folder), f"tuner {version}\n")
    for command in commands(tuner, folder):
        run(tuner, *command, "--help", folder=folder)
    run(tuner, "verdicts", "import", ROOT / "docs/catalogue/vllm-0.19.1-cpu.jsonl", "--store", store, folder=folder)
    run(tuner, "verdicts", "show", "Qwen3MoeForCausalLM", "--store", store, folder=folder)
    script = folder / "ask.py"
    script.write_text(run(tuner, "env", "--script", folder=folder))
    run(python, script, folder=folder)


def commands(tuner: Path, folder: Path) -> Sequence[list[str]]:
    """The words of every command that the help lists, commands of groups included."""
    words: list[list[str]] = []
    for name in command_names(run(tuner, "--help", folder=folder)):
        inner = command_names(run(tuner, name, "--help", folder=folder))
        words += [[name, command] for command in inner] or [[name]]
    return words


def command_names(text: str) -> list[str]:
    """The commands in the text of a help, where each begins a line of two columns."""
    return re.findall(r"^  ([a-z][a-z-]*)  +\S", text, re.MULTILINE)


def expect(text: str, expected: str) -> None:
    """End the program if a text is not the expected text."""
    if text != expected:
        sys.exit(f"{text!r} is not {expected!r}")


def main() -> None:
    """Build, and try each package out."""
    for package in build():
        with tempfile.TemporaryDirectory(prefix="tuner-package-") as folder:
            try_out(package, Path(folder))
        print(f"{package.relative_to(ROOT)}: installed and tried out")


if __name__ == "__main__":
    main()
