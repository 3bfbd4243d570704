"""The verdict key: everything that decides whether a stored verdict applies, gathered by reading files."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from msgspec import Struct

import rules
from cache.key import digest
from tuner.environment.environment import Environment
from tuner.model.model import Model
from tuner.model.remote_code import code_digest, code_files
from tuner.untrusted.files import read_plain

_TUNER = Path(__file__).parents[1]
WORKER = _TUNER / "probe" / "worker" / "moe_probe_worker"
LAUNCH_WORKER = _TUNER / "engines" / "worker" / "vllm_launch_worker"
ARM_WORKER = _TUNER / "engines" / "worker" / "vllm_arm_worker"
"""Starts arms; it imports the launch worker."""
SHARED_WORKER = _TUNER / "processes" / "worker" / "shared_worker"
"""What both workers import, so it counts as part of each."""
HOST_HALF = tuple(_TUNER / "model" / name for name in ("shrink.py", "shrink_layers.py"))
"""Decides what the worker is given to build, so it counts as part of the probe."""
JUDGING = (
    "answers.py",
    "arms.py",
    "assumptions.py",
    "judge.py",
    "ladder.py",
    "ladder_finding.py",
    "launch_key.py",
    "proof.py",
    "proof_finding.py",
    "reason.py",
    "replay.py",
    "report.py",
    "verdict.py",
)
MISSING = "missing"
MAX_SOURCE = 16 * 2**20
"""Bytes; no source file is larger."""


class Subject(Struct, frozen=True):
    """What a verdict is about: a model as it will be built, and where.

    Attributes:
        model: its identity.
        environment: the serving environment.
        model_impl: vLLM's `--model-impl`.
        trust_remote_code: the model's own code may run.
    """

    model: Model
    environment: Environment
    model_impl: str = "auto"
    trust_remote_code: bool = False


def base_factors(subject: Subject) -> dict[str, Any]:
    """The factors of the key that need no source file of vLLM.

    Raises:
        TunerError: kind `model`: as `remote_code`.
    """
    environment = subject.environment
    return {
        "architecture": subject.model.architecture,
        "fingerprint": subject.model.fingerprint,
        "model_impl": subject.model_impl,
        "platform": environment.platform,
        "plugins": "; ".join(environment.plugins),
        "remote_code": remote_code(subject.model, trusted=subject.trust_remote_code),
        "torch": environment.torch,
        "vllm": environment.vllm,
        "worker": probe_digest(),
    }


def probe_digest() -> str:
    """Digest over all files of the probe: a verdict of another one does not apply."""
    return files_digest([*map(str, HOST_HALF), *python_files(WORKER), *python_files(SHARED_WORKER)])


def full_key(base: dict[str, Any], sources: dict[str, str]) -> dict[str, Any]:
    """The key: the base factors and a digest of the hashed source files."""
    return {**base, "sources": digest(sources)}


def hash_sources(environment: Environment, files: Iterable[str]) -> dict[str, str]:
    """sha256 of each file as it is now in the environment; `missing` if it is gone.

    Args:
        environment: whose site folders are searched, in their order.
        files: paths relative to a site folder, or absolute.
    """
    return {file: _hash_in(environment.site, file) for file in files}


def rules_digest() -> str:
    """Digest over the bytes of the judging rules: a stored verdict of other rules is judged again."""
    folder = Path(str(rules.__file__)).parent
    return files_digest(str(folder / name) for name in JUDGING)


@cache
def launch_worker_digest() -> str:
    """Digest over all files of the worker that traces launches: what another one saw proves nothing here.

    They are read once in a process, which runs the code of one release until it ends.
    """
    total = hashlib.sha256()
    for package in (LAUNCH_WORKER, SHARED_WORKER):
        for path in python_files(package):
            name = path.removeprefix(f"{package.parent}{os.sep}")
            total.update(name.encode() + b"\0" + _content(path) + b"\0")
    return total.hexdigest()


def python_files(folder: Path) -> Iterator[str]:
    """The Python files in a folder and below it, sorted by the parts of their paths.

    Texts, because every look-up hashes a hundred files: a Path of each took longer than reading them.
    """
    return _python_files(str(folder))


def _python_files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as scan:
        entries = sorted(scan, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir():
            yield from _python_files(entry.path)
        elif entry.name.endswith(".py"):
            yield entry.path


def files_digest(files: Iterable[str]) -> str:
    """One sha256 over names and contents, in the order given."""
    total = hashlib.sha256()
    for path in files:
        total.update(os.path.basename(path).encode() + b"\0" + _content(path) + b"\0")  # noqa: PTH119  as `python_files`
    return total.hexdigest()


def _content(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123  as `python_files`
        return file.read()


def remote_code(model: Model, *, trusted: bool) -> str:
    """Digest of the model's own code where it may run; empty where there is none, so that leave alone is not a factor.

    Raises:
        TunerError: kind `model`: the code cannot be read within bounds.
    """
    if not trusted:
        return ""
    files = code_files(Path(model.folder)) if model.folder else []
    return code_digest(files) if files or model.remote_code else ""


def _hash_in(site: Iterable[str], file: str) -> str:
    for path in (Path(folder) / file for folder in site):
        with suppress(OSError, ValueError):  # ValueError: a name with a NUL
            data = read_plain(path, MAX_SOURCE + 1)  # an imported verdict may name a device, a pipe or a huge file
            if len(data) <= MAX_SOURCE:
                return hashlib.sha256(data).hexdigest()
    return MISSING
