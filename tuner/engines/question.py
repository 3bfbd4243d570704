"""A question about one launch, asked of the vLLM that will serve it, in a process of its own."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.processes.answers import FAILED, Shape, require
from tuner.processes.failures import log_hint
from tuner.processes.interrupts import uninterrupted
from tuner.processes.worker_process import START_LIMIT, WorkerProcess

WORKER = Path(__file__).parent / "worker" / "vllm_launch_worker"
Answer = dict[str, Any]
Variables = Callable[[Path], Mapping[str, str]]
"""All environment variables of the process, told its control folder."""
ENDED: Shape = {"how": str}
"""The shape of an answer of an engine that left none."""


@dataclass(frozen=True)
class WorkerQuery:
    """What is asked.

    Attributes:
        name: `factors`, `proof`, `replay` or `output`; also the kind of the error if vLLM cannot answer.
        args: what stands behind `vllm serve`.
        limit: seconds for each engine; for a question that is asked of no engines, vLLM's import included.
        memory_limit: bytes that the worker and its children may use; None: `default_memory` of
            `tuner.processes.limits`.
        more: what else the worker must know.
        engines: what it must know of each engine, for a question that is asked of engines.
    """

    name: str
    args: Sequence[str]
    limit: float
    memory_limit: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    engines: Sequence[Mapping[str, Any]] = ()

    def request(self) -> dict[str, Any]:
        """For the worker; a model may be named by a path from this working directory."""
        own = {"schema": 1, "question": self.name, "args": list(self.args), "folder": str(Path.cwd())}
        return {**own, **self.more, "engines": list(self.engines)}


def query_worker(question: WorkerQuery, python: str, variables: Variables) -> Answer:
    """The answer of the serving environment's vLLM.

    Raises:
        TunerError: kind `environment` or `control_folder`: the interpreter does not start, no folder can be written;
            of the question's kind: vLLM refuses the launch, or ended without an answer; `memory` or `report`: the
            worker took too much, or answered nonsense.
    """
    with _begun(question, python, variables) as process:
        answer = _answer(process, question, 0)
    if isinstance(answer, TunerError):
        raise answer
    return answer


def query_engines(
    question: WorkerQuery, python: str, variables: Variables, stop: Event | None = None
) -> Generator[Answer | TunerError]:
    """The answer of each of the question's engines as soon as it is there, or the failure in its place.

    They start one after another from one import of vLLM. A failure that leaves no process to go on costs its own engine
    alone; those behind it have another process. `stop` ends the wait once it is set, from another thread.

    Raises:
        Stopped: `stop` was set.
    """
    done = 0
    while done < len(question.engines):
        for answer in _of_one_process(replace(question, engines=question.engines[done:]), python, variables, stop):
            done += 1
            yield answer


def _of_one_process(
    question: WorkerQuery, python: str, variables: Variables, stop: Event | None
) -> Iterator[Answer | TunerError]:
    """The answers through the first failure that leaves no process to go on."""
    try:
        with _begun(question, python, variables, stop) as process:
            if process.awaited("ready.json", START_LIMIT) is None:
                raise _no_answer(process, ErrorKind(question.name), START_LIMIT)
            for number in range(len(question.engines)):
                yield _answer(process, question, number)
    except TunerError as failure:
        yield failure


@contextmanager
def _begun(
    question: WorkerQuery, python: str, variables: Variables, stop: Event | None = None
) -> Iterator[WorkerProcess]:
    process = WorkerProcess(stop, question.memory_limit)
    try:
        with uninterrupted():
            process.begin(python, WORKER, question.request(), variables)
        yield process
    finally:
        process.close()


def _answer(process: WorkerProcess, question: WorkerQuery, number: int) -> Answer | TunerError:
    """An answer, or why vLLM refuses; raises where none came or it is none, since then nothing more will come."""
    name = f"result-{number}.json"
    found = process.awaited(name, question.limit)
    if found is None:
        raise _no_answer(process, ErrorKind(question.name), question.limit)
    if found.get("result") == "ended":
        require(name, found, ENDED)
        said = f"The engine's process ended early ({found['how']})."
        return TunerError(said, hint=log_hint(process.log_tail()), kind=ErrorKind(question.name))
    if found.get("result") != "ok":
        require(name, found, FAILED)
        said = f"vLLM refuses this launch: {found['message']}"
        return TunerError(said, hint=f"Raised at {found['where']}.", kind=ErrorKind(question.name))
    require(name, found, {question.name: dict})
    answer: Answer = found[question.name]
    return answer


def _no_answer(process: WorkerProcess, kind: ErrorKind, limit: float) -> TunerError:
    said = f"vLLM did not answer within {limit:.0f} s."
    if not process.runs():
        said = f"The process that runs vLLM ended early ({process.exit_words()})."
    return TunerError(said, hint=log_hint(process.log_tail()), kind=kind)
