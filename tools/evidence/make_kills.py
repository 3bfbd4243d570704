"""Writes kills.md: a real `tuner cache warm` is killed many times, and later starts read what it left.

    .venv/bin/python -m tools.evidence.make_kills [--environment NAME]... [--kills N] [--seed S]

An undisturbed warm-up says how long one takes; the kills are spread over that time, each at a random moment of its own
slice, all in one cache root. Whenever that root holds an entry, a server is started from it, and vLLM's log says
whether the entry was read. The last warm-up is not killed.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_server import SERVER_ENVIRONMENT

from cache.compiled.layout import CacheRoot, read_root
from cache.compiled.publish import WARMING
from tools.evidence import ROOT
from tools.evidence.page import footer, python_of, table, write
from tuner.processes.server_process import ready_server

SMALL = ("--max-model-len", "256", "--max-num-batched-tokens", "256", "--max-num-seqs", "4")
WHOLE = "'function' object has no attribute 'finalize_loading'"
"""The line of vLLM's log on a CPU for an artifact that it has read to its end. A damaged artifact has another line."""
GONE_S = 60
LIMIT_S = 900


@dataclass(frozen=True)
class Bench:
    """Where the warm-ups run: interpreter, model, cache root, folder for logs."""

    python: Path
    model: Path
    root: Path
    folder: Path

    def start_warm_up(self) -> subprocess.Popen[str]:
        """Start a `tuner cache warm`."""
        tuner = [sys.executable, "-m", "tuner", "cache", "warm", str(self.model), "--json"]
        options = ["--python", str(self.python), "--store", str(self.folder / "none.sqlite"), "--cache-root"]
        words = [*tuner, *options, str(self.root), "--", *SMALL]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(words, cwd=self.folder, env=environ(self.folder), text=True, **pipes)  # type: ignore[call-overload,no-any-return]

    def finish_warm_up(self) -> dict[str, Any]:
        """Run a warm-up to its end, and return its document."""
        document: dict[str, Any] = json.loads(self.start_warm_up().communicate()[0])
        return document

    def kill_after(self, seconds: float) -> tuple[float, bool]:
        """Start a warm-up, and kill it.

        Returns:
            Seconds until the kill, and whether all processes of the warm-up ended within a minute.
        """
        begin = time.monotonic()
        process = self.start_warm_up()
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        moment = time.monotonic() - begin
        process.wait()
        return moment, ended_in_time(self.model)

    def server_outcome(self) -> str:
        """Start a server of the same launch, and say whether it read the entries in the root."""
        log = self.folder / f"server-{time.monotonic_ns()}.log"
        options = ["--python", str(self.python), "--store", str(self.folder / "none.sqlite")]
        serve = [sys.executable, "-m", "tuner", "serve", *options, "--cache-root", str(self.root), str(self.model)]
        with ready_server([*serve, *SMALL], environ(self.folder), log, LIMIT_S):
            text = log.read_text(encoding="utf-8", errors="replace")
        if "Directly load AOT compilation from path" in text:
            return "loaded"
        return "read to its end" if WHOLE in text else "**not read to its end**"


def main() -> None:
    """Measure in each environment, and write the page."""
    parser = argparse.ArgumentParser(description="Kill real warm-ups, and see what later starts find.")
    parser.add_argument("--environment", action="append", choices=["current", "flag-live"])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    parts = [
        "# Warm-ups that were killed",
        f"SIGKILL to `tuner cache warm`, {options.kills} times in each release, seed {options.seed}.",
    ]
    for name in options.environment or ["current", "flag-live"]:
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            parts += section(ROOT / python_of(name), Path(folder), options.kills, random.Random(options.seed))  # noqa: S311  no secret
    words = " ".join(["tools/evidence/make_kills.py", *sys.argv[1:]])
    write("kills.md", *parts, footer("evidence-kills").replace("make evidence-kills", words))


def section(python: Path, folder: Path, kills: int, chance: random.Random) -> list[str]:
    """The section of an environment."""
    model = folder / "model"
    subprocess.run([python, ROOT / "examples" / "tiny_checkpoint.py", model], cwd=folder, check=True)
    alone = Bench(python, model, folder / "alone", folder).finish_warm_up()
    whole = alone["cold_seconds"] + alone["warm_seconds"]
    bench = Bench(python, model, folder / "root", folder)
    rows = []
    for number in range(kills):
        moment, ended = bench.kill_after((number + chance.random()) * whole / kills)
        root = read_root(bench.root) if bench.root.is_dir() else None
        rows.append(row(number + 1, moment, ended, root, bench))
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    last = bench.finish_warm_up()
    heads = ("kill", "after", "processes gone", "entries", "staging folders", "a server started from the root")
    at_last = f"The last warm-up, not killed: {len(last['entries'])} entry, the second start says {last['reason']!r}."
    times = f"Undisturbed: first start {alone['cold_seconds']:.0f} s, second start {alone['warm_seconds']:.0f} s."
    return [f"## vLLM {alone['vllm']}, {alone['platform']}", times, table(heads, rows), at_last]


def row(number: int, moment: float, ended: bool, root: CacheRoot | None, bench: Bench) -> tuple[str, ...]:
    """The row of a kill: what it left behind."""
    entries = root.entries if root else ()
    whole = sum(entry.complete is True for entry in entries)
    staging = len(list(bench.root.glob(f"{WARMING}*")))
    server = bench.server_outcome() if entries else "-"
    complete = f"{len(entries)}, {whole} complete" if entries else "none"
    return str(number), f"{moment:.0f} s", "yes" if ended else "**no**", complete, str(staging), server


def ended_in_time(model: Path) -> bool:
    """Wait until all processes for this model have ended; False if they do not end within a minute."""
    end = time.monotonic() + GONE_S
    while any(str(model) in line for line in command_lines()):
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def command_lines() -> list[str]:
    """The command lines of all other processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:  # it has just ended
            continue
    return lines


def environ(home: Path) -> dict[str, str]:
    """The variables of every process."""
    return {**os.environ, **SERVER_ENVIRONMENT, "PYTHONPATH": str(ROOT), "HOME": str(home)}


if __name__ == "__main__":
    main()
