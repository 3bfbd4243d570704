"""Make .envs/parsers: the Python files of further vLLM releases, so that tests can ask their `vllm serve` parsers.

    python3 environments/make_parsers.py [--all]

Needs the tool's environment, whose uv fetches the wheels that `parsers.txt` pins and hashes: 0.34 GB of downloads, of
which the Python files stay, 0.1 GB. With `--all` those of `option_parsers.txt` too, every other release from 0.14.1 on:
2 GB of downloads more, of which 0.7 GB stay; `tools/make_release_options.py` reads them. They run on the torch and the
libraries of .envs/flag-live or .envs/current, put in front of that environment's own vLLM with PYTHONPATH; nothing in
them is replaced. A second call finds them ready.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

from make_environment import ENVIRONMENTS, HERE, ROOT, SetupError, locked, run

PINS = HERE / "parsers.txt"
OPTION_PINS = HERE / "option_parsers.txt"
PARSERS = ROOT / ".envs" / "parsers"
UV = ENVIRONMENTS["tool"].folder / "bin" / "uv"


def main() -> int:
    """Make every release of the pins that is not there; 0 when all are, 1 with a sentence when not."""
    files = (PINS, OPTION_PINS) if "--all" in sys.argv[1:] else (PINS,)
    if not UV.exists():
        print("error: the parsers were not made: the tool's environment is missing; make setup-tool", file=sys.stderr)
        return 1
    try:
        with locked(ROOT / ".envs"):
            for file in files:
                for version, pins in pins_by_version(file.read_text(encoding="utf-8")).items():
                    make(PARSERS / version, pins)
    except (SetupError, OSError) as error:
        print(f"error: the parsers were not made: {error}", file=sys.stderr)
        return 1
    return 0


def pins_by_version(requirements: str) -> dict[str, str]:
    """Version -> its lines of a hashed requirement file that pins one package in several versions.

    What is pinned behind a version belongs to it.
    """
    blocks = re.split(r"^(?=vllm(?:-cpu)?==)", requirements, flags=re.MULTILINE)[1:]
    return {block.split()[0].partition("==")[2]: block for block in blocks}


def make(folder: Path, pins: str) -> None:
    """Put the Python files of vLLM's wheel into `folder`, and other packages whole; moved there last, so never half."""
    if folder.exists():
        print(f"parsers: ready in {folder}", flush=True)
        return
    print(f"parsers: making {folder}", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        requirements, whole, kept = Path(scratch) / "pins.txt", Path(scratch) / "whole", Path(scratch) / "kept"
        requirements.write_text(pins, encoding="utf-8")
        exactly = ("--no-deps", "--only-binary", ":all:", "--require-hashes", "-r", requirements)
        run("uv", UV, "pip", "install", "--quiet", "--python", sys.executable, "--target", whole, *exactly)
        for file in sorted((whole / "vllm").rglob("*.py")):
            target = kept / file.relative_to(whole)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
        for other in sorted(whole.iterdir()):
            if other.is_dir() and other.name != "bin" and not other.name.startswith("vllm"):
                shutil.copytree(other, kept / other.name)
        kept.rename(folder)


if __name__ == "__main__":
    sys.exit(main())
