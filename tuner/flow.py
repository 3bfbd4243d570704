"""Probing many models: identify, shrink, run the worker, judge, remember."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cache.entry import Entry
from cache.errors import StoreError
from cache.store import VerdictStore
from rules.errors import RuleError
from rules.verdict import Verdict, Word
from tuner.environment import Environment
from tuner.errors import ExitCode, TunerError, as_tuner_error
from tuner.identity import Subject
from tuner.memory import LookUp, remember
from tuner.model import identify
from tuner.plan import Options, Plan, plainest, plan_with
from tuner.probe.runner import Job, Outcome, run
from tuner.probe.shrink import declares_experts, shrink


@dataclass(frozen=True)
class Request:
    """What to probe, and how.

    Attributes:
        names: model folders or hub ids.
        model_impl: vLLM's `--model-impl`.
        revision: hub revision of every model; None: the default branch.
        trust_remote_code: run code from the models' folders.
        time_limit: seconds for each model, vLLM's import excluded.
    """

    names: Sequence[str]
    model_impl: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    time_limit: float = 120.0


@dataclass(frozen=True)
class Probed:
    """What came of one model: an entry with its verdict, or a failure. One of the two is None.

    Attributes:
        name: as the user gave it.
        subject: None if the model could not be identified.
        seconds: wall time of the probe, vLLM's import excluded.
    """

    name: str
    subject: Subject | None
    entry: Entry | None
    verdict: Verdict | None
    failure: TunerError | None
    seconds: float = 0.0


def probe(
    request: Request, environment: Environment, store: VerdictStore, on_stage: Callable[[str, str], None]
) -> Iterator[Probed]:
    """Probe every model of the request, those that cannot be identified first; no failure stops the others.

    Args:
        request: the models.
        environment: where the worker runs.
        store: where verdicts are kept; each as soon as it is reached.
        on_stage: told `import` or `probe`, and the name of the model under way.
    """
    subjects: dict[int, Subject] = {}
    jobs: list[Job] = []
    for index, name in enumerate(request.names):
        try:
            subjects[index] = _subject(name, request, environment)
            jobs.append(_job(index, subjects[index]))
        except TunerError as failure:
            yield Probed(name, subjects.get(index), None, None, failure)
    outcomes = run(
        environment.python,
        jobs,
        time_limit=request.time_limit,
        on_stage=lambda stage, index: on_stage(stage, request.names[index]),
    )
    waiting = dict.fromkeys(job.index for job in jobs)
    try:
        for outcome in outcomes:
            waiting.pop(outcome.index)
            yield _remembered(request.names[outcome.index], subjects[outcome.index], outcome, store)
    except TunerError as failure:  # the environment's, and so that of every model still waiting
        for index in waiting:
            yield Probed(request.names[index], subjects[index], None, None, failure)


def _subject(name: str, request: Request, environment: Environment) -> Subject:
    model = identify(name, revision=request.revision)
    return Subject(model, environment, request.model_impl, request.trust_remote_code)


def _job(index: int, subject: Subject) -> Job:
    small = shrink(subject.model.config)
    return Job(
        index=index,
        config=small.config,
        folder=subject.model.folder,
        special_tokens=small.special_tokens,
        assumptions=small.assumptions,
        declares_experts=declares_experts(subject.model.config),
        model_impl=subject.model_impl,
        trust_remote_code=subject.trust_remote_code,
        deep=small.deep,
    )


def plan_of(result: Probed, request: Request, store: VerdictStore, environ: Mapping[str, str]) -> Plan:
    """The launch that a verdict just reached leads to, without further arguments."""
    if result.subject is None:
        raise ValueError("only an identified model has a plan")
    options = Options(strict=False, enforce=False, cache_root=None, cache_dir_in_config=False, environ=environ)
    arguments = plainest(result.name, request.revision, request.model_impl, request.trust_remote_code)
    return plan_with(store, result.subject, arguments, options, LookUp(result.entry, result.verdict))


def exit_code(results: Sequence[Probed]) -> ExitCode:
    """How `tuner probe` ends: 1 if anything failed, else 3 if anything is inconclusive, else 0."""
    if any(result.failure for result in results):
        return ExitCode.ERROR
    unknown = any(result.verdict and result.verdict.word is Word.INCONCLUSIVE for result in results)
    return ExitCode.UNKNOWN if unknown else ExitCode.DONE


def _remembered(name: str, subject: Subject, outcome: Outcome, store: VerdictStore) -> Probed:
    if outcome.report is None:
        return Probed(name, subject, None, None, outcome.failure, outcome.seconds)
    try:
        require_same_environment(subject.environment, outcome.report["environment"])
        entry, verdict = remember(store, subject, outcome.report)
    except (TunerError, RuleError, StoreError) as error:
        return Probed(name, subject, None, None, as_tuner_error(error), outcome.seconds)
    return Probed(name, subject, entry, verdict, None, outcome.seconds)


def require_same_environment(environment: Environment, seen: Mapping[str, Any]) -> None:
    """The worker must have run what the key will claim.

    Raises:
        TunerError: it imported another vLLM or torch, or ran on another kind of device.
    """
    device = DEVICES.get(environment.platform)
    pairs = [
        ("vLLM", public(environment.vllm), public(seen["vllm"])),
        ("torch", public(environment.torch), public(seen["torch"])),
        *([("device", device, str(seen["device"]))] if device else []),
    ]
    for what, expected, found in pairs:
        if expected != found:
            raise TunerError(
                f"The environment's files say {what} {expected}, but the probe ran {what} {found}.",
                hint="Check PYTHONPATH and the environment's packages; nothing was stored.",
                kind="environment",
            )


def public(version: object) -> str:
    """A version without its local part: packages and modules of one build differ in it."""
    return str(version).partition("+")[0]


DEVICES = {"cpu": "cpu", "cuda": "cuda", "rocm": "cuda", "xpu": "xpu", "tpu": "tpu"}
"""Platform -> the device type that vLLM runs it on; platform plugins have their own."""
