"""Writes fleet.md: workers of a queue of probes are killed, and the verdicts in the store are counted at the end.

    .venv/bin/python -m tools.evidence.make_fleet run .cache/fleet.json
    .venv/bin/python -m tools.evidence.make_fleet real .cache/fleet-real.json --python .envs/flag-live/bin/python
    .venv/bin/python -m tools.evidence.make_fleet page .cache/fleet.json .cache/fleet-real.json

`run` starts a service and four workers, all of them processes of their own. Their probes are stand-ins
(`tests/support/fleet_stand_in.py`), which take a second and hand back the report of a real probe: what is tested is the
queue, its leases and the store. Two workers are killed, with SIGKILL, while they have a probe. `run` is then repeated
with one worker that nobody kills. `real` probes the example models in a real vLLM with one worker.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fleet_stand_in
from fake_environment import LLAMA, MIXTRAL, SETTABLE, model_like, sample, serving_in
from live_service import Live, live_service

from rules.errors import TunerError
from tools.evidence import ROOT
from tools.evidence.page import footer, python_of, table, write
from tuner.fleet.queue_client import RemoteQueue
from tuner.fleet.sweep import Sweep, launches_of
from tuner.service.client import client_of
from tuner.service.probes import LEASE_S

MODELS, SETTINGS = 30, ((), ("--max-model-len", "4096"))
WORKERS, KILLED = 4, 2
PROBE_S = 1.0
LIMIT_S = 3600
TOKEN = "evidence-" + "e" * 30


@dataclass
class Fleet:
    """A service that runs, and its workers.

    Attributes:
        folder: where all files are.
        live: the service.
        words: the command of a worker, without its name.
        workers: the processes, by name.
        killed: names of those that were killed, with the id of the probe that each had.
    """

    folder: Path
    live: Live
    words: list[str]
    workers: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    killed: dict[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The variables of every worker."""
        return {
            "TUNER_SERVICE_TOKEN_FILE": str(self.folder / "token"),
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.folder),
        }

    @property
    def queue(self) -> RemoteQueue:
        """The queue."""
        return RemoteQueue(client_of(self.live.url, self.variables))

    def hire(self, name: str) -> None:
        """Start a worker."""
        words = [*self.words, "--service", self.live.url, "--until-empty", "--name", name]
        with (self.folder / f"{name}.log").open("wb") as log:
            self.workers[name] = subprocess.Popen(words, env=self.variables, stdout=log, stderr=log, cwd=ROOT)

    def kill(self, chance: random.Random) -> None:
        """Kill a worker that has a probe, if there is one."""
        running = [row for row in self.queue.rows() if row.state == "running" and row.worker not in self.killed]
        if not running:
            return
        row = chance.choice(running)
        process = self.workers[str(row.worker)]
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.killed[str(row.worker)] = row.id

    def is_busy(self) -> bool:
        """Whether a worker still runs."""
        return any(process.poll() is None for process in self.workers.values())


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(description="Write docs/evidence/fleet.md anew.")
    parser.add_argument("part", choices=["run", "real", "page"])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--python", type=Path, default=ROOT / python_of("flag-live"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.part == "page":
        page(*(json.loads(file.read_text(encoding="utf-8")) for file in options.files))
        return
    if options.part == "run":
        counts = {"killed": stand_in_run(WORKERS, options.seed), "lone": stand_in_run(1, options.seed)}
    else:
        counts = real_run(options.python)
    options.files[0].parent.mkdir(parents=True, exist_ok=True)
    options.files[0].write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")


def stand_in_run(workers: int, seed: int) -> dict[str, Any]:
    """Run sixty probes with stand-ins. If there are several workers, two are killed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        serving = serving_in(folder / "env", SETTABLE)
        fleet_stand_in.hand_back(folder, serving.probed_here(sample(MIXTRAL, "flag-live")))
        (folder / "seconds").write_text(str(PROBE_S))
        fleet_stand_in.install(folder, _nothing)
        for number in range(MODELS):
            model_like(MIXTRAL, folder / "configs" / f"made--model-{number}", vocab_size=32_000 + number)
        script = str(Path(fleet_stand_in.__file__))
        words = [sys.executable, script, str(folder), "worker", "--python", str(serving.python)]
        return run_fleet(folder, words, SETTINGS, workers, seed)


def _nothing(*_: object) -> None:
    """Install no stand-in in this process; the workers install their own."""


def real_run(python: Path) -> dict[str, Any]:
    """Two models in two settings, by a real vLLM."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in (MIXTRAL, LLAMA):
            model_like(model, folder / "configs" / model.name)
        words = [sys.executable, "-m", "tuner", "worker", "--python", str(python)]
        return run_fleet(folder, words, SETTINGS, 1, 0)


def run_fleet(
    folder: Path, words: list[str], settings: Sequence[tuple[str, ...]], workers: int, seed: int
) -> dict[str, Any]:
    """Queue the launches, start the workers, kill two of several, and count the results at the end."""
    (folder / "token").write_text(TOKEN, encoding="utf-8")
    launches = launches_of(Sweep(folder / "configs", ("0.19.1",), "cpu", tuple(settings)))
    options = ("--store", folder / "service.sqlite", "--write-tokens", folder / "token")
    with live_service(folder, *options) as live:
        fleet = Fleet(folder, live, words)
        rows = fleet.queue.put(launches, retry=False)
        begin = time.monotonic()
        for number in range(workers):
            fleet.hire(f"w{number + 1}")
        watch(fleet, len(rows), KILLED if workers > KILLED else 0, random.Random(seed))  # noqa: S311  no secret
        seconds = time.monotonic() - begin
        return {"launches": len(rows), "seconds": seconds, "killed": fleet.killed, **outcome(fleet)}


def watch(fleet: Fleet, launches: int, kills: int, chance: random.Random) -> None:
    """Wait until all workers have ended. Meanwhile kill some, at even distances in the queue."""
    marks = [launches * (number + 1) // (kills + 2) for number in range(kills)]
    end = time.monotonic() + LIMIT_S
    while fleet.is_busy():
        if time.monotonic() > end:
            raise SystemExit("the workers did not end")
        time.sleep(0.2)
        try:
            finished = launches - len(list(fleet.queue.rows()))
            if len(fleet.killed) < kills and finished >= marks[len(fleet.killed)]:
                fleet.kill(chance)
        except TunerError as error:  # a busy machine
            print(error.message, file=sys.stderr)


def outcome(fleet: Fleet) -> dict[str, Any]:
    """What is stored, what is left in the queue, and what the workers did."""
    _, body = fleet.live.get("/v1/changes?since=0", TOKEN)  # one page holds a hundred
    lines = [json.loads(json.loads(line)["line"]) for line in body.splitlines()]
    return {
        **stored_outcome(lines),
        "left": [row.state for row in fleet.queue.rows()],
        "probed": len(fleet_stand_in.probed(fleet.folder)),
        **workers_outcome(fleet),
    }


def stored_outcome(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """How many verdicts are stored, which, and with how many proofs."""
    words: Counter[str] = Counter()
    proofs: Counter[str] = Counter()
    for line in lines:
        words[line["entry"]["verdict"]["word"]] += 1
        proofs[str(len(line["entry"]["report"]["proofs"]))] += 1
    return {"verdicts": len({line["digest"] for line in lines}), "words": words, "proofs": proofs}


def workers_outcome(fleet: Fleet) -> dict[str, Any]:
    """How the workers ended, what they sent, and the last line of each that failed."""
    sent: Counter[str] = Counter()
    failed: list[str] = []
    for name in fleet.workers:
        log = (fleet.folder / f"{name}.log").read_text(encoding="utf-8")
        sent.update(sent_ids(log))
        if "probe failed" in log:
            failed.append(log.strip().splitlines()[-1])
    return {
        "sent": sent.total(),
        "sent_twice": sum(number > 1 for number in sent.values()),
        "exits": {name: process.poll() for name, process in fleet.workers.items()},
        "failed": failed,
    }


def sent_ids(log: str) -> list[str]:
    """The ids of the probes whose verdict a worker sent."""
    lines = [line for line in log.splitlines() if line.startswith("tuner: sent ")]
    return [line.rpartition("(")[2].partition(")")[0] for line in lines]


def page(run: dict[str, Any], real: dict[str, Any]) -> None:
    """Write the page."""
    several, lone = run["killed"], run["lone"]
    questions: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("workers, killed ones", lambda counts: f"{len(counts['exits'])}, {len(counts['killed'])}"),
        ("launches queued", lambda counts: str(counts["launches"])),
        ("verdicts stored, each of another key", lambda counts: str(counts["verdicts"])),
        ("verdicts with 1, 2 proofs", lambda counts: f"{counts['proofs'].get('1', 0)}, {counts['proofs'].get('2', 0)}"),
        ("rows left in the queue", lambda counts: str(len(counts["left"]))),
        ("verdicts sent twice", lambda counts: str(counts["sent_twice"])),
        ("models probed", lambda counts: str(counts["probed"] or "-")),
        ("wall time", lambda counts: f"{counts['seconds']:.0f} s"),
    ]
    rows = [(name, answer(several), answer(lone), answer(real)) for name, answer in questions]
    models = len(several["exits"])
    write(
        "fleet.md",
        "# Workers that are killed",
        f"One service, and workers of its queue of probes, each a process of its own. "
        f"{MODELS} models in {len(SETTINGS)} settings are queued.\n"
        f"Two of {models} workers are killed with SIGKILL while they have a probe.\n"
        "No worker is started in their place: the others get those probes once the leases ran out, "
        f"{LEASE_S:.0f} s after the last heartbeat.",
        "The probes of the first two columns are stand-ins: they take "
        f"{PROBE_S:.0f} s and hand back the report of a real probe.\n"
        "The queue, its leases, the workers and the store are real.\n"
        "The last column is a real vLLM 0.19.1 on a CPU, with two models in two settings and one worker.\n"
        "Two of its launches needed no probe of their own: a probe proves the plain launch of its model, too, "
        "and a model without MoE layers has no launch to prove.",
        table(("", "some killed", "one worker", "real vLLM"), rows),
        "Each launch has its verdict and its proof there once: "
        "a verdict with 2 proofs holds both settings of its model.\n"
        "A model is probed a second time only if its worker was killed before it sent the verdict.\n"
        "The wall time of the killed run contains the leases of the dead, and both depend on how busy the machine is.",
        footer("evidence-fleet"),
    )


if __name__ == "__main__":
    main()
