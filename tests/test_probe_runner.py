"""The host half of the probe: whatever becomes of the worker, every model gets its outcome.

A script stands in for the worker and does what each job's config says: faults that a real vLLM shows rarely and after
half a minute are shown at once. `test_probe_vllm.py` provokes hang and kill in a real vLLM.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in_worker import stand_in_worker

from rules.errors import TunerError
from tuner.probe import runner
from tuner.probe.runner import Job, JobOutcome, run

STAND_IN = """
import json, os, signal, subprocess, sys, tempfile, time
from pathlib import Path

control = Path(sys.argv[1])

def write(name, value):
    (control / "draft").write_text(json.dumps(value))
    os.replace(control / "draft", control / name)

jobs = json.loads((control / "request.json").read_text())["models"]
start = jobs[0]["config"].get("start", "ok")
if start == "dies":
    print("the last words")
    sys.exit(3)
if start == "hangs":
    time.sleep(600)
write("environment.json", {"result": start, "message": "ImportError: no kernel", "where": "torch.py:1"})
if start != "ok":
    sys.exit()
for job in jobs:
    act = job["config"]["act"]
    print("about to", act, flush=True)
    if act == "hangs":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(job["config"]["note"]).write_text(f"{os.getpid()} {child.pid} {control}")
        time.sleep(600)
    if act == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "exits":
        sys.exit(9)
    if act == "fails":
        failure = {"result": "failed", "kind": "model", "message": "E: no", "where": "m.py:3"}
        write(f"report-{job['index']}.json", failure)
    else:
        facts = {"cwd": os.getcwd(), "inside": os.listdir(), "env": dict(os.environ), "pid": os.getpid()}
        facts["tmp"] = tempfile.gettempdir()
        write(f"report-{job['index']}.json", {"result": "ok", "facts": facts, "job": job})
"""


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the stand-in in the place of the worker; its control folders must be gone at the end."""
    with stand_in_worker(STAND_IN, tmp_path, monkeypatch) as folder:
        yield folder


def played(
    *acts: str, time_limit: float = 60, stages: list[tuple[str, int]] | None = None, **first: str
) -> list[JobOutcome]:
    """Run one job for each act.

    Args:
        acts: what the worker does with each job.
        time_limit: seconds for each.
        stages: collects what `on_stage` is told.
        first: more for the first job's config.
    """
    jobs = [Job(index, {"act": act, **(first if index == 0 else {})}, "/model", ()) for index, act in enumerate(acts)]
    told = stages if stages is not None else []
    return list(run(sys.executable, jobs, time_limit=time_limit, on_stage=lambda *stage: told.append(stage)))


def kinds(outcomes: list[JobOutcome]) -> list[str]:
    """`ok` or the failure's kind, in order."""
    return [outcome.failure.kind if outcome.failure else "ok" for outcome in outcomes]


def facts(outcome: JobOutcome) -> dict[str, Any]:
    """What a finished job saw of its process."""
    assert outcome.report is not None
    found: dict[str, Any] = outcome.report["facts"]
    return found


def test_many_models_share_one_process() -> None:
    """Importing vLLM takes most of the time, so it is done once, and the stages are told in order."""
    stages: list[tuple[str, int]] = []
    outcomes = played("runs", "fails", "runs", stages=stages)
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]
    assert kinds(outcomes) == ["ok", "model", "ok"]
    assert facts(outcomes[0])["pid"] == facts(outcomes[2])["pid"]
    assert stages == [("import", 0), ("probe", 0), ("probe", 1), ("probe", 2)]


def test_no_job_starts_no_process(scratch: Path) -> None:
    """Models that could not be identified cost nothing."""
    assert list(run("/nowhere/python", [], time_limit=1, on_stage=lambda *_: None)) == []
    assert list(scratch.iterdir()) == []


def test_a_job_arrives_whole() -> None:
    """Every field of a job reaches the worker as JSON."""
    job = Job(
        index=0,
        config={"act": "runs", "x": [1]},
        folder="/model",
        special_tokens=(5, 7),
        assumptions=({"kind": "a", "detail": "b"},),
        declares_experts=True,
        model_impl="vllm",
        trust_remote_code=True,
        side_files=("modules.json",),
        deep={"act": "runs", "x": [1, 2]},
    )
    (outcome,) = run(sys.executable, [job], time_limit=60, on_stage=lambda *_: None)
    assert outcome.report is not None
    assert outcome.report["job"] == {
        "index": 0,
        "config": {"act": "runs", "x": [1]},
        "folder": "/model",
        "special_tokens": [5, 7],
        "assumptions": [{"kind": "a", "detail": "b"}],
        "declares_experts": True,
        "model_impl": "vllm",
        "trust_remote_code": True,
        "side_files": ["modules.json"],
        "deep": {"act": "runs", "x": [1, 2]},
    }


@pytest.fixture
def _heard_interrupt() -> Iterator[None]:
    """A shell makes what it starts in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heard_interrupt")
def test_an_interrupt_at_the_start_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the worker is being started ends it too: nobody else knows of it yet."""
    started: list[int] = []
    start = subprocess.Popen

    def interrupted(*arguments: Any, **settings: Any) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = start(*arguments, **settings)
        started.append(process.pid)
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        played("hangs", note="/nowhere/note")
    assert not Path(f"/proc/{started[0]}").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("act", "kind", "said"),
    [
        ("is killed", "crash", "The probe worker died (killed by SIGKILL)."),
        ("exits", "crash", "The probe worker died (exit code 9)."),
        ("fails", "model", "E: no"),
    ],
)
def test_a_failure_costs_the_one_model_that_caused_it(act: str, kind: str, said: str) -> None:
    """Models before and after it get their reports; the end of the log says what was under way."""
    outcomes = played("runs", act, "runs", act, "runs")
    assert kinds(outcomes) == ["ok", kind, "ok", kind, "ok"]
    failure = outcomes[1].failure
    assert failure is not None
    assert failure.message == said
    assert ("about to " + act in failure.hint) == (kind == "crash")


def test_a_hang_ends_at_the_time_limit_with_all_its_processes(tmp_path: Path) -> None:
    """The limit holds for each model, and the worker's own children end with it."""
    note = tmp_path / "note"
    begin = time.monotonic()
    outcomes = played("hangs", "runs", time_limit=2, note=str(note))
    assert kinds(outcomes) == ["timeout", "ok"]
    assert time.monotonic() - begin < 30
    assert outcomes[0].seconds == pytest.approx(2, abs=1.5)
    failure = outcomes[0].failure
    assert failure is not None
    assert failure.message == "The probe was stopped after 2 s without a result."
    assert "--time-limit" in failure.hint
    worker, child, control = note.read_text().split()
    assert [pid for pid in (worker, child) if is_running(pid)] == []
    assert not Path(control).exists()


def is_running(pid: str) -> bool:
    """Whether a process exists and is not a zombie: nobody may be there to collect an orphan."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_results_arrive_one_by_one(tmp_path: Path) -> None:
    """A result can be stored before the next model is begun; leaving early ends the worker."""
    jobs = [Job(0, {"act": "runs"}, "", ()), Job(1, {"act": "hangs", "note": str(tmp_path / "note")}, "", ())]
    outcomes = run(sys.executable, jobs, time_limit=60, on_stage=lambda *_: None)
    pid = facts(next(iter(outcomes)))["pid"]
    assert is_running(str(pid))
    outcomes.close()  # type: ignore[attr-defined]
    assert not is_running(str(pid))


def test_the_worker_starts_in_a_clean_folder_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers of vLLM's import from the working directory, and a probe needs no token and no network."""
    secret = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY", "AWS_PROFILE", "OPENAI_API_KEY", "PGPASSWORD"}
    for name in (*secret, "SOME_INDEX"):
        monkeypatch.setenv(name, "https://user:word@index.example/simple" if name == "SOME_INDEX" else "hidden")
    monkeypatch.setenv("VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD", "256")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("VLLM_CACHE_ROOT", "/the/users/own")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    (outcome,) = played("runs")
    seen = facts(outcome)
    assert seen["inside"] == []
    assert not {*secret, "SOME_INDEX"} & seen["env"].keys()
    assert "VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD" in seen["env"]
    assert (seen["env"]["HF_HUB_DISABLE_IMPLICIT_TOKEN"], Path(seen["env"]["HF_TOKEN_PATH"]).exists()) == ("1", False)
    assert seen["env"]["LD_LIBRARY_PATH"] == "/opt/lib"
    assert seen["env"]["HF_HUB_OFFLINE"] == "1"
    control = Path(seen["cwd"]).parent
    assert {Path(seen["env"][name]).parent for name in ("VLLM_CACHE_ROOT", "TMPDIR", "HF_TOKEN_PATH")} == {control}
    assert Path(seen["tmp"]) == control / "tmp"


@pytest.mark.parametrize(
    ("start", "said", "hint"),
    [
        ("failed", "vLLM does not import in this environment: ImportError: no kernel", "torch.py:1"),
        ("dies", "The probe worker ended before vLLM was imported (exit code 3).", "the last words"),
    ],
)
def test_an_environment_at_fault_stops_everything(start: str, said: str, hint: str) -> None:
    """No model is blamed for a vLLM that does not import."""
    with pytest.raises(TunerError) as raised:
        played("runs", "runs", start=start)
    assert (raised.value.kind, raised.value.message) == ("environment", said)
    assert hint in raised.value.hint


def test_an_import_that_never_ends_is_the_environments_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit is generous and fixed; the sentence says how long was waited."""
    monkeypatch.setattr(runner, "START_LIMIT", 1.0)
    with pytest.raises(TunerError, match="vLLM was not imported within 1 s"):
        played("runs", start="hangs")


def test_an_interpreter_that_does_not_start_is_named(tmp_path: Path) -> None:
    """The system's own word for it, and the option that names another."""
    with pytest.raises(TunerError, match=r"none does not start: No such file") as raised:
        list(run(str(tmp_path / "none"), [Job(0, {}, "", ())], time_limit=1, on_stage=lambda *_: None))
    assert "--python" in raised.value.hint


def test_a_disk_that_fills_during_the_probe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake: the file system is said to be full after the worker died; the real ones are in test_cli_bad_input."""
    monkeypatch.setattr(runner, "is_full", lambda _: True)
    outcomes = played("exits", "runs")
    assert kinds(outcomes) == ["control_folder", "ok"]


def test_the_worker_is_never_imported() -> None:
    """The host knows it by path only: it runs with another Python, beside another torch."""
    code = "import sys, tuner.probe.models; print([name for name in sys.modules if 'moe_probe_worker' in name])"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(process.stdout.replace("'", '"')) == []
