"""Probing many models: identify, shrink, run the worker, judge, remember."""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Any

from cache.verdicts.entry import Entry
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
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
from tuner.probe.pool import run_all, worker_variables
from tuner.probe.runner import Job, JobOutcome
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject, public_version, remote_code
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
    """

    names: Sequence[str]
    model_impl: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    time_limit: float = 300.0
    workers: int | None = None
    memory_limit: int | None = None


@dataclass(frozen=True)
class Probed:
    """What came of one model: an entry with its verdict, or a failure. One of the two is None.

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
"""Told which worker, from 0 on, what it begins, `import` or `probe`, and the model's name; from any thread."""


def probe(
    request: Request, environment: Environment, store: VerdictStore, on_stage: Callable[[str, str], None]
) -> Iterator[Probed]:
    """As `probe_models`, for callers who need not know which worker it is that begins a stage."""
    return probe_models(request, environment, store, lambda _, stage, name: on_stage(stage, name))


def probe_models(
    request: Request, environment: Environment, store: VerdictStore, watch: Watch
) -> Generator[Probed, None, None]:
    """Probe every model of the request, those that cannot be identified first; no failure stops the others.

    Args:
        request: the models.
        environment: where the workers run; none is left when the generator ends or is closed.
        store: where verdicts are kept; each as soon as it is reached.
        watch: told what is under way.
    """
    found: list[tuple[str, Subject]] = []
    for name in request.names:
        try:
            found.append((name, subject_of(name, request, environment)))
        except TunerError as failure:
            yield Probed(name, None, None, None, failure)
    yield from probe_subjects(found, request, environment, store, watch)


def probe_subjects(
    found: Sequence[tuple[str, Subject]], request: Request, environment: Environment, store: VerdictStore, watch: Watch
) -> Generator[Probed, None, None]:
    """As `probe_models`, for models that are identified: each with the name that its result will carry."""
    jobs: dict[int, Job] = {}
    for index, (name, subject) in enumerate(found):
        try:
            jobs[index] = _job(index, subject)
        except TunerError as failure:
            yield Probed(name, subject, None, None, failure)
    workers = worker_variables(environment, len(jobs), request.workers, os.environ)
    launches = {index: plain_launch(found[index][1]) for index in jobs}

    def prove(share: Sequence[LaunchToProve], stop: Event) -> Generator[Proof]:
        return proofs_of(share, environment, os.environ, request.time_limit, request.memory_limit, stop=stop)

    alongside = BackgroundProofs(launches, len(workers), prove)
    outcomes = run_all(
        environment.python,
        list(jobs.values()),
        workers,
        time_limit=request.time_limit,
        on_stage=lambda worker, stage, index: watch(worker, stage, found[index][0]),
        memory_limit=request.memory_limit,
    )
    try:
        with closing(outcomes):
            for outcome in outcomes:
                proof = alongside.awaited(outcome.index)
                jobs.pop(outcome.index)
                yield _remembered(*found[outcome.index], outcome, proof, store)
    except TunerError as failure:  # the environment's, and so that of every model still waiting
        for index in jobs:
            yield Probed(*found[index], None, None, failure)
    finally:
        alongside.end()


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
    """What a verdict on this model would be about.

    Raises:
        TunerError: the model, or its own code where that may run, cannot be read; then nothing is started for it.
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
    """The launch that a verdict just reached leads to, without further arguments."""
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
    """Whether there is a verdict that proves nothing."""
    return result.verdict is not None and result.verdict.word is Word.INCONCLUSIVE


def _remembered(name: str, subject: Subject, outcome: JobOutcome, proof: Proof, store: VerdictStore) -> Probed:
    if outcome.report is None:
        return Probed(name, subject, None, None, outcome.failure, outcome.seconds)
    try:
        require_same_environment(subject.environment, outcome.report.get("environment"))
        entry, verdict = remember(store, subject, {**outcome.report, "proofs": [proof]})
    except TunerError as failure:
        return Probed(name, subject, None, None, failure, outcome.seconds)
    return Probed(name, subject, entry, verdict, None, seconds_of(outcome.report))


def seconds_of(report: Mapping[str, Any]) -> float:
    """What the worker took for a model without vLLM's import; the wall time of its proof is not in it."""
    return float(sum(seconds for stage, seconds in report["seconds"].items() if stage != "import"))


def require_same_environment(environment: Environment, seen: Mapping[str, Any] | None) -> None:
    """The worker must have run what the key will claim.

    Raises:
        TunerError: it imported another vLLM or torch, or ran on another kind of device, or does not say.
    """
    device = DEVICES.get(environment.platform)
    said = seen if isinstance(seen, Mapping) else {}
    pairs = [
        ("vLLM", public_version(environment.vllm), public_version(said.get("vllm"))),
        ("torch", public_version(environment.torch), public_version(said.get("torch"))),
        *([("device", device, str(said.get("device")))] if device else []),
    ]
    for what, expected, found in pairs:
        if expected != found:
            raise TunerError(
                f"The environment's files say {what} {expected}, but the probe ran {what} {found:.40}.",
                hint="Check PYTHONPATH and the environment's packages; nothing was stored.",
                kind=ErrorKind.ENVIRONMENT,
            )


DEVICES = {"cpu": "cpu", "cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "tpu": "tpu"}
"""Platform -> the device type that vLLM runs it on; platform plugins have their own."""
