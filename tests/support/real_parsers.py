"""Test support: the parser of `vllm serve` of several releases, each in a process that answers one list after another.

Two releases are whole serving environments. Of the others only the Python files are there
(`environments/make_parsers.py`), in front of the vLLM of the environment whose torch and libraries fit them: all of
vLLM that runs is the release's own, and nothing stands in for anything.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.arguments.serving import CONSTANTS

ROOT = Path(__file__).parents[2]
WORKER = Path(__file__).with_name("vllm_parser.py")
RELEASES = {
    "0.16.0": "flag-live",
    "0.17.1": "flag-live",
    "0.18.1": "flag-live",
    "0.19.1": "flag-live",
    "0.20.2": "flag-live",
    "0.26.0": "current",
    "0.32.0": "current",
}
"""Release -> the environment it runs in."""
WHOLE = {"0.19.1", "0.32.0"}
"""Releases that are the environment's own."""
MAKE_TARGETS = {"current": "setup", "flag-live": "setup-flag-live"}


@dataclass(frozen=True)
class RealParser:
    """A parser that runs.

    Attributes:
        version: the release.
        folder: its working directory, where relative `--config` files are found.
        options: the option strings it knows, each with how many words it takes, as `vllm_parser.py` tells it.
        engine_fields: the names of the engine's arguments.
    """

    version: str
    folder: Path
    options: dict[str, str]
    engine_fields: list[str]
    process: subprocess.Popen[str]

    def read(self, args: Sequence[str]) -> dict[str, Any]:
        """What vLLM makes of one argument list; see `vllm_parser.py`. Every NaN is the one that we read, to compare."""
        assert self.process.stdin is not None
        print(json.dumps(list(args)), file=self.process.stdin, flush=True)
        line = _line(self.process, self.folder)
        answer: dict[str, Any] = json.loads(line, parse_constant=CONSTANTS.__getitem__)
        return answer


def missing(version: str) -> str | None:
    """What must be made before this release's parser can run; None if it can."""
    environment = RELEASES[version]
    if not _python(environment).exists():
        return f"No serving environment .envs/{environment}; `make {MAKE_TARGETS[environment]}` creates it."
    if version not in WHOLE and not _files(version).is_dir():
        return f"No .envs/parsers/{version}; `make setup-parsers` creates it."
    return None


@contextmanager
def real_parser(version: str, folder: Path) -> Iterator[RealParser]:
    """Start a release's parser in an empty `folder`; it imports vLLM once, which takes 20 s of CPU time."""
    ahead = {} if version in WHOLE else {"PYTHONPATH": str(_files(version))}
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [_python(RELEASES[version]), WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
            cwd=folder,
            env={**os.environ, **quiet, **ahead},
        )
        with process:
            try:
                first = json.loads(_line(process, folder))
                assert first["version"].partition("+")[0] == version
                yield RealParser(version, folder, first["options"], first["engine_fields"], process)
            finally:
                process.kill()


def _line(process: subprocess.Popen[str], folder: Path) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (folder / "log.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
    return line


def _python(environment: str) -> Path:
    return ROOT / ".envs" / environment / "bin" / "python"


def _files(version: str) -> Path:
    return ROOT / ".envs" / "parsers" / version
