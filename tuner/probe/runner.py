"""The host half of the probe: starts the worker, watches it, and reads its answers.

It knows the worker by its path, and never imports it.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any, Self

from msgspec import Struct

from cache.secrets import without_secrets
from rules.errors import ErrorKind, TunerError
from tuner.probe.failures import failed, no_vllm, not_listed
from tuner.processes.answers import Failed, checked
from tuner.processes.failures import disk_full, is_full, log_hint
from tuner.processes.interrupts import uninterrupted
from tuner.processes.worker_process import START_LIMIT, WorkerProcess

WORKER = Path(__file__).parent / "worker" / "moe_probe_worker"
SETTINGS = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",  # the one in the home folder stays there, too
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


class ListedArchitecture(Struct, frozen=True):
    """An architecture in the list of a registry; the worker's `registry.py` describes the fields."""

    architecture: str
    category: str
    moe: str
    error: str
    source: str
    reason: str
    config: dict[str, Any] | None


class Listing(Struct, frozen=True):
    """What the worker says of vLLM's registry.

    Attributes:
        environment: the versions, as in a report.
        architectures: one entry for each registered architecture.
    """

    environment: dict[str, Any]
    architectures: list[ListedArchitecture]


@dataclass(frozen=True)
class Job:
    """One model for the worker.

    Attributes:
        index: position in the request; results carry it.
        config: the shrunk config.json.
        folder: the model's own folder; the worker reads `side_files` there and, with `trust_remote_code`, the code.
        special_tokens: token ids that the config names.
        assumptions: what shrinking changed; part of the report.
        declares_experts: whether the full config names more than one routed expert; part of the report.
        model_impl: vLLM's `--model-impl`.
        trust_remote_code: run code from the model's folder.
        side_files: names of the folder's other files that vLLM must find beside config.json.
        deep: the config with every layer, for a model whose code asks for layers by number; None if no layer was cut.
    """

    index: int
    config: dict[str, Any]
    folder: str
    special_tokens: tuple[int, ...]
    assumptions: tuple[dict[str, str], ...] = ()
    declares_experts: bool = False
    model_impl: str = "auto"
    trust_remote_code: bool = False
    side_files: tuple[str, ...] = ()
    deep: dict[str, Any] | None = None


@dataclass(frozen=True)
class JobOutcome:
    """The outcome of one job: a report, or a failure.

    Attributes:
        index: the index of the job.
        report: what the worker observed; None after a failure.
        failure: what stopped the job, or None; its `kind` is one of `unknown_architecture`,
            `plugin`, `remote_code`, `kernel_missing`, `model`, `timeout`, `memory`, `crash`, `report`, `environment`.
        seconds: wall time, vLLM's import excluded.
    """

    index: int
    report: dict[str, Any] | None
    failure: TunerError | None
    seconds: float


def run(
    python: str,
    jobs: Sequence[Job],
    *,
    time_limit: float,
    on_stage: Callable[[str, int], None],
    variables: Mapping[str, str] | None = None,
    stop: Event | None = None,
    memory_limit: int | None = None,
) -> Generator[JobOutcome, None, None]:
    """Probe every job; a crash or a hang costs only the model that caused it.

    Args:
        python: interpreter of the serving environment.
        jobs: the models.
        time_limit: seconds for each model, vLLM's import excluded.
        on_stage: gets `import` or `probe`, and the index of the model under way.
        variables: environment variables of the worker, beside those of this process.
        stop: ends the run once another thread sets it.
        memory_limit: bytes that the worker and its children may use; None: `default_memory` of `limits.py`.

    Raises:
        TunerError: kind `environment`: the interpreter does not start, or vLLM does not import there.
        Stopped: `stop` was set.
    """
    pending = list(jobs)
    while pending:
        on_stage("import", pending[0].index)
        finished = 0
        with Worker(python, pending, variables, stop, memory_limit=memory_limit) as worker:
            for outcome in worker.outcomes(time_limit, on_stage):
                finished += 1
                yield outcome
        pending = pending[finished:]


def list_registry(python: str, on_stage: Callable[[str, int], None]) -> dict[str, Any]:
    """Every architecture that the environment's vLLM registers, as the worker's `registry.py` describes them.

    Args:
        python: interpreter of the serving environment.
        on_stage: gets `import`, and 0.

    Returns:
        The fields of `Listing`, and `seconds`, without the import.

    Raises:
        TunerError: kind `environment`: the interpreter does not start, or its vLLM cannot be asked; `report`, `memory`.
    """
    on_stage("import", 0)
    with Worker(python, (), request={"schema": 1, "list": True}) as worker:
        return worker.listing()


class Worker:
    """One worker process and its control folder; both are gone when the context ends."""

    def __init__(
        self,
        python: str,
        jobs: Sequence[Job],
        variables: Mapping[str, str] | None = None,
        stop: Event | None = None,
        *,
        request: Mapping[str, Any] | None = None,
        memory_limit: int | None = None,
    ) -> None:
        self.python, self.jobs, self.variables = python, jobs, dict(variables or {})
        self.request = request or {"schema": 1, "models": [asdict(job) for job in jobs]}
        self.process = WorkerProcess(stop, memory_limit)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.close()

    def outcomes(self, time_limit: float, on_stage: Callable[[str, int], None]) -> Iterator[JobOutcome]:
        """Outcomes in order. They end early after a crash or a hang; the model that caused it comes last.

        They also end early once the models so far left much memory in use, as vLLM's models for images do.
        """
        self._await_environment()
        for job in self.jobs:
            on_stage("probe", job.index)
            begin = time.monotonic()
            report, failure = self._answer(job, time_limit)
            seconds = time.monotonic() - begin
            if report is None:
                yield JobOutcome(job.index, None, failure or self._died(seconds), seconds)
                return
            yield JobOutcome(job.index, None if failure else report, failure, seconds)
            if self.process.is_worn():
                return

    def _answer(self, job: Job, time_limit: float) -> tuple[dict[str, Any] | None, TunerError | None]:
        """The worker's report on a job, and the failure that it describes; no report if the worker must not go on."""
        try:
            report = self.process.awaited(f"report-{job.index}.json", time_limit)
            if report is not None and report.get("result") != "ok":
                return report, failed(report)
        except TunerError as failure:
            return None, failure
        return report, None

    def listing(self) -> dict[str, Any]:
        """What the worker says of vLLM's registry.

        Raises:
            TunerError: kind `environment`: vLLM does not import there, or its registry cannot be listed.
        """
        self._await_environment()
        name = "registry.json"
        answer = self.process.awaited(name, START_LIMIT)
        if answer is None:
            raise not_listed(f"the worker ended early ({self.process.exit_words()})", log_hint(self.process.log_tail()))
        if answer.get("result") != "ok":
            failure = checked(name, answer, Failed)
            raise not_listed(failure.message, f"Raised at {failure.where}.")
        checked(name, answer, Listing)
        return answer

    def _await_environment(self) -> None:
        with uninterrupted():
            self.process.begin(self.python, WORKER, self.request, self._environment)
        facts = self.process.awaited("environment.json", START_LIMIT)
        if facts is None:
            raise self._never_ready()
        if facts.get("result") != "ok":
            raise no_vllm(facts)

    def _never_ready(self) -> TunerError:
        message = f"The probe worker ended before vLLM was imported ({self.process.exit_words()})."
        if self.process.runs():
            message = f"vLLM was not imported within {START_LIMIT:.0f} s."
        elif is_full(self.process.control):
            return disk_full()
        return TunerError(message, hint=log_hint(self.process.log_tail()), kind=ErrorKind.ENVIRONMENT)

    def _died(self, seconds: float) -> TunerError:
        if self.process.runs():
            return TunerError(
                f"The probe was stopped after {seconds:.0f} s without a result.",
                hint="Raise --time-limit, or probe this model on a faster machine.",
                kind=ErrorKind.TIMEOUT,
            )
        if is_full(self.process.control):
            return disk_full()
        return TunerError(
            f"The probe worker died ({self.process.exit_words()}).",
            hint=log_hint(self.process.log_tail()),
            kind=ErrorKind.CRASH,
        )

    def _environment(self, control: Path) -> dict[str, str]:
        folders = {"HF_TOKEN_PATH": "no-token", "TMPDIR": "tmp", "VLLM_CACHE_ROOT": "cache"}
        own = {name: str(control / folder) for name, folder in folders.items()}
        return without_secrets(os.environ) | SETTINGS | own | self.variables
