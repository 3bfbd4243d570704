"""Makes proofs of launches: asks the serving environment's vLLM how it traces the model of each."""

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

from cache.secrets import without_secrets
from rules.errors import TunerError
from rules.releases import FlagStatus, flag_status
from tuner.arguments.serve_arguments import ServeArguments
from tuner.engines.question import WORKER, Answer, WorkerQuery, query_engines
from tuner.environment.environment import Environment
from tuner.launch.plan import minimal_arguments
from tuner.model.shrink import shrink
from tuner.processes.answers import damaged
from tuner.verdicts.identity import Subject, launch_worker_digest
from tuner.verdicts.proofs import launch_identity

SETTINGS = {
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # nothing is computed, and threads that wait would take the order probe's cores
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_NO_USAGE_STATS": "1",
}
CPU = {"VLLM_CPU_KVCACHE_SPACE": "1"}
"""GiB; without it a CPU build reserves half the machine."""
AT_STAKE = frozenset({FlagStatus.SETTABLE, FlagStatus.ALWAYS_ON, FlagStatus.UNKNOWN})
"""Statuses with which a `true` may be written or be in force; with others a model with fewer layers is traced."""

Proof = dict[str, Any]
"""A proof as a report holds it (`rules.report.Proof`)."""


@dataclass(frozen=True)
class Wanted:
    """A launch to prove.

    Attributes:
        subject: the model and where it is served.
        arguments: those of `vllm serve`, read.
    """

    subject: Subject
    arguments: ServeArguments


def plain_launch(subject: Subject) -> Wanted:
    """The launch of a model without further arguments; the model is named by its folder, which needs no hub."""
    folder = subject.model.folder or subject.model.name
    return Wanted(subject, minimal_arguments(folder, None, subject.model_impl, subject.trust_remote_code))


def proofs_of(
    wanted: Sequence[Wanted],
    environment: Environment,
    environ: Mapping[str, str],
    limit: float,
    memory_limit: int | None = None,
    *,
    stop: Event | None = None,
    foreign: bool = False,
) -> Generator[Proof]:
    """The proof of each launch in order, as soon as it is made; they share one import of vLLM.

    A launch that could not be traced has a proof too, which says why and proves nothing.

    Args:
        wanted: the launches, all of this environment.
        environment: where vLLM is imported.
        environ: the environment variables of the launches.
        limit: seconds for each launch, vLLM's import excluded.
        memory_limit: bytes of the worker and its children; None: as much as suits this machine.
        stop: ends the worker once it is set, from another thread.
        foreign: trace models that are refused for whose code they are, too: what shows how good the proof is.

    Raises:
        Stopped: `stop` was set.
    """
    given = CPU | without_secrets(environ) | SETTINGS
    with ExitStack() as folders:
        launches = [folders.enter_context(traced_launch(launch, environment)) for launch in wanted]
        engines = [{"args": list(args), "foreign": foreign} for args, _ in launches]
        question = WorkerQuery("proof", (), limit, memory_limit, engines=engines)
        answers = query_engines(question, environment.python, lambda _control: given, stop)
        for launch, (_, assumptions), answer in zip(wanted, launches, answers, strict=True):
            yield proof_of(launch, environment, answer, assumptions)


@contextmanager
def traced_launch(launch: Wanted, environment: Environment) -> Iterator[tuple[tuple[str, ...], list[dict[str, str]]]]:
    """The arguments of the launch that is traced, and what is otherwise in it.

    Where no `true` is at stake, the model has fewer layers.
    """
    model = launch.subject.model
    status = flag_status(environment.vllm, environment.torch, environment.platform).status
    if status in AT_STAKE or not model.folder or launch.arguments.model is None:
        yield launch.arguments.given, []
        return
    small = shrink(model.served_config)
    with tempfile.TemporaryDirectory(prefix="tuner-cut-") as name:
        folder = Path(name)
        copy_small_files(Path(model.folder), folder)
        (folder / "config.json").write_text(json.dumps(small.config), encoding="utf-8")
        args = tuple(name if arg == launch.arguments.model else arg for arg in launch.arguments.given)
        yield args, [dict(assumption) for assumption in small.assumptions]


def copy_small_files(source: Path, target: Path) -> None:
    """Copy the model folder's files that are no weights."""
    for file in source.iterdir():
        if file.is_file() and file.suffix in COPIED and file.stat().st_size <= MAX_COPIED:
            shutil.copy(file, target / file.name)


COPIED = frozenset({".json", ".py", ".txt", ".model", ".jinja"})
MAX_COPIED = 64 * 2**20
"""Bytes; a tokenizer's file is the largest of these."""


def proof_of(
    launch: Wanted, environment: Environment, answer: Answer | TunerError, assumptions: Sequence[Mapping[str, str]] = ()
) -> Proof:
    """The proof that an answer of the worker is, or that of a launch of which nothing was seen."""
    if isinstance(answer, TunerError):
        answer = unseen(answer)
    for field, kind in SHAPE.items():
        if not isinstance(answer.get(field), kind):
            raise damaged("result.json", f"its {field} are missing")
    identity = launch_identity(launch.arguments)
    unlike = [*assumptions, *launch.subject.model.side.assumptions]
    ranks = [
        {
            **without_folders(rank, (*environment.site, str(WORKER.parent))),
            "assumptions": [*rank["assumptions"], *unlike],
        }
        for rank in answer["ranks"]
    ]
    return {
        "key": identity.key,
        "arguments": list(identity.arguments),
        "platform": environment.platform,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "worker": launch_worker_digest(),
        **{field: answer[field] for field in SHAPE},
        "ranks": ranks,
    }


def without_folders(rank: Mapping[str, Any], site: Sequence[str]) -> dict[str, Any]:
    """A rank whose failures and guards name files below the site folder, or the worker's, that holds them.

    A proof travels in bundles, and the folders of the machine where it was made say nothing elsewhere.
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


SHAPE: dict[str, type] = {"ranks": list, "variables": dict, "fields": list, "sources": dict}
"""Fields of the worker's answer."""


def unseen(failure: TunerError) -> Answer:
    """The answer for a launch whose process gave none."""
    reason = {"code": "rank_not_traced", "condition": 0, "fields": {"rank": "the launch", "how": failure.message}}
    rank = {"name": "the launch", "status": "failed", "failures": [reason], "registered": [], "calls": []}
    return {
        "ranks": [{**rank, "guards": [], "assumptions": [], "seconds": {}}],
        "variables": {},
        "fields": [],
        "sources": {},
    }


class Alongside:
    """Proofs that are made in other threads while order probes run.

    Args:
        wanted: launches by the number that `awaited` is asked for.
        seats: how many workers share them.
        prove: makes the proofs of some launches, in order, until the event is set.
    """

    def __init__(
        self, wanted: Mapping[int, Wanted], seats: int, prove: Callable[[Sequence[Wanted], Event], Generator[Proof]]
    ) -> None:
        self._prove = prove
        self._changed = Condition()
        self._answers: dict[int, Proof | BaseException] = {}
        self._stop = Event()
        numbers = list(wanted)
        shares = [numbers[seat::seats] for seat in range(max(1, min(seats, len(numbers))))]
        self._threads = [Thread(target=self._run, args=(share, wanted)) for share in shares if share]
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

    def _run(self, share: Sequence[int], wanted: Mapping[int, Wanted]) -> None:
        waiting = list(share)
        try:
            for proof in self._prove([wanted[number] for number in share], self._stop):
                self._answer(waiting.pop(0), proof)
        except BaseException as error:  # noqa: BLE001  raised where the proofs are awaited
            for number in waiting:
                self._answer(number, error)

    def _answer(self, number: int, answer: Proof | BaseException) -> None:
        with self._changed:
            self._answers[number] = answer
            self._changed.notify_all()
