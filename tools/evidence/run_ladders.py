"""Runs `tuner tune` for many models and planted faults, some at the same time, within a time limit.

    python -m tools.evidence.run_ladders --python PYTHON --out FOLDER [FAULT=]MODEL... [-- VLLM ARGS]

`--lanes 0,1` names the GPUs, and `--limit` the seconds for all. Each lane is a GPU (`CUDA_VISIBLE_DEVICES`),
which runs one ladder after another. A FAULT is one of tests/planted_faults. FOLDER gets for each ladder:

    NAME.json   the document, as soon as the ladder ended
    NAME.log    the messages of the command; its last line tells how it ended

and `ladders.tar` with all of these, written anew after each ladder. A ladder that has a document is not run
again, so that the same command continues after a time limit. At the limit, and on SIGTERM, running ladders are ended;
they leave only their log. `tools.evidence.make_ladder collect` reads the documents.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from types import FrameType
from typing import NamedTuple

from planted_faults.planted_faults import FAULTS
from vllm_server import SERVER_ENVIRONMENT

from tools.evidence import ROOT
from tools.evidence.page import split_words

PLUGINS = (ROOT / "examples" / "two_expert_sets", ROOT / "tests" / "planted_faults")
COMMAND = (sys.executable, "-m", "tuner")
"""A module, because a machine with a mere copy of the repository has no script `tuner`."""
LIMIT_S = 560.0
"""Seconds, so that all is done within ten minutes."""
ENDING_S = 20.0
"""Seconds that a command gets to end its engines before it is killed."""
WITH_DOCUMENT = frozenset({0, 3, 5})
"""Exit codes of `tuner tune` with a document: right, not known, wrong."""
ARCHIVE = "ladders.tar"


class Job(NamedTuple):
    """One ladder.

    Attributes:
        fault: the planted fault; empty for none.
        model: the model.
    """

    fault: str
    model: str

    @property
    def name(self) -> str:
        """The name of its files."""
        return f"{self.fault or 'plain'}={Path(self.model).name}"


class Plan(NamedTuple):
    """How ladders are run.

    Attributes:
        python: the interpreter of the serving environment.
        out: the folder for the results.
        workers: how many arms run at once; empty for as many as `tuner tune` chooses.
        end: the moment at which all must have ended, on the monotonic clock.
        args: the arguments of `vllm serve` behind each model.
    """

    python: str
    out: Path
    workers: str
    end: float
    args: Sequence[str]


def job_of(word: str) -> Job:
    """The ladder that a word names.

    Raises:
        SystemExit: no such fault is planted.
    """
    fault, _, model = word.rpartition("=")
    if fault and fault not in FAULTS:
        raise SystemExit(f"{fault} is not a planted fault: {', '.join(FAULTS)}")
    return Job(fault, model)


def run_all(jobs: Sequence[Job], plan: Plan, lanes: Sequence[str], stop: Event) -> None:
    """Run ladders, one after another in each lane, until all ended, the time is over, or `stop` is set."""
    waiting: SimpleQueue[Job] = SimpleQueue()
    for job in jobs:
        if document(plan.out, job).exists():
            say(f"{job.name}: was run before")
        else:
            waiting.put(job)
    archiving = Lock()

    def run_lane(lane: str) -> None:
        while not stop.is_set() and time.monotonic() < plan.end:
            try:
                job = waiting.get_nowait()
            except Empty:
                return
            say(f"{job.name}: {run_job(job, plan, lane, stop)}")
            with archiving:
                archive(plan.out)

    threads = [Thread(target=run_lane, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while not waiting.empty():
        say(f"{waiting.get().name}: not begun")
    archive(plan.out)


def run_job(job: Job, plan: Plan, lane: str, stop: Event) -> str:
    """Run a ladder, store its document, and return a sentence on how it ended."""
    begin = time.monotonic()
    draft, log = plan.out / f"{job.name}.part", plan.out / f"{job.name}.log"
    store = plan.out / f"{job.name}.sqlite"
    words = [*COMMAND, "tune", "--json", "--python", plan.python, "--store", str(store)]
    if plan.workers:
        words += ["--workers", plan.workers]
    words += [job.model, "--", *plan.args]
    environ = {**os.environ, **SERVER_ENVIRONMENT, "PLANTED": job.fault, "CUDA_VISIBLE_DEVICES": lane}
    environ["PYTHONPATH"] = python_path()
    with draft.open("w") as out, log.open("w") as err:
        process = subprocess.Popen(words, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=environ)
        code = wait_for_end(process, plan.end, stop)
    reason = "ended by the limit" if code is None else f"exit code {code}"
    ending = f"{reason}, {time.monotonic() - begin:.0f} s"
    if code in WITH_DOCUMENT and is_document(draft):
        draft.rename(document(plan.out, job))
    with log.open("a") as err:
        err.write(f"{ending}\n")
    return ending


def python_path() -> str:
    """`PYTHONPATH` of this process behind the folders of the plugins."""
    return os.pathsep.join([*map(str, PLUGINS), *filter(None, [os.environ.get("PYTHONPATH")])])


def wait_for_end(process: subprocess.Popen[bytes], end: float, stop: Event) -> int | None:
    """The exit code of a process; None if it was ended because the time is over or `stop` was set."""
    while process.poll() is None:
        if stop.is_set() or time.monotonic() > end:
            process.terminate()
            try:
                process.wait(ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return None
        time.sleep(0.1)
    return process.returncode


def is_document(file: Path) -> bool:
    """Whether a file holds the document of a ladder."""
    try:
        return bool(json.loads(file.read_text(encoding="utf-8"))["ladder"])
    except (ValueError, KeyError, TypeError):
        return False


def document(out: Path, job: Job) -> Path:
    """The file with the document of a ladder."""
    return out / f"{job.name}.json"


def archive(out: Path) -> None:
    """Write all documents and logs into one archive, which replaces the one before at once."""
    draft = out / f"{ARCHIVE}.part"
    with tarfile.open(draft, "w") as tar:
        for file in sorted([*out.glob("*.json"), *out.glob("*.log")]):
            tar.add(file, file.name)
    draft.rename(out / ARCHIVE)


def say(text: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(words: Sequence[str]) -> None:
    """What the docstring of the module says."""
    own, args = split_words(list(words))
    parser = argparse.ArgumentParser(prog="run_ladders", description="Run `tuner tune` for many models and faults.")
    parser.add_argument("--python", required=True, help="the interpreter of the serving environment")
    parser.add_argument("--out", required=True, type=Path, help="the folder for the results")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for all ladders")
    parser.add_argument("--workers", default="", help="arms at once in each ladder; default: as many as fit")
    parser.add_argument("--lanes", default="0,1", help="the GPUs, with commas; each runs one ladder at a time")
    parser.add_argument("jobs", nargs="+", type=job_of, metavar="[FAULT=]MODEL")
    options = parser.parse_args(own)
    options.out.mkdir(parents=True, exist_ok=True)
    stop = Event()

    def end_ladders(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end_ladders)
    signal.signal(signal.SIGINT, end_ladders)
    plan = Plan(options.python, options.out, options.workers, time.monotonic() + options.limit, args)
    run_all(options.jobs, plan, options.lanes.split(","), stop)


if __name__ == "__main__":
    main(sys.argv[1:])
