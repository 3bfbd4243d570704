"""A question about one launch, asked of the vLLM that will serve it, in a process of its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.errors import TunerError
from tuner.probe.answers import FAILED, require
from tuner.probe.failures import log_hint
from tuner.probe.interrupts import uninterrupted
from tuner.probe.process import WorkerProcess

WORKER = Path(__file__).parent / "launch_worker" / "vllm_launch_worker"
Variables = Callable[[Path], Mapping[str, str]]
"""All environment variables of the process, told its control folder."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        name: `factors`, `replay` or `output`; also the kind of the error if vLLM cannot answer.
        args: what stands behind `vllm serve`.
        limit: seconds, vLLM's import included.
        memory_limit: bytes that the worker and its children may use; None: `default_memory` of `tuner.probe.limits`.
        more: what else the worker must know.
    """

    name: str
    args: Sequence[str]
    limit: float
    memory_limit: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """For the worker; a model may be named by a path from this working directory."""
        own = {"schema": 1, "question": self.name, "args": list(self.args), "folder": str(Path.cwd())}
        return {**own, **self.more}


def asked(question: Question, python: str, variables: Variables) -> dict[str, Any]:
    """The answer of the serving environment's vLLM.

    Raises:
        TunerError: kind `environment` or `control_folder`: the interpreter does not start, no folder can be written;
            of the question's kind: vLLM refuses the launch, or ended without an answer; `memory` or `report`: the
            worker took too much, or answered nonsense.
    """
    process = WorkerProcess(memory_limit=question.memory_limit)
    try:
        with uninterrupted():
            process.begin(python, WORKER, question.request(), variables)
        found = process.awaited("result.json", question.limit)
        if found is None:
            raise _no_answer(process, question)
    finally:
        process.close()
    if found.get("result") != "ok":
        require("result.json", found, FAILED)
        said = f"vLLM refuses this launch: {found['message']}"
        raise TunerError(said, hint=f"Raised at {found['where']}.", kind=question.name)
    require("result.json", found, {question.name: dict})
    answer: dict[str, Any] = found[question.name]
    return answer


def _no_answer(process: WorkerProcess, question: Question) -> TunerError:
    said = f"vLLM did not answer within {question.limit:.0f} s."
    if not process.runs():
        said = f"The process that runs vLLM ended early ({process.exit_words()})."
    return TunerError(said, hint=log_hint(process.log_tail()), kind=question.name)
