"""Probes many models: identifies and shrinks them, runs the workers, judges their reports, stores the verdicts."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Any

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from rules.releases import public_version
from rules.report import parse_report
from rules.verdict import Verdict, Word
from tuner.arguments.serve_arguments import ServeArguments
from tuner.engines.proof import BackgroundProofs, LaunchToProve, Proof, plain_launch, proofs_of
from tuner.environment.environment import Environment
from tuner.errors import ExitCode
from tuner.launch.plan import Options, Plan, minimal_arguments, plan_with
from tuner.model.config_size import check_config_size
from tuner.model.model import identify
from tuner.model.shrink import declares_experts, shrink
from tuner.probe.failures import about_draft
from tuner.probe.pool import run_all, worker_variables
from tuner.probe.runner import Job, JobOutcome
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject, remote_code
from tuner.verdicts.lookup import remember, remember_proofs


@dataclass(frozen=True)
class Request:
    """What to probe, and how.

    Attributes:
        names: model folders or hub ids.
        model_impl: vLLM's `--model-impl`.
        revision: hub revision of every model; None: the default branch.
        trust_remote_code: run code from the models' folders.
        time_limit: seconds for each model, vLLM's import excluded.
        workers: how many models to probe at once; None: as many as this machine suits.
        memory_limit: bytes for each worker; None: as much as suits this machine.
        tool_options: options of the command that one to run next needs, too, such as `--python PATH`.
    """

    names: Sequence[str]
    model_impl: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    time_limit: float = 300.0
    workers: int | None = None
    memory_limit: int | None = None
    tool_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Probed:
    """The result of one model: an entry with its verdict, or a failure; the other is None.

    Attributes:
        name: as the user gave it.
        subject: None if the model could not be identified.
        seconds: wall time of the probe, vLLM's import excluded.
        stored: the verdict was stored before, and nothing was run.
    """

    name: str
    subject: Subject | None
    entry: Entry | None
    verdict: Verdict | None
    failure: TunerError | None
    seconds: float = 0.0
    stored: bool = False


Watch = Callable[[int, str, str], None]
"""Gets the number of a worker, from 0 on, what it begins (`import` or `probe`), and the name of the model."""


def probe(
    request: Request, environment: Environment, store: VerdictStore, on_stage: Callable[[str, str], None]
) -> Iterator[Probed]:
    """As `probe_models`, for callers that do not need the number of the worker."""
    return probe_models(request, environment, store, lambda _, stage, name: on_stage(stage, name))


def probe_models(
    request: Request, environment: Environment, store: VerdictStore, watch: Watch
) -> Generator[Probed, None, None]:
    """Probe every model of the request. A failure does not stop the others; models without an identity come first.

    Args:
        request: the models.
        environment: where the workers run; they are all gone when the generator ends or is closed.
        store: gets each verdict as soon as it is reached.
        watch: hears what is under way.
    """
    subjects: list[tuple[str, Subject]] = []
    for name in request.names:
        try:
            subjects.append((name, subject_of(name, request, environment)))
        except TunerError as failure:
            yield Probed(name, None, None, None, failure)
    yield from probe_subjects(subjects, request, environment, store, watch)


def probe_subjects(
    subjects: Sequence[tuple[str, Subject]],
    request: Request,
    environment: Environment,
    store: VerdictStore,
    watch: Watch,
) -> Generator[Probed, None, None]:
    """As `probe_models`, for identified models; each has the name for its result."""
    jobs: dict[int, Job] = {}
    for index, (name, subject) in enumerate(subjects):
        try:
            jobs[index] = _job(index, subject)
        except TunerError as failure:
            yield Probed(name, subject, None, None, failure)
    workers = worker_variables(environment, len(jobs), request.workers, os.environ)
    launches = {index: plain_launch(subjects[index][1]) for index in jobs}

    def prove(share: Sequence[LaunchToProve], stop: Event) -> Generator[Proof]:
        return proofs_of(share, environment, os.environ, request.time_limit, request.memory_limit, stop=stop)

    proofs = BackgroundProofs(launches, len(workers), prove)
    outcomes = run_all(
        environment.python,
        list(jobs.values()),
        workers,
        time_limit=request.time_limit,
        on_stage=lambda worker, stage, index: watch(worker, stage, subjects[index][0]),
        memory_limit=request.memory_limit,
    )
    try:
        with closing(outcomes):
            for outcome in outcomes:
                proof = proofs.awaited(outcome.index)
                jobs.pop(outcome.index)
                yield _remembered(*subjects[outcome.index], outcome, proof, request=request, store=store)
    except TunerError as failure:  # of the environment, and so of every model that still waits
        for index in jobs:
            yield Probed(*subjects[index], None, None, failure)
    finally:
        proofs.end()


def prove(
    subject: Subject, arguments: ServeArguments, entry: Entry, request: Request, store: VerdictStore
) -> tuple[Entry, Verdict]:
    """Trace one launch of a model that has a verdict, and store the proof beside it.

    Raises:
        TunerError: the environment's vLLM could not be asked.
        ReportError, StoreError: as `remember_proofs`.
    """
    launch = LaunchToProve(subject, arguments)
    proofs = proofs_of([launch], subject.environment, os.environ, request.time_limit, request.memory_limit)
    with closing(proofs):
        return remember_proofs(store, entry, list(proofs))


def subject_of(name: str, request: Request, environment: Environment) -> Subject:
    """The subject of a verdict on this model.

    Raises:
        TunerError: the model cannot be read, or its own code, which may run; then nothing is started for it.
    """
    model = identify(name, revision=request.revision)
    remote_code(model, trusted=request.trust_remote_code)
    return Subject(model, environment, request.model_impl, request.trust_remote_code)


def _job(index: int, subject: Subject) -> Job:
    config, side = subject.model.served_config, subject.model.side
    check_config_size(config)
    small = shrink(config)
    return Job(
        index=index,
        config=small.config,
        folder=subject.model.folder,
        special_tokens=small.special_tokens,
        assumptions=(*small.assumptions, *side.assumptions),
        declares_experts=declares_experts(config),
        model_impl=subject.model_impl,
        trust_remote_code=subject.trust_remote_code,
        side_files=side.carried,
        deep=small.deep,
    )


def plan_of(result: Probed, request: Request, store: VerdictStore, environ: Mapping[str, str]) -> Plan:
    """The launch without further arguments that follows from a verdict just reached."""
    if result.subject is None:
        raise ValueError("only an identified model has a plan")
    options = Options(fail_on_unknown=False, enforce=False, cache_root=None, cache_dir_in_config=False, environ=environ)
    arguments = minimal_arguments(
        result.subject.model.name, request.revision, request.model_impl, request.trust_remote_code
    )
    report = parse_report(result.entry.report) if result.entry else None
    return plan_with(store, result.subject, arguments, options, LookUp(result.entry, result.verdict, report=report))


def exit_code(results: Sequence[Probed]) -> ExitCode:
    """How `tuner probe` ends: 1 if anything failed, else 3 if anything is inconclusive, else 0."""
    if any(result.failure for result in results):
        return ExitCode.ERROR
    return ExitCode.UNKNOWN if any(map(inconclusive, results)) else ExitCode.FINE


def inconclusive(result: Probed) -> bool:
    """Whether the result is a verdict that proves nothing."""
    return result.verdict is not None and result.verdict.word is Word.INCONCLUSIVE


def _remembered(
    name: str, subject: Subject, outcome: JobOutcome, proof: Proof, *, request: Request, store: VerdictStore
) -> Probed:
    if outcome.report is None:
        failure = outcome.failure and about_draft(outcome.failure, subject.model, request.tool_options)
        return Probed(name, subject, None, None, failure, outcome.seconds)
    try:
        require_same_environment(subject.environment, outcome.report.get("environment"))
        entry, verdict = remember(store, subject, {**outcome.report, "proofs": [proof]})
    except TunerError as failure:
        return Probed(name, subject, None, None, failure, outcome.seconds)
    return Probed(name, subject, entry, verdict, None, seconds_of(outcome.report))


def seconds_of(report: Mapping[str, Any]) -> float:
    """Seconds of the worker for a model, without vLLM's import and without the time of the model's proof."""
    return float(sum(seconds for stage, seconds in report["seconds"].items() if stage != "import"))


def require_same_environment(environment: Environment, facts: Mapping[str, Any] | None) -> None:
    """Refuse a report of another environment than the one in the key.

    Args:
        environment: of the key, as its files say.
        facts: what the worker says of the environment in which it ran.

    Raises:
        TunerError: the worker imported another vLLM or torch, ran on another kind of device, or does not say.
    """
    device = DEVICES.get(environment.platform)
    reported = facts if isinstance(facts, Mapping) else {}
    pairs = [
        ("vLLM", public_version(environment.vllm), public_version(reported.get("vllm"))),
        ("torch", public_version(environment.torch), public_version(reported.get("torch"))),
        *([("device", device, str(reported.get("device")))] if device else []),
    ]
    for what, expected, actual in pairs:
        if expected != actual:
            raise TunerError(
                f"The environment's files say {what} {expected}, but the probe ran {what} {actual:.40}.",
                hint="Check PYTHONPATH and the environment's packages; nothing was stored.",
                kind=ErrorKind.ENVIRONMENT,
            )


DEVICES = {"cpu": "cpu", "cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "tpu": "tpu"}
"""Platform -> vLLM's device type for it; a platform plugin has its own type."""
