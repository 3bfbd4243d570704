"""A question about one launch to the vLLM that will serve it, which runs in its own process."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from msgspec import Struct

from cache.secrets import without_secrets
from rules.errors import ErrorKind, TunerError
from tuner.processes.answers import Failed, checked
from tuner.processes.failures import log_hint
from tuner.processes.interrupts import uninterrupted
from tuner.processes.log_tail import ignored
from tuner.processes.worker_process import START_LIMIT, WorkerProcess

WORKER = Path(__file__).parent / "worker" / "vllm_launch_worker"
Answer = dict[str, Any]
Variables = Callable[[Path], Mapping[str, str]]
"""From the control folder of the process to all its environment variables."""
NO_ANSWER = "vLLM did not answer within"
"""How the message about a worker begins that ran past its time limit."""
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
"""GiB; without it a CPU build reserves half the machine."""
SETTINGS = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}


TELLING = {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_LOGGING_COLOR": "0"}


class Ended(Struct, frozen=True):
    """The worker's answer for an engine that ended without one; `how` says how it ended."""

    how: str


@dataclass(frozen=True)
class WorkerQuery:
    """What the worker is asked.

    Attributes:
        name: `factors`, `proof`, `replay` or `arm`; also the kind of the error if vLLM cannot answer.
        args: the arguments behind `vllm serve`.
        limit: seconds for each engine; for a question that does not go to engines, vLLM's import included.
        memory_limit: bytes that the worker and its children may use; None: `default_memory` of
            `tuner.processes.limits`.
        more: what else the worker must know.
        engines: what the worker must know of each engine, for a question that goes to engines.
        worker: the worker that is asked.
        hear: gets the last line of the engine's log, now and then; from any thread.
    """

    name: str
    args: Sequence[str]
    limit: float
    memory_limit: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    engines: Sequence[Mapping[str, Any]] = ()
    worker: Path = field(default_factory=lambda: WORKER)
    hear: Callable[[str], None] = ignored

    def request(self) -> dict[str, Any]:
        """The request for the worker; its `folder` is where a relative path to a model begins."""
        own = {"schema": 1, "question": self.name, "args": list(self.args), "folder": str(Path.cwd())}
        return {**own, **self.more, "engines": list(self.engines)}


def worker_variables(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """Variables of a launch without its secrets, with what this tool sets; the worker gives each engine its own caches.

    Args:
        environ: the environment variables of the launch.
        extra: variables that win over those.
    """
    return {**CPU, **without_secrets(environ), **extra, **SETTINGS}


def engine_variables(environ: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """As `worker_variables`, for engines that run for minutes: their log tells what they do."""
    return {**worker_variables(environ, extra), **TELLING}


def query_worker(question: WorkerQuery, python: str, variables: Variables) -> Answer:
    """The answer of the serving environment's vLLM.

    Raises:
        TunerError: kind `environment` or `control_folder`: the interpreter does not start, no folder can be written;
            of the question's kind: vLLM refuses the launch, or ended without an answer; `memory` or `report`: the
            worker took too much, or answered nonsense.
    """
    with _started(question, python, variables) as process:
        answer = _answer(process, question, 0)
    if isinstance(answer, TunerError):
        raise answer
    return answer


def query_engines(
    question: WorkerQuery, python: str, variables: Variables, stop: Event | None = None
) -> Generator[Answer | TunerError]:
    """The answer of each engine, or its failure, as soon as it is there.

    The engines start one after another from one import of vLLM. If a failure leaves no process to go on, the next
    engines get another process. Another thread ends the wait by setting `stop`.

    Raises:
        Stopped: `stop` was set.
    """
    answered = 0
    while answered < len(question.engines):
        unanswered = replace(question, engines=question.engines[answered:])
        for answer in _of_one_process(unanswered, python, variables, stop):
            answered += 1
            yield answer


def _of_one_process(
    question: WorkerQuery, python: str, variables: Variables, stop: Event | None
) -> Iterator[Answer | TunerError]:
    """The answers up to the first failure that leaves no process to go on, and that failure."""
    try:
        with _started(question, python, variables, stop) as process:
            if process.awaited("ready.json", START_LIMIT, question.hear) is None:
                raise _no_answer(process, ErrorKind(question.name), START_LIMIT)
            for number in range(len(question.engines)):
                yield _answer(process, question, number)
    except TunerError as failure:
        yield failure


@contextmanager
def _started(
    question: WorkerQuery, python: str, variables: Variables, stop: Event | None = None
) -> Iterator[WorkerProcess]:
    process = WorkerProcess(stop, question.memory_limit)
    try:
        with uninterrupted():
            process.begin(python, question.worker, question.request(), variables)
        yield process
    finally:
        process.close()


def _answer(process: WorkerProcess, question: WorkerQuery, number: int) -> Answer | TunerError:
    """An answer, or the failure that it describes.

    Raises:
        TunerError: there is no answer, or it cannot be used: then no other answer will come from this process.
    """
    name = f"result-{number}.json"
    answer = process.awaited(name, question.limit, question.hear)
    if answer is None:
        raise _no_answer(process, ErrorKind(question.name), question.limit)
    if answer.get("result") == "ended":
        how = checked(name, answer, Ended).how
        message = f"The engine's process ended early ({how})."
        return TunerError(message, hint=log_hint(process.log_tail()), kind=ErrorKind(question.name))
    if answer.get("result") != "ok":
        failed = checked(name, answer, Failed)
        message = f"vLLM refuses this launch: {failed.message}"
        return TunerError(message, hint=f"Raised at {failed.where}.", kind=ErrorKind(question.name))
    return checked(name, answer.get(question.name), Answer)


def _no_answer(process: WorkerProcess, kind: ErrorKind, limit: float) -> TunerError:
    message = f"{NO_ANSWER} {limit:.0f} s."
    if not process.runs():
        message = f"The process that runs vLLM ended early ({process.exit_words()})."
    return TunerError(message, hint=log_hint(process.log_tail()), kind=kind)
