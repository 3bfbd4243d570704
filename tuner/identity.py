"""The verdict key: everything that decides whether a stored verdict applies, gathered by reading files."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rules
from cache.key import digest
from tuner.environment import Environment
from tuner.model import Model

WORKER = Path(__file__).parent / "probe" / "worker" / "moe_probe_worker"
HOST_HALF = tuple(Path(__file__).parent / "probe" / name for name in ("shrink.py", "shrink_layers.py"))
"""Decides what the worker is given to build, so it counts as part of the probe."""
JUDGING = ("assumptions.py", "compiled.py", "judge.py", "report.py", "verdict.py")
MISSING = "missing"


@dataclass(frozen=True)
class Subject:
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
    """The factors of the key that need no source file of vLLM."""
    environment = subject.environment
    return {
        "architecture": subject.model.architecture,
        "fingerprint": subject.model.fingerprint,
        "model_impl": subject.model_impl,
        "platform": environment.platform,
        "remote_code": _remote_code(subject),
        "torch": environment.torch,
        "vllm": environment.vllm,
        "worker": files_digest([*HOST_HALF, *sorted(WORKER.glob("*.py"))]),
    }


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


def public_version(version: object) -> str:
    """A version without its local part, such as `+cpu`: packages and modules of one build differ in it."""
    return str(version).partition("+")[0]


def rules_digest() -> str:
    """Digest over the bytes of the judging rules: a stored verdict of other rules is judged again."""
    folder = Path(str(rules.__file__)).parent
    return files_digest(folder / name for name in JUDGING)


def files_digest(files: Iterable[Path]) -> str:
    """One sha256 over names and contents, in the order given."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return total.hexdigest()


def _remote_code(subject: Subject) -> str:
    """Digest of the model's own code where it may run; empty where there is none, so that leave alone is no factor."""
    files = sorted(Path(subject.model.folder).glob("*.py"))
    if not subject.trust_remote_code or not (files or subject.model.remote_code):
        return ""
    return files_digest(files)


def _hash_in(site: Iterable[str], file: str) -> str:
    for path in (Path(folder) / file for folder in site):
        try:
            if path.is_file():  # a device or a pipe, which an imported verdict may name, would never end
                return hashlib.sha256(path.read_bytes()).hexdigest()
        except (OSError, ValueError):  # ValueError: a name with a NUL
            continue
    return MISSING
