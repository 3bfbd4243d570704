"""The host half of the probe: start the worker, watch it, bring back what it wrote.

Only this module starts a process. The worker is known by path, never by import.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Self

from tuner.errors import TunerError

WORKER = Path(__file__).parent / "worker" / "moe_probe_worker"
START_LIMIT = 600.0
"""Seconds allowed for importing vLLM; 8 to 28 s were measured."""
POLL = 0.1
LOG_TAIL = 12
ROOM = 64 * 1024
"""Bytes; more than most reports take."""
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "VLLM_API_KEY")
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; without it a CPU build reserves half the machine
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True)
class Job:
    """One model for the worker.

    Attributes:
        index: position in the request; results carry it.
        config: the shrunk config.json.
        folder: the model's own folder; read only for its code, and only with `trust_remote_code`.
        special_tokens: token ids that the config names.
        assumptions: what shrinking changed; goes into the report.
        declares_experts: whether the full config asks for more than one routed expert; goes into the report.
        model_impl: vLLM's `--model-impl`.
        trust_remote_code: run code from the model's folder.
        deep: the config with every layer, for a model whose code asks for layers by number; None where none was cut.
    """

    index: int
    config: dict[str, Any]
    folder: str
    special_tokens: tuple[int, ...]
    assumptions: tuple[dict[str, str], ...] = ()
    declares_experts: bool = False
    model_impl: str = "auto"
    trust_remote_code: bool = False
    deep: dict[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one job: a report, or a failure.

    Attributes:
        index: the job's.
        report: what the worker observed; None after a failure.
        failure: None, or what stopped it; its `kind` is one of `unknown_architecture`,
            `remote_code`, `kernel_missing`, `model`, `timeout`, `crash`, `environment`.
        seconds: wall time, vLLM's import excluded.
    """

    index: int
    report: dict[str, Any] | None
    failure: TunerError | None
    seconds: float


def run(
    python: str, jobs: Sequence[Job], *, time_limit: float, on_stage: Callable[[str, int], None]
) -> Iterator[Outcome]:
    """Probe every job; a crash or a hang costs the one model that caused it.

    Args:
        python: interpreter of the serving environment.
        jobs: the models.
        time_limit: seconds for each model, vLLM's import excluded.
        on_stage: told `import` or `probe`, and the index of the model under way.

    Raises:
        TunerError: kind `environment`: the interpreter does not start, or vLLM does not import there.
    """
    pending = list(jobs)
    while pending:
        on_stage("import", pending[0].index)
        done = 0
        with Worker(python, pending) as worker:
            for outcome in worker.outcomes(time_limit, on_stage):
                done += 1
                yield outcome
        pending = pending[done:]


class Worker:
    """One worker process and its control folder; both are gone when the context ends."""

    def __init__(self, python: str, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        self.control = _control_folder()
        try:
            request = {"schema": 1, "models": [asdict(job) for job in jobs]}
            (self.control / "request.json").write_text(json.dumps(request), encoding="utf-8")
            (self.control / "work").mkdir()
            log = (self.control / "log").open("wb")
        except OSError as error:
            shutil.rmtree(self.control, ignore_errors=True)
            raise _no_control_folder(error) from None
        with log:
            self.process = _start(python, self.control, log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._kill()
        shutil.rmtree(self.control, ignore_errors=True)

    def outcomes(self, time_limit: float, on_stage: Callable[[str, int], None]) -> Iterator[Outcome]:
        """Results in order; ends early after a crash or a hang, with the model that caused it last."""
        self._await_environment()
        for job in self.jobs:
            on_stage("probe", job.index)
            begin = time.monotonic()
            report = self._await(f"report-{job.index}.json", time_limit)
            outcome = self._outcome(job, report, time.monotonic() - begin)
            yield outcome
            if report is None:
                return

    def _outcome(self, job: Job, report: dict[str, Any] | None, seconds: float) -> Outcome:
        if report is not None and report.get("result") == "ok":
            return Outcome(job.index, report, None, seconds)
        return Outcome(job.index, None, _failed(report) if report else self._died(seconds), seconds)

    def _await_environment(self) -> None:
        facts = self._await("environment.json", START_LIMIT)
        if facts is None:
            raise self._never_ready()
        if facts["result"] != "ok":
            raise TunerError(
                f"vLLM does not import in this environment: {facts['message']}",
                hint=f"Raised at {facts['where']}; check the environment with its own `python -c 'import vllm'`.",
                kind="environment",
            )

    def _await(self, name: str, limit: float) -> dict[str, Any] | None:
        """The file's JSON as soon as it is there; None if the worker ended or the limit passed."""
        path, end = self.control / name, time.monotonic() + limit
        while not path.exists():
            if self.process.poll() is not None and not path.exists():
                return None
            if time.monotonic() > end:
                return None
            time.sleep(POLL)
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def _never_ready(self) -> TunerError:
        said = f"The probe worker ended before vLLM was imported ({self._exit_words()})."
        if self.process.poll() is None:
            said = f"vLLM was not imported within {START_LIMIT:.0f} s."
        elif _is_full(self.control):
            return _no_control_folder(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return TunerError(said, hint=_log_hint(self._log_tail()), kind="environment")

    def _died(self, seconds: float) -> TunerError:
        if self.process.poll() is None:
            return TunerError(
                f"The probe was stopped after {seconds:.0f} s without a result.",
                hint="Raise --time-limit, or probe this model on a faster machine.",
                kind="timeout",
            )
        if _is_full(self.control):
            return _no_control_folder(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return TunerError(
            f"The probe worker died ({self._exit_words()}).", hint=_log_hint(self._log_tail()), kind="crash"
        )

    def _exit_words(self) -> str:
        code = self.process.poll() or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _log_tail(self) -> str:
        lines = (self.control / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(line for line in lines[-LOG_TAIL:] if line.strip())

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def _control_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="tuner-probe-"))
    except OSError as error:
        raise _no_control_folder(error) from None


def _no_control_folder(error: OSError) -> TunerError:
    return TunerError(
        f"The probe cannot write its control folder under {tempfile.gettempdir()}: {error.strerror}.",
        hint="Free some space there or point TMPDIR at another folder.",
        kind="control_folder",
    )


def _is_full(folder: Path) -> bool:
    """Whether a report could not be written there, for want of space or, where the file system counts them, inodes."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < ROOM or (state.f_files > 0 and state.f_favail == 0)


def _start(python: str, control: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    environment |= SETTINGS | {"VLLM_CACHE_ROOT": str(control / "cache")}
    try:
        return subprocess.Popen(
            [python, str(WORKER), str(control)],
            cwd=control / "work",  # vLLM's helpers import from their working directory: keep it clean
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        shutil.rmtree(control, ignore_errors=True)
        raise TunerError(
            f"{python} does not start: {error.strerror}.",
            hint="Name the interpreter of the serving environment with --python.",
            kind="environment",
        ) from None


HINTS = {
    "kernel_missing": "This vLLM has no kernel for it on this machine; probe on the GPU type that will serve.",
    "unknown_architecture": "Another vLLM release may have it; see its list of supported models.",
    "remote_code": "Run again with --trust-remote-code if you trust the code in the model's folder.",
}


def _failed(report: Mapping[str, Any]) -> TunerError:
    where = report.get("where", "")
    hint = HINTS.get(report["kind"]) or f"vLLM could not build or run the model on this machine, at {where}."
    return TunerError(report["message"], hint=hint, kind=report["kind"])


def _log_hint(tail: str) -> str:
    return f"The end of its log:\n{tail}" if tail else "Its log is empty."
