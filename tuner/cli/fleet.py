"""`tuner worker` and `tuner sweep`: probes that are spread over machines."""

import os
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, NoReturn

import typer

from rules.errors import ErrorKind, TunerError
from tuner.cli.options import Json, Python, Store
from tuner.cli.output import failures, print_json, result, say, stop_on_signals, written_to
from tuner.errors import ExitCode
from tuner.text import brief, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.fleet.queue_client import RemoteQueue
    from tuner.fleet.worker import Counts
    from tuner.service.queued import Launch

Service = Annotated[
    str, typer.Option(metavar="URL", envvar="TUNER_SERVICE", help="The `tuner service` with the queue.")
]
TimeLimit = Annotated[float, typer.Option(metavar="SECONDS", min=1, help="For each model, vLLM's import excluded.")]
MemoryLimit = Annotated[
    float | None,
    typer.Option(metavar="GIB", min=0.1, help="For each probe. Default: 32, or 0.9 of this machine's memory."),
]


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command()(worker)
    app.command()(sweep)


class JobOptions(NamedTuple):
    """Options of `tuner export` for sweep-job alone; None where one is not given."""

    service: str | None
    workers: int | None
    platform: str | None
    kueue: str | None


def refuse_job_options(form: str, options: JobOptions) -> None:
    """Refuse options of sweep-job with another format.

    Raises:
        TunerError: one is given.
    """
    for name, value in options._asdict().items():
        if value is not None:
            problem = f"The format {form} has no use for --{name}."
            raise TunerError(problem, hint="It is for: sweep-job.", kind=ErrorKind.USAGE)


def export_job(model: str | None, image: str | None, name: str | None, options: JobOptions) -> None:
    """Write the Job of a fleet.

    Raises:
        TunerError: something is missing, or a model is named.
    """
    from tuner.exports.sweep_job import SweepJob, as_sweep_job

    if model is not None:
        problem = "The format sweep-job is about no model."
        raise TunerError(problem, hint="`tuner sweep --configs DIR` names models.", kind=ErrorKind.USAGE)
    if image is None or options.service is None:
        problem = "The format sweep-job needs --service and --image."
        raise TunerError(problem, hint="Name an image that holds vLLM and the tuner.", kind=ErrorKind.USAGE)
    job = SweepJob(
        service=options.service,
        image=image,
        workers=options.workers or 1,
        platform=options.platform or "cuda",
        name=name or "tuner-sweep",
        queue=options.kueue,
    )
    result(as_sweep_job(job), end="")


def worker(
    service: Service = "",
    python: Python = None,
    once: Annotated[bool, typer.Option("--once", help="End after one probe, or if none waits.")] = False,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End once no probe waits or runs that this environment could do.")
    ] = False,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of this worker. Default: the machine and the process.")
    ] = None,
    sign_with: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign each verdict with this private key of minisign.")
    ] = None,
    time_limit: TimeLimit = 300,
    memory_limit: MemoryLimit = None,
) -> None:
    """Take probes from the queue of a service, run them here, and send their verdicts.

    The vLLM of --python runs them. TUNER_SERVICE_TOKEN_FILE names the file with a writer's token. On Ctrl-C or SIGTERM
    the probe that is under way is given back.

    Exit codes: 0 fine; 1 the service cannot be used, this machine cannot probe, or the one probe of --once failed.
    """
    from tuner.cli.verdicts import signer_of
    from tuner.environment.saved import serving_environment
    from tuner.fleet.probing import Bounds
    from tuner.fleet.worker import Counts, Worker, work

    with failures(as_json=False):
        stop_on_signals()
        if once and until_empty:
            raise TunerError("--once and --until-empty exclude each other.", hint="Choose one.", kind=ErrorKind.USAGE)
        queue = _queue(service)
        environment, _ = serving_environment(python, None)
        bounds = Bounds(time_limit, None if memory_limit is None else int(memory_limit * 2**30))
        own_name = name or f"{os.uname().nodename}-{os.getpid()}"
        counts = Counts()
        try:
            working = Worker(queue, own_name, environment, bounds, _tell, signer_of(sign_with) if sign_with else None)
            work(working, counts, once=once, until_empty=until_empty)
        finally:
            result(counts.text())
        _end(counts, once=once)


def _end(counts: "Counts", *, once: bool) -> None:
    if once and counts.failed:
        raise SystemExit(ExitCode.ERROR)


def _tell(sentence: str) -> None:
    say(f"tuner: {sentence}")


def _queue(service: str) -> "RemoteQueue":
    from tuner.fleet.queue_client import RemoteQueue
    from tuner.service.client import client_of

    if not service:
        raise TunerError("No service is named.", hint="Add --service URL, or set TUNER_SERVICE.", kind=ErrorKind.USAGE)
    return RemoteQueue(client_of(service, os.environ))


def sweep(
    configs: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder with a config.json for each model, in it or below.")
    ],
    release: Annotated[list[str], typer.Option(metavar="VERSION", help="Of vLLM; may be given several times.")],
    platform: Annotated[str, typer.Option(metavar="PLATFORM", help="That runs them, such as cuda or cpu.")] = "cuda",
    setting: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARGS", help="Arguments of a launch as one word, such as '-tp 2'; '' is the plain one (default)."
        ),
    ] = None,
    arms: Annotated[bool, typer.Option("--arms", help="Also ask which arms answer rightly, as `tuner tune`.")] = False,
    service: Service = "",
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run it on this Ray cluster instead, such as 'auto'.")
    ] = None,
    node_python: Annotated[
        list[str] | None, typer.Option(metavar="RELEASE=PATH", help="With --ray: a release's Python on every node.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="With --ray: GPUs of each probe. Default: 1.")
    ] = None,
    store: Store = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try those again that rest after failures.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End once all are queued.")] = False,
    as_json: Json = False,
) -> None:
    """Put the launches of many models, releases and settings into the queue of a service.

    With --ray they run as tasks of a Ray cluster, and their verdicts go into the store here. What has a verdict already
    is not probed again, so the same command goes on where it was stopped.

    Exit codes: 0 all are answered, or queued with --no-wait; 3 some rest after failures.
    """
    from tuner.cli.progress import working
    from tuner.fleet.sweep import Sweep, followed, launches_of, progress_of, resting_text

    with failures(as_json):
        stop_on_signals()
        _require_one_place(ray, [node_python, gpus], [retry, no_wait])
        launches = launches_of(Sweep(configs, tuple(release), platform, _settings(setting or [""]), arms))
        if ray is not None:
            _sweep_on_ray(
                launches, ray, _pythons(node_python or []), 1.0 if gpus is None else gpus, store, as_json=as_json
            )
        queue = _queue(service)
        rows = queue.put(launches, retry=retry)
        with working() as under_way:
            progress = progress_of(rows) if no_wait else followed(queue, rows, under_way)
        if as_json:
            print_json(progress.document())
        else:
            result(progress.text())
            if progress.resting:
                result(resting_text(progress.resting))
        if progress.resting:
            raise SystemExit(ExitCode.UNKNOWN)


def _require_one_place(ray: str | None, of_ray: list[object], of_queue: list[bool]) -> None:
    """Refuse options that the place of the sweep has no use for: a Ray cluster, or the queue of a service."""
    if ray is None and any(option is not None for option in of_ray):
        raise TunerError("--node-python and --gpus are for --ray.", hint="Add --ray ADDRESS.", kind=ErrorKind.USAGE)
    if ray is not None and any(of_queue):
        hint = "A sweep on Ray waits, and tries again what failed."
        raise TunerError("--retry and --no-wait are for --service.", hint=hint, kind=ErrorKind.USAGE)


def _sweep_on_ray(
    launches: "Sequence[Launch]",
    address: str,
    pythons: dict[str, str],
    gpus: float,
    store: str | None,
    *,
    as_json: bool,
) -> NoReturn:
    """Run the launches as tasks of a Ray cluster, and end."""
    from tuner.cli.progress import working
    from tuner.environment.document import SCHEMA_VERSION
    from tuner.fleet.probing import Bounds
    from tuner.verdicts.lookup import opened_store

    try:
        from tuner.fleet.ray_sweep import OnRay, swept
    except ModuleNotFoundError as error:
        raise TunerError(
            f"A sweep on Ray needs the package {error.name}, which is not installed here.",
            hint="Install it with the tuner: `pip install 'vllm-moe-tuner[ray]'`.",
            kind=ErrorKind.SERVICE,
        ) from None
    verdicts = written_to(opened_store(store, os.environ))
    with redirect_stdout(sys.stderr), working() as under_way:  # Ray prints what it retries
        outcome = swept(launches, verdicts, OnRay(address, pythons, gpus, Bounds(), under_way))
    failed = [{"model": failure.launch.summary, "reason": failure.reason} for failure in outcome.failed]
    if as_json:
        print_json({"schema_version": SCHEMA_VERSION, "states": {"answered": outcome.answered}, "failed": failed})
    else:
        result(f"{outcome.answered} of {len(launches)} answered, {len(failed)} failed")
        for failure in failed:
            result(f"  {visible(failure['model'])}: {failure['reason']}")
    raise SystemExit(ExitCode.UNKNOWN if failed else ExitCode.FINE)


def _settings(texts: list[str]) -> tuple[tuple[str, ...], ...]:
    """Each setting as arguments, split as a shell does."""
    try:
        return tuple(tuple(shlex.split(text)) for text in texts)
    except ValueError as error:
        raise TunerError(
            f"A --setting cannot be split into arguments: {error}.", hint="Quote it for a shell.", kind=ErrorKind.USAGE
        ) from None


def _pythons(texts: list[str]) -> dict[str, str]:
    """Release -> path, of texts RELEASE=PATH.

    Raises:
        TunerError: a text is none.
    """
    pythons = {}
    for text in texts:
        release, _, path = text.partition("=")
        if not release or not Path(path).is_absolute():
            problem = f"{brief(text)} is not a RELEASE=PATH with an absolute path."
            raise TunerError(problem, hint="As in 0.19.1=/opt/vllm-0.19.1/bin/python.", kind=ErrorKind.USAGE)
        pythons[release] = path
    return pythons
