"""Makes proofs of launches: asks the serving environment's vLLM how it traces each launch's model."""

import json
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any

from msgspec import Struct, to_builtins

from rules.errors import TunerError
from rules.releases import FlagStatus
from tuner.arguments.serve_arguments import ServeArguments
from tuner.engines.question import WORKER, Answer, WorkerQuery, query_engines, worker_variables
from tuner.environment.document import flag_in
from tuner.environment.environment import Environment
from tuner.launch.plan import minimal_arguments
from tuner.model.shrink import shrink
from tuner.processes.answers import checked
from tuner.verdicts.identity import Subject, launch_worker_digest
from tuner.verdicts.proofs import launch_identity

SETTINGS = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # nothing is computed, and threads that wait would take the order probe's cores
}
COPIED = frozenset({".json", ".py", ".txt", ".model", ".jinja"})
"""Endings of the files that a folder for a smaller model takes over."""
MAX_COPIED = 64 * 2**20
"""Bytes; a tokenizer's file is the largest of these."""
AT_STAKE = frozenset({FlagStatus.SETTABLE, FlagStatus.ALWAYS_ON, FlagStatus.UNKNOWN})
"""With these statuses a `true` may be written or be in force. With any other, a model with fewer layers is traced."""

Assumptions = Sequence[Mapping[str, str]]
"""What is otherwise in a traced launch than in the real one: `{"kind", "detail"}` each, as in a report."""
Proof = dict[str, Any]
"""A proof as a report holds it (`rules.report.Proof`)."""


@dataclass(frozen=True)
class LaunchToProve:
    """A launch to prove.

    Attributes:
        subject: the model and where it is served.
        arguments: the arguments of `vllm serve`, read.
    """

    subject: Subject
    arguments: ServeArguments


def plain_launch(subject: Subject) -> LaunchToProve:
    """The launch of a model without further arguments; it names the model by its folder, which needs no hub."""
    folder = subject.model.folder or subject.model.name
    return LaunchToProve(subject, minimal_arguments(folder, None, subject.model_impl, subject.trust_remote_code))


def proofs_of(
    launches: Sequence[LaunchToProve],
    environment: Environment,
    environ: Mapping[str, str],
    limit: float,
    memory_limit: int | None = None,
    *,
    stop: Event | None = None,
    foreign: bool = False,
) -> Generator[Proof]:
    """The proof of each launch in order, as soon as it is ready; all share one import of vLLM.

    A launch that could not be traced has a proof too: it says why, and proves nothing.

    Args:
        launches: the launches, all of this environment.
        environment: where vLLM is imported.
        environ: the environment variables of the launches.
        limit: seconds for each launch, vLLM's import excluded.
        memory_limit: bytes of the worker and its children; None: as much as suits this machine.
        stop: ends the worker once another thread sets it.
        foreign: also trace models that are refused because of whose code they are; this shows how good the proof is.

    Raises:
        Stopped: `stop` was set.
    """
    variables = worker_variables(environ, SETTINGS)
    with ExitStack() as folders:
        traced = [folders.enter_context(traced_launch(launch, environment)) for launch in launches]
        engines = [{"args": list(args), "foreign": foreign} for args, _ in traced]
        question = WorkerQuery("proof", (), limit, memory_limit, engines=engines)
        answers = query_engines(question, environment.python, lambda _control: variables, stop)
        for launch, (_, assumptions), answer in zip(launches, traced, answers, strict=True):
            yield proof_of(launch, environment, answer, assumptions)


class ProofAnswer(Struct, frozen=True):
    """What the worker says of one launch; `rules.report.Proof` describes the fields."""

    ranks: list[Any]
    variables: dict[str, Any]
    fields: list[Any]
    sources: dict[str, Any]


@contextmanager
def traced_launch(launch: LaunchToProve, environment: Environment) -> Iterator[tuple[tuple[str, ...], Assumptions]]:
    """The arguments of the launch that is traced, and the assumptions under which it stands for the real one.

    Where no `true` is at stake, the model has fewer layers.
    """
    model = launch.subject.model
    if flag_in(environment).status in AT_STAKE or not model.folder or launch.arguments.model is None:
        yield launch.arguments.as_written, []
        return
    small = shrink(model.served_config)
    with tempfile.TemporaryDirectory(prefix="tuner-cut-") as name:
        folder = Path(name)
        copy_small_files(Path(model.folder), folder)
        (folder / "config.json").write_text(json.dumps(small.config), encoding="utf-8")
        arguments = launch.arguments
        args = tuple(name if argument == arguments.model else argument for argument in arguments.as_written)
        yield args, [dict(assumption) for assumption in small.assumptions]


def copy_small_files(source: Path, target: Path) -> None:
    """Copy the model folder's files that are not weights."""
    for file in source.iterdir():
        if file.is_file() and file.suffix in COPIED and file.stat().st_size <= MAX_COPIED:
            shutil.copy(file, target / file.name)


def proof_of(
    launch: LaunchToProve,
    environment: Environment,
    answer: Answer | TunerError,
    assumptions: Assumptions = (),
) -> Proof:
    """The proof that an answer of the worker makes, or the proof of a launch of which nothing was observed."""
    if isinstance(answer, TunerError):
        answer = failed_answer(answer)
    traced = checked("result.json", answer, ProofAnswer)
    identity = launch_identity(launch.arguments)
    differences = [*assumptions, *launch.subject.model.side.assumptions]
    folders = (*environment.site, str(WORKER.parent))
    ranks = [without_folders(rank, folders) for rank in traced.ranks]
    for rank in ranks:
        rank["assumptions"] = [*rank["assumptions"], *differences]
    return {
        "key": identity.key,
        "arguments": list(identity.arguments),
        "platform": environment.platform,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "worker": launch_worker_digest(),
        **to_builtins(traced),
        "ranks": ranks,
    }


def without_folders(rank: Mapping[str, Any], site: Sequence[str]) -> dict[str, Any]:
    """A rank whose failures and guards name each file below the folder that holds it.

    A proof travels in bundles, and the folders of the machine that made it mean nothing elsewhere.

    Args:
        rank: as the worker wrote it.
        site: the environment's site folders, and the folder of the workers.
    """
    failures = [{**failure, "fields": below_site(failure["fields"], site)} for failure in rank["failures"]]
    return {**rank, "failures": failures, "guards": [below_site(guard, site) for guard in rank["guards"]]}


def below_site(fields: Mapping[str, Any], site: Sequence[str]) -> dict[str, Any]:
    """The fields, their `file` relative to the site folder that holds it; a file elsewhere stays absolute."""
    file = fields.get("file")
    for folder in site:
        if isinstance(file, str) and file.startswith(f"{folder}/"):
            return {**fields, "file": file.removeprefix(f"{folder}/")}
    return dict(fields)


def failed_answer(failure: TunerError) -> Answer:
    """The answer for a launch whose process gave none."""
    reason = {"code": "rank_not_traced", "condition": 0, "fields": {"rank": "the launch", "how": failure.message}}
    rank = {"name": "the launch", "status": "failed", "failures": [reason], "registered": [], "calls": []}
    return {
        "ranks": [{**rank, "guards": [], "assumptions": [], "seconds": {}}],
        "variables": {},
        "fields": [],
        "sources": {},
    }


class BackgroundProofs:
    """Proofs that other threads make while order probes run.

    Args:
        launches: number -> launch; `awaited` takes the number.
        workers: how many workers share the launches.
        prove: makes the proofs of some launches, in order, until the event is set.
    """

    def __init__(
        self,
        launches: Mapping[int, LaunchToProve],
        workers: int,
        prove: Callable[[Sequence[LaunchToProve], Event], Generator[Proof]],
    ) -> None:
        self._prove = prove
        self._changed = Condition()
        self._answers: dict[int, Proof | BaseException] = {}
        self._stop = Event()
        self._threads: list[Thread] = []
        numbers = list(launches)
        for first in range(min(workers, len(numbers))):
            share = numbers[first::workers]
            self._threads.append(Thread(target=self._run, args=(share, launches)))
        for thread in self._threads:
            thread.start()

    def awaited(self, number: int) -> Proof:
        """The proof of a launch.

        Raises:
            TunerError: no worker could be started.
        """
        with self._changed:
            while number not in self._answers:
                self._changed.wait()
            answer = self._answers[number]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def end(self) -> None:
        """Stop every worker and wait until it is gone."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, share: Sequence[int], launches: Mapping[int, LaunchToProve]) -> None:
        waiting = list(share)
        try:
            for proof in self._prove([launches[number] for number in share], self._stop):
                self._answer(waiting.pop(0), proof)
        except BaseException as error:  # noqa: BLE001  raised where the proofs are awaited
            for number in waiting:
                self._answer(number, error)

    def _answer(self, number: int, answer: Proof | BaseException) -> None:
        with self._changed:
            self._answers[number] = answer
            self._changed.notify_all()
