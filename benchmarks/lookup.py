"""CPU time of the commands that stand in a start path, as ratios to a bare interpreter in the same run.

    make bench

Each round runs every command once, so that a slow moment of the machine touches all of them alike; the figure is the
median over the rounds of user plus system time of the whole process.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cache.verdicts.entry import Entry  # noqa: E402  after the path was set
from cache.verdicts.store import VerdictStore  # noqa: E402
from rules.judge import judge  # noqa: E402
from rules.proof_finding import PLAIN  # noqa: E402
from rules.report import parse_report  # noqa: E402
from tuner.environment.environment import read_environment  # noqa: E402
from tuner.model.model import identify  # noqa: E402
from tuner.verdicts.identity import (  # noqa: E402
    Subject,
    base_factors,
    full_key,
    hash_sources,
    launch_worker_digest,
    rules_digest,
)

MODEL = "examples/models/mistralai--Mixtral-8x7B-v0.1"
TUNER = str(Path(sys.executable).with_name("tuner"))
BASELINE = "python -c 'import sqlite3, json'"
INTERPRETER = "python -c pass"
SLOW = "vllm --version"
SLOW_ROUNDS = 3
"""Rounds of `SLOW`: it takes seconds, and a rough figure is enough."""
SOURCES = ("vllm/__init__.py", "vllm/forward_context.py", "vllm/model_executor/models/mixtral.py")
BATCH = 5_000
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""With that variable every run would compile the tool anew."""


def main() -> None:
    """Fill the stores, time every command, print the table."""
    parser = argparse.ArgumentParser(description="CPU time of look-ups and command start-up.")
    parser.add_argument("--python", default=str(ROOT / ".envs" / "current" / "bin" / "python"))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "1.sqlite", Path(folder) / "100000.sqlite"
        fill(small, options.python, 0)
        fill(large, options.python, 99_999)
        commands = timed_commands(options.python, small, large, empty_server(Path(folder), Path(options.python)))
        seconds = time_commands(commands, options.rounds)
        version = {INTERPRETER: commands[INTERPRETER], SLOW: [str(Path(options.python).with_name("vllm")), "--version"]}
        print(table(seconds))
        print()
        print(serving_table(seconds, time_commands(version, SLOW_ROUNDS)))


def empty_server(folder: Path, python: Path) -> str:
    """An interpreter of the same environment, with a `vllm` beside it that does nothing: only the tuner takes time."""
    twin = folder / "twin"
    (twin / "bin").mkdir(parents=True)
    (twin / "bin" / "python").symlink_to(python.resolve())
    (twin / "pyvenv.cfg").write_text((python.parent.parent / "pyvenv.cfg").read_text())
    (twin / "lib").symlink_to(python.parent.parent.resolve() / "lib")
    (twin / "bin" / "vllm").symlink_to("/bin/true")
    return str(twin / "bin" / "python")


def timed_commands(python: str, small: Path, large: Path, twin: str) -> dict[str, list[str]]:
    """Name in the table -> the command that is timed. The first is the baseline."""
    lookup = [TUNER, "verdict", MODEL, "--python", python, "--store"]
    own, launch = ["--store", str(small)], [MODEL, "--max-model-len", "4096"]
    return {
        BASELINE: [sys.executable, "-c", "import sqlite3, json"],
        "python -c 'import typer'": [sys.executable, "-c", "import typer"],
        "tuner --help": [TUNER, "--help"],
        "tuner verdict, 1 entry": [*lookup, str(small)],
        "tuner verdict, 100,000 entries": [*lookup, str(large)],
        "tuner serve --dry-run": [TUNER, "serve", "--dry-run", "--python", python, *own, *launch],
        "tuner serve, up to the exec": [TUNER, "serve", "--python", twin, *own, *launch],
        INTERPRETER: [sys.executable, "-c", "pass"],
    }


def fill(path: Path, python: str, others: int) -> None:
    """A store with this model's verdict and as many entries of other models."""
    entry = sample_entry(python)
    store = VerdictStore(path)
    store.put(entry)
    for start in range(0, others, BATCH):
        store.put(*(other(entry, number) for number in range(start, min(start + BATCH, others))))


def sample_entry(python: str) -> Entry:
    """An entry as a probe would leave it, over real source files of the environment; its report is short."""
    os.chdir(ROOT)
    environment = read_environment(python)
    sources = hash_sources(environment, SOURCES)
    base = base_factors(Subject(identify(MODEL), environment))
    report = sample_report(sources, environment.platform)
    verdict = judge(parse_report(report)).to_dict()
    return Entry(full_key(base, sources), sources, report, verdict, rules_digest(), "2026-11-22T12:00:00+00:00")


def sample_report(sources: dict[str, str], platform: str) -> dict[str, Any]:
    """A report of one MoE layer that ran once in each scenario, with the proof of the plain launch."""
    names = [f"scenario_{number}" for number in range(13)]
    return {
        "result": "ok",
        "architecture": "MixtralForCausalLM",
        "environment": {},
        "flag": {"field": "field", "effective_when_true": False, "counter_ran": None},
        "registered": ["layer"],
        "observation_method": "run",
        "declares_experts": True,
        "planned": names,
        "scenarios": [{"name": name, "tokens": 1, "status": "ran", "passes": [["layer"]]} for name in names],
        "assumptions": [],
        "seconds": {"build": 1.0},
        "sources": sources,
        "whole": None,
        "proofs": [sample_proof(sources, platform)],
    }


def sample_proof(sources: dict[str, str], platform: str) -> dict[str, Any]:
    """The proof of the plain launch, whose trace calls the one layer."""
    rank = {
        "name": "rank 0 of 1",
        "status": "traced",
        "failures": [],
        "registered": ["layer"],
        "calls": ["layer"],
        "guards": [],
        "assumptions": [],
        "seconds": {},
    }
    return {
        "key": PLAIN,
        "arguments": [],
        "platform": platform,
        "made_at": "2026-11-22T12:00:00+00:00",
        "worker": launch_worker_digest(),
        "ranks": [rank],
        "variables": {},
        "fields": [],
        "sources": sources,
    }


def other(entry: Entry, number: int) -> Entry:
    """A copy of an entry, under the key of another model."""
    key = {**entry.key, "architecture": f"Other{number % 400}ForCausalLM", "fingerprint": f"{number:064x}"}
    return Entry(key, entry.sources, entry.report, entry.verdict, entry.rules, entry.probed_at)


def time_commands(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each command in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seconds[name].append(cpu_seconds(command))
    return seconds


def cpu_seconds(command: list[str]) -> float:
    """User plus system time of one run."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, **quiet)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(seconds: dict[str, list[float]]) -> str:
    """Median CPU milliseconds and the median of the rounds' ratios to the baseline."""
    base = seconds[BASELINE]
    lines = ["| command | CPU ms | ratio |", "| --- | --- | --- |"]
    for name, values in seconds.items():
        ratio = statistics.median(value / unit for value, unit in zip(values, base, strict=True))
        lines.append(f"| `{name}` | {1000 * statistics.median(values):.0f} | {ratio:.2f} |")
    return "\n".join(lines)


def serving_table(seconds: dict[str, list[float]], slow: dict[str, list[float]]) -> str:
    """What `tuner serve` adds to a start, against interpreter start and the quickest that vLLM itself does."""
    version = statistics.median(slow[SLOW])
    lines = ["| command | times `python -c pass` | of `vllm --version` |", "| --- | --- | --- |"]
    for name in ("tuner serve --dry-run", "tuner serve, up to the exec"):
        pairs = zip(seconds[name], seconds[INTERPRETER], strict=True)
        ratio = statistics.median(value / unit for value, unit in pairs)
        lines.append(f"| `{name}` | {ratio:.1f} | {100 * statistics.median(seconds[name]) / version:.1f} % |")
    ratio = statistics.median(value / unit for value, unit in zip(slow[SLOW], slow[INTERPRETER], strict=True))
    return "\n".join([*lines, f"| `{SLOW}` | {ratio:.0f} | 100 % ({version:.1f} s) |"])


if __name__ == "__main__":
    main()
