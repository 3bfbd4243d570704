"""What a worker may do to others: how much memory it takes, what it leaves behind, and what its answers can do.

A script stands in for the worker, as in `test_probe_runner.py`; memory, processes, signals and files are real.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_worker import stand_in_worker

from rules.errors import TunerError
from tuner.probe.runner import Job, JobOutcome, list_registry, run
from tuner.processes import limits
from tuner.processes.answers import LARGEST
from tuner.processes.control_folder import PREFIX
from tuner.processes.limits import default_memory, machine_memory

MIB = 2**20
STAND_IN = """
import json, os, resource, signal, subprocess, sys, time
from pathlib import Path

control = Path(sys.argv[1])

def write(name, text):
    (control / "draft").write_text(text)
    os.replace(control / "draft", control / name)

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
EAT = [sys.executable, "-c", "import time; held = bytearray(b'x') * (300 << 20); time.sleep(600)"]
request = json.loads((control / "request.json").read_text())
write("environment.json", os.environ.get("ANSWER", '{"result": "ok"}'))
if request.get("list"):
    write("registry.json", os.environ["LISTING"])
for job in request.get("models", []):
    config, answer = job["config"], control / f"report-{job['index']}.json"
    time.sleep(config.get("wait", 0))
    if config["act"] == "keeps":
        held = bytearray(b"x") * (config["mib"] << 20)
    if config["act"] == "eats":
        held = bytearray(b"x") * (config["mib"] << 20)
        time.sleep(60)
    if config["act"] == "has children eat":
        children = [subprocess.Popen(EAT) for _ in range(2)]
        time.sleep(60)
    if config["act"] == "has children":
        children = [subprocess.Popen(SLEEP), subprocess.Popen(SLEEP, start_new_session=True)]
        pids = [os.getpid(), *(child.pid for child in children)]
        note = Path(config["note"])
        note.with_suffix(".draft").write_text(json.dumps({"pids": pids, "control": str(control)}))
        note.with_suffix(".draft").rename(note)
        time.sleep(600)
    if config["act"] == "says":
        write(answer.name, config["text"])
    elif config["act"] == "dies":
        print(config["text"], flush=True)
        sys.exit(9)
    elif config["act"] == "is huge":
        os.truncate(os.open(control / "draft", os.O_CREAT | os.O_WRONLY), 33 << 20)
        os.replace(control / "draft", answer)
    elif config["act"] == "is a pipe":
        os.mkfifo(answer)
    elif config["act"] == "is a device":
        answer.symlink_to("/dev/zero")
    elif config["act"] == "is a folder":
        answer.mkdir()
    else:
        facts = {name: resource.getrlimit(getattr(resource, name)) for name in ("RLIMIT_CORE", "RLIMIT_FSIZE")}
        facts["pid"] = os.getpid()
        facts["oom_score_adj"] = Path("/proc/self/oom_score_adj").read_text()
        write(answer.name, json.dumps({"result": "ok", "facts": facts}))
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the stand-in in the place of the worker; its control folders must be gone at the end."""
    with stand_in_worker(STAND_IN, tmp_path, monkeypatch) as folder:
        yield folder


def played(*configs: dict[str, Any], memory_limit: int | None = None, time_limit: float = 30) -> list[JobOutcome]:
    """Run one job for each config."""
    jobs = [Job(index, config, "/model", ()) for index, config in enumerate(configs)]
    return list(run(sys.executable, jobs, time_limit=time_limit, on_stage=lambda *_: None, memory_limit=memory_limit))


def failure_of(outcome: JobOutcome) -> TunerError:
    """The failure of a job that must have failed."""
    assert outcome.report is None
    assert outcome.failure is not None
    return outcome.failure


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait until something is so; fail after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


# ---- memory


@pytest.mark.parametrize("config", [{"act": "eats", "mib": 600}, {"act": "has children eat"}])
def test_a_worker_that_eats_memory_is_stopped(config: dict[str, Any]) -> None:
    """Alone or with its children, it is ended when it takes more than its limit; the next model is probed."""
    begin = time.monotonic()
    eater, other = played(config, {"act": "runs"}, memory_limit=400 * MIB)
    failure = failure_of(eater)
    assert failure.kind == "memory"
    assert failure.message.startswith("The worker was stopped: it used 0.")
    assert failure.message.endswith("GiB of memory, and its limit is 0.4 GiB.")
    assert "--memory-limit" in failure.hint
    assert other.report is not None
    assert time.monotonic() - begin < 20


def test_a_worker_that_keeps_memory_is_followed_by_another() -> None:
    """What models leave behind in a process adds up: it is not what the next model fails for."""
    keeps = {"act": "keeps", "mib": 300}
    outcomes = played(keeps, {"act": "runs", "wait": 1}, {"act": "runs"}, memory_limit=400 * MIB)
    first, second, third = (outcome.report["facts"]["pid"] for outcome in outcomes if outcome.report)
    assert first != second == third


def test_a_worker_below_its_limit_is_left_alone() -> None:
    """What is counted is memory in use: a Python's address space is larger than this limit."""
    (outcome,) = played({"act": "runs"}, memory_limit=60 * MIB)
    assert outcome.failure is None


def test_the_default_lets_the_largest_probe_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """32 GiB, or nine tenths of the memory of this machine or container."""
    assert 0 < default_memory() < machine_memory()
    monkeypatch.setattr(limits, "CGROUPS", (tmp_path / "none", tmp_path / "max", tmp_path / "limit"))
    (tmp_path / "max").write_text("max\n")
    for limit, expected in ((10 * 2**30, 9 * 2**30), (1024 * 2**30, 32 * 2**30)):
        (tmp_path / "limit").write_text(f"{limit}\n")
        monkeypatch.setattr(limits.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**30}.get)
        assert default_memory() == expected


def test_a_worker_dumps_no_core_fills_no_disk_and_is_the_first_to_go() -> None:
    """Its own limits, which its children inherit."""
    (outcome,) = played({"act": "runs"})
    assert outcome.report is not None
    facts = outcome.report["facts"]
    assert facts["RLIMIT_CORE"] == [0, 0]
    assert facts["RLIMIT_FSIZE"] == [limits.LARGEST_FILE] * 2
    assert facts["oom_score_adj"].strip() == "1000"


# ---- nothing is left behind

HOST = """
import signal, sys, tempfile
from pathlib import Path
from tuner.probe import runner
from tuner.probe.runner import Job, run

tempfile.tempdir, runner.WORKER = sys.argv[1], Path(sys.argv[2])
job = Job(0, {"act": "has children", "note": sys.argv[3]}, "", ())
list(run(sys.executable, [job], time_limit=60, on_stage=lambda *_: None))
"""


class Host:
    """A process that probes: its worker has two children, one of them in a session of its own."""

    def __init__(self, folder: Path, scratch: Path, name: str = "note") -> None:
        note = folder / name
        command = [sys.executable, "-c", HOST, str(scratch), str(folder / "moe_probe_worker"), str(note)]
        self.process = subprocess.Popen(command)
        wait_for(note.exists)
        document = json.loads(note.read_text())
        self.workers, self.control = document["pids"], Path(document["control"])

    def keeper(self) -> int:
        """The process that waits for this one's end."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (found,) = [int(pid) for pid in children if b"keeper.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return found

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait()

    def left(self) -> list[int]:
        """The worker's processes that still run."""
        return [pid for pid in self.workers if is_running(pid)]


def test_a_killed_host_leaves_nothing(tmp_path: Path, scratch: Path) -> None:
    """`kill -9` in the middle of a probe: worker, children, also one with its own session, keeper and folder go."""
    host = Host(tmp_path, scratch)
    keeper = host.keeper()
    assert len(host.left()) == 3
    host.kill()
    wait_for(lambda: not host.left() and not host.control.exists() and not is_running(keeper))


def test_a_worker_that_is_killed_leaves_nothing(tmp_path: Path, scratch: Path) -> None:
    """Its children and its folder go, though it could not see to that."""
    host = Host(tmp_path, scratch)
    os.kill(host.workers[0], signal.SIGKILL)
    assert host.process.wait(20) == 0
    assert host.left() == []
    assert not host.control.exists()


def test_a_keeper_that_is_killed_costs_nothing(tmp_path: Path, scratch: Path) -> None:
    """The host ends its worker itself."""
    host = Host(tmp_path, scratch)
    os.kill(host.keeper(), signal.SIGKILL)
    os.kill(host.workers[0], signal.SIGKILL)
    assert host.process.wait(20) == 0
    assert host.left() == []


def test_the_next_run_removes_what_a_dead_host_left(tmp_path: Path, scratch: Path) -> None:
    """With host and keeper killed, a child of the worker lives on; the next probe ends it and removes the folder.

    It leaves what a living host uses, what is not its own, and links.
    """
    dead, living = Host(tmp_path, scratch, "dead"), Host(tmp_path, scratch, "living")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "kept").mkdir(parents=True)
    others = [scratch / f"{PREFIX}link", scratch / f"{PREFIX}file", scratch / "tuner-other"]
    others[0].symlink_to(elsewhere)
    others[1].touch()
    others[2].mkdir()
    os.kill(dead.keeper(), signal.SIGKILL)
    dead.kill()
    assert dead.control.exists()
    assert dead.left()
    (outcome,) = played({"act": "runs"})
    assert outcome.failure is None
    assert dead.left() == []
    assert not dead.control.exists()
    assert living.control.exists()
    assert len(living.left()) == 3
    assert (elsewhere / "kept").exists()
    living.kill()
    wait_for(lambda: not living.left() and not living.control.exists())
    others[0].unlink()
    others[1].unlink()
    others[2].rmdir()


# ---- answers

DEEP = "[" * 5000 + "]" * 5000


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"act": "is huge"}, "it is larger than 32 MiB"),
        ({"act": "is a pipe"}, "it is not a regular file"),
        ({"act": "is a device"}, "it is not a regular file"),
        ({"act": "is a folder"}, "it is not a regular file"),
        ({"act": "says", "text": "[]"}, "it is not a JSON object"),
        ({"act": "says", "text": "{"}, "Expecting property name"),
        ({"act": "says", "text": ""}, "Expecting value"),
        ({"act": "says", "text": f'{{"a": {DEEP}}}'}, "it is nested too deeply"),
        ({"act": "says", "text": '{"result": "failed"}'}, "missing required field `kind`"),
        ({"act": "says", "text": '{"result": 1, "kind": [], "message": ""}'}, "got `int` - at `$.result`"),
        ({"act": "says", "text": '{"result": "failed", "kind": "model", "message": 5}'}, "got `int` - at `$.message`"),
        ({"act": "says", "text": "{}"}, "missing required field `result`"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["act"],
)
def test_an_answer_that_is_none_costs_one_model(config: dict[str, Any], said: str) -> None:
    """It is read within bounds and named; no report comes of it, and the worker is not asked again."""
    bad, good = played(config, {"act": "runs"})
    failure = failure_of(bad)
    assert failure.kind == "report"
    assert failure.message.startswith("The worker's answer report")
    assert said in failure.message
    assert good.report is not None


@pytest.mark.parametrize(
    "answer", ["[]", "{", "7", '{"result": "failed"}', '{"result": "failed", "message": "x", "where": 1}', "{}"]
)
def test_an_environment_that_is_none_stops_everything(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """In one sentence, for every model."""
    monkeypatch.setenv("ANSWER", answer)
    with pytest.raises(TunerError, match=r"environment\.json is damaged") as raised:
        played({"act": "runs"})
    assert raised.value.kind == "report"


@pytest.mark.parametrize(
    "answer",
    [
        '{"result": "ok"}',
        '{"result": "ok", "environment": {}, "architectures": [7]}',
        '{"result": "ok", "environment": {}, "architectures": [{"architecture": "A"}]}',
        '{"result": "failed", "message": "m"}',
    ],
)
def test_a_registry_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """Before anything is read from it."""
    monkeypatch.setenv("LISTING", answer)
    with pytest.raises(TunerError, match=r"registry\.json is damaged"):
        list_registry(sys.executable, lambda *_: None)


# ---- secrets


def test_no_secret_leaves_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a log holds neither what looks like a secret nor the value of a secret variable of this process."""
    monkeypatch.setenv("MY_DB_PASSWORD", "correct horse battery")
    text = "get https://me:pw12345678@host/x with hf_abcdefghijklmnopqrstuv\n\x1b[31mred\x1b[0m correct horse battery"
    (outcome,) = played({"act": "dies", "text": text})
    failure = failure_of(outcome)
    assert failure.kind == "crash"
    assert failure.hint.splitlines()[1:] == ["get https://***@host/x with ***", "red ***"]


def test_no_secret_leaves_in_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a report or a failure quotes goes to the user and into the store."""
    monkeypatch.setenv("SERVICE_TOKEN", "not-a-known-shape")
    failed = {"result": "failed", "kind": "model", "message": "E: not-a-known-shape", "where": "m.py:1"}
    report = {"result": "ok", "scenarios": [{"detail": "E: Authorization: Bearer abc.def"}]}
    first, second = played({"act": "says", "text": json.dumps(failed)}, {"act": "says", "text": json.dumps(report)})
    assert failure_of(first).message == "E: ***"
    assert second.report == {"result": "ok", "scenarios": [{"detail": "E: Authorization: ***"}]}


def test_a_log_of_any_size_is_quoted_at_once() -> None:
    """Only its end is read, and of a line only its start is shown."""
    (outcome,) = played({"act": "dies", "text": "x" * (LARGEST // 2)})
    hint = failure_of(outcome).hint
    assert len(hint) < 500
    assert hint.endswith("x…")
