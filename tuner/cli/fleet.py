"""`tuner worker` and `tuner sweep`: probes that are spread over machines."""

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from rules.errors import ErrorKind, TunerError
from tuner.cli.options import Json, Python
from tuner.cli.output import failures, print_json, result, say, stop_on_signals
from tuner.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuner.fleet.queue_client import RemoteQueue
    from tuner.fleet.worker import Counts

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
            working = Worker(queue, own_name, environment, bounds, _tell, _sealing(sign_with))
            work(working, counts, once=once, until_empty=until_empty)
        finally:
            result(counts.text())
        _end(counts, once=once)


def _sealing(key: Path | None) -> "Callable[[str], str]":
    """What makes of the line of a bundle what is sent."""
    if key is None:
        return str
    from tuner.cli.verdicts import signer_of
    from tuner.exchange.sent_line import sign_line

    signer = signer_of(key)
    return lambda line: sign_line(line, signer)


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
    retry: Annotated[bool, typer.Option("--retry", help="Try those again that rest after failures.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="End once all are queued.")] = False,
    as_json: Json = False,
) -> None:
    """Put the launches of many models, releases and settings into the queue of a service.

    What has a verdict already is not probed again, so the same command goes on where it was stopped.

    Exit codes: 0 all are answered, or queued with --no-wait; 3 some rest after failures.
    """
    from tuner.cli.progress import working
    from tuner.fleet.sweep import Sweep, followed, launches_of, progress_of, resting_text

    with failures(as_json):
        stop_on_signals()
        queue = _queue(service)
        launches = launches_of(Sweep(configs, tuple(release), platform, _settings(setting or [""]), arms))
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


def _settings(texts: list[str]) -> tuple[tuple[str, ...], ...]:
    """Each setting as arguments, split as a shell does."""
    try:
        return tuple(tuple(shlex.split(text)) for text in texts)
    except ValueError as error:
        raise TunerError(
            f"A --setting cannot be split into arguments: {error}.", hint="Quote it for a shell.", kind=ErrorKind.USAGE
        ) from None
