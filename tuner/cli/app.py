"""The command line: each command parses, calls one function, prints."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tuner import __version__
from tuner.cli import cache as cli_cache
from tuner.cli import check as cli_check
from tuner.cli import fleet as cli_fleet
from tuner.cli import service as cli_service
from tuner.cli import verdicts as cli_verdicts
from tuner.cli.choices import CacheDirIn, Depth, OnMissing, Prefer
from tuner.cli.commands import BehindDashes, GroupedCommands, PassThrough
from tuner.cli.examples import add_examples
from tuner.cli.options import (
    AcceptPlatform,
    CaBundle,
    CacheDir,
    CacheRoot,
    ColdStart,
    Container,
    Enforce,
    EnvironmentFile,
    FailOnUnknown,
    Image,
    JobPlatform,
    JobQueue,
    JobService,
    JobWorkers,
    Json,
    ModelImpl,
    ModelName,
    ModelUri,
    Namespace,
    Nodes,
    ObjectName,
    OptionalModel,
    PatchWrap,
    Python,
    Revision,
    ServedModel,
    Store,
    TrustRemoteCode,
    Verbose,
    VllmArgs,
    WeightsClaim,
)
from tuner.cli.output import (
    conclude,
    failures,
    present,
    print_json,
    refuse,
    result,
    say,
    say_without_waiting,
    set_quiet,
)
from tuner.cli.settings import Project, defaults_of_commands, project_of
from tuner.exports.choices import ClusterFormat
from tuner.exports.formats import Format
from tuner.exports.sweep_job import SWEEP_JOB

EXIT_CODES = """\b
Exit codes:
  0    fine, or nothing to do
  1    error
  2    usage
  3    not known
  4    refused
  5    contradiction
  6    changed or missed (cache)
  7    log incomplete
  130  stopped
"""
app = typer.Typer(
    name="tuner",
    cls=GroupedCommands,
    help="Proves whether fast_moe_cold_start is safe for a model on your vLLM, and writes the matching launch.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_verdicts.app, name="verdicts")
app.add_typer(cli_cache.app, name="cache")
app.add_typer(cli_service.app, name="service")
cli_check.add_to(app)
cli_fleet.add_to(app)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Leave out progress and warnings.")] = False,
) -> None:
    """Handle the options that stand before any command."""
    set_quiet(quiet)
    if version:
        result(f"tuner {__version__}")
        raise typer.Exit


@app.command()
def env(
    python: Python = None,
    script: Annotated[
        bool,
        typer.Option("--script", help="Print a Python script that prints the JSON document inside an image."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the serving environment and what the flag can do there."""
    from tuner.environment.document import environment_document, flag_in
    from tuner.environment.environment import read_environment
    from tuner.environment.script import script_text
    from tuner.environment.text import environment_text

    if script:
        if python or as_json:
            raise typer.BadParameter("it takes no other option", param_hint="--script")
        result(script_text(), end="")
        return
    with failures(as_json):
        environment = read_environment(python, whole=True)
        if as_json:
            print_json(environment_document(environment))
        else:
            result(environment_text(environment, flag_in(environment)))


@app.command(cls=BehindDashes)
def probe(
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[MODEL...]", help="Folders with a config.json, or hub ids.")
    ] = None,
    whole: Annotated[bool, typer.Option("--all", help="Every MoE architecture that vLLM registers.")] = False,
    all_text: Annotated[bool, typer.Option("--all-text", help="As --all, but only those for text alone.")] = False,
    match: Annotated[str | None, typer.Option(metavar="GLOB", help="As --all, but only names such as 'Qwen*'.")] = None,
    configs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --all: folders with a config.json each, which go first.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Probe what has a stored verdict, too.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Models at once. Default: one a GPU; else by cores, memory and models."),
    ] = None,
    depth: Annotated[
        Depth,
        typer.Option(help="replay: start the engines of one launch too, and see which layers run."),
    ] = Depth.ORDER,
    python: Python = None,
    store: Store = None,
    revision: Revision = None,
    model_impl: ModelImpl = "auto",
    trust_remote_code: TrustRemoteCode = False,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="For each model, vLLM's import excluded.")
    ] = 300,
    memory_limit: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0.1, help="For each worker. Default: 32, or 0.9 of this machine's memory."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run models in the serving environment and store their verdicts.

    Each model gets the proof of its plain launch. `tuner probe MODEL -- VLLM ARGS` proves that launch of one model, or
    watches its engines with --depth replay.

    With --all what has a stored verdict is not run again, so a run that was stopped goes on where it was. It ends with
    1 if the environment or the store is at fault, and with 3 if a verdict is inconclusive or an architecture could not
    be probed on this machine. Architectures that need a config of yours do not change the exit code.
    """
    from tuner.cli import probe as cli_probe
    from tuner.cli import probe_engines as cli_engines
    from tuner.cli.inputs import Inputs
    from tuner.probe.models import Request
    from tuner.probe.sweep import Selection

    memory = None if memory_limit is None else int(memory_limit * 2**30)
    tool_options = Inputs(python, store=store).tool_options()
    request = Request(models or [], model_impl, revision, trust_remote_code, time_limit, workers, memory, tool_options)
    selection = Selection(configs, all_text, match, force)
    whole = whole or all_text or match is not None
    if depth is not Depth.ORDER or cli_engines.names_a_launch(request.names):
        cli_engines.run(request, selection, python, store, depth=depth, whole=whole, as_json=as_json)
    cli_probe.run(request, selection, python, store, whole=whole, as_json=as_json)


@app.command(cls=BehindDashes)
def tune(
    model: ModelName,
    vllm_args: VllmArgs = None,
    prefer: Annotated[
        Prefer | None,
        typer.Option(help="Write the setting that starts or steps fastest, of those that answer rightly."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Engines at once. Default: 4 on a GPU if weights are made up, else 1."),
    ] = None,
    python: Python = None,
    store: Store = None,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="For each engine, without 600 s to load and compile.")
    ] = 300,
    memory_limit: Annotated[
        float | None,
        typer.Option(metavar="GIB", min=0.1, help="For each engine. Default: 32, or 0.9 of this machine's memory."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a launch with other engine settings, and find those that answer rightly.

    The engines get the same prompts and weights: eager, compiled, with CUDA graphs in pieces and in full. If the launch
    as it stands is wrong, the smallest change that makes it right is stored, and `plan` and `serve` write it.

    Exit codes: 0 the launch is right; 3 it could not be judged; 5 it is wrong as it stands.
    """
    from tuner.cli import tune as cli_tune
    from tuner.probe.models import Request

    memory = None if memory_limit is None else int(memory_limit * 2**30)
    request = Request([model, *(vllm_args or [])], "auto", None, False, time_limit, None, memory)
    cli_tune.run(request, cli_tune.Tuning(prefer, workers), python, store, as_json=as_json)


@app.command()
def verdict(
    model: ModelName,
    python: Python = None,
    environment: EnvironmentFile = None,
    store: Store = None,
    revision: Revision = None,
    model_impl: ModelImpl = "auto",
    trust_remote_code: TrustRemoteCode = False,
    accept_platform: AcceptPlatform = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Look up the stored verdict of a model; nothing is run."""
    from tuner.cli import actions
    from tuner.cli.inputs import Inputs

    inputs = Inputs(python, environment, store, revision, model_impl, trust_remote_code, accept_platform)
    actions.verdict(model, inputs, as_json=as_json, verbose=verbose)


@app.command(cls=BehindDashes)
def plan(
    model: ModelName,
    vllm_args: VllmArgs = None,
    python: Python = None,
    environment: EnvironmentFile = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
    fail_on_unknown: FailOnUnknown = False,
    enforce: Enforce = False,
    cache_root: CacheRoot = None,
    cache_dir_in: CacheDir = CacheDirIn.ENV,
    shell: Annotated[
        bool, typer.Option("--shell", help="Print one line for `eval`, which starts vLLM's OpenAI server module.")
    ] = False,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Show the launch that `tuner serve` would make, and why."""
    from tuner.cli.inputs import Inputs, Launching, planned
    from tuner.launch.text import plan_text, shell_text

    if shell and as_json:
        raise typer.BadParameter("it and --json exclude each other", param_hint="--shell")
    with failures(as_json, model):
        launching = Launching(fail_on_unknown, enforce, cache_root, cache_dir_in is CacheDirIn.CONFIG)
        inputs = Inputs(python, environment, store, accept_platform=accept_platform)
        launch_plan = planned([model, *(vllm_args or [])], inputs, launching, os.environ)
        if shell:
            refuse(launch_plan)  # before the line: `eval` starts what was printed whatever the exit code
        as_text = partial(plan_text, verbose=verbose)
        present(launch_plan, as_json, shell_text if shell else as_text)


@app.command(cls=BehindDashes)
def export(
    model: OptionalModel = None,
    vllm_args: VllmArgs = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help=f"One of: {', '.join(Format)}. Without MODEL: {', '.join([SWEEP_JOB, *ClusterFormat])}.",
        ),
    ] = "json",
    python: Python = None,
    environment: EnvironmentFile = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
    cache_root: CacheRoot = None,
    cache_dir_in: CacheDir = CacheDirIn.ENV,
    image: Image = None,
    name: ObjectName = None,
    wrap: PatchWrap = None,
    container: Container = None,
    nodes: Nodes = None,
    model_uri: ModelUri = None,
    cold_start: ColdStart = None,
    service: JobService = None,
    workers: JobWorkers = None,
    platform: JobPlatform = None,
    kueue: JobQueue = None,
    namespace: Namespace = None,
    ca_bundle: CaBundle = None,
    model_name: ServedModel = None,
    weights_claim: WeightsClaim = None,
) -> None:
    """Write the planned launch as a file for other tools, on stdout.

    A launch that is refused is written as json alone.
    """
    from tuner.cli.cluster_export import cluster_export, planned_model, refuse_service_options
    from tuner.cli.inputs import Inputs, Launching, planned
    from tuner.compile_cache.launch_digest import recorded
    from tuner.exports.choices import Choices
    from tuner.exports.formats import writer
    from tuner.exports.server import secret_notes

    with failures(as_json=form == "json", name=model):
        choices = Choices(image, name, wrap, container, nodes, model_uri, cold_start, model_name, weights_claim)
        refuse_service_options(form, namespace, ca_bundle)
        if form == SWEEP_JOB:
            cli_fleet.export_job(model, image, name, cli_fleet.JobOptions(service, workers, platform, kueue))
            return
        cli_fleet.refuse_job_options(form, cli_fleet.JobOptions(service, workers, platform, kueue))
        if form in set(ClusterFormat):
            result(cluster_export(ClusterFormat(form), model, choices, namespace, ca_bundle), end="")
            return
        model = planned_model(form, model)
        write = writer(form, choices)
        launching = Launching(False, False, cache_root, cache_dir_in is CacheDirIn.CONFIG, elsewhere=True)
        inputs = Inputs(python, environment, store, accept_platform=accept_platform)
        launch_plan = planned([model, *(vllm_args or [])], inputs, launching, os.environ)
        if form != Format.JSON:
            refuse(launch_plan)
        for note in secret_notes(launch_plan.launch.args):
            say(f"tuner: {note}")
        warmed = recorded(launch_plan, os.environ)
        result(write(launch_plan, warmed.cold_seconds if warmed else None), end="")
        conclude(launch_plan)


@app.command()
def report(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL|KEY]", help="A model as it was probed, an architecture, or a key's start."),
    ] = None,
    whole: Annotated[bool, typer.Option("--all", help="Every stored verdict: architectures by releases.")] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="LOG", help="Show the starts in a server's log; - is standard input.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page of HTML here. Default: text on stdout.")
    ] = None,
    store: Store = None,
    cache_root: CacheRoot = None,
) -> None:
    """Show what a stored verdict rests on, and what it does not show; nothing is run.

    The page is one file without a script: it can be mailed, printed, and kept.
    """
    from tuner.cli import report as cli_report

    cli_report.run(name, log, store, cache_root, output, whole=whole)


@app.command()
def confirm(
    log: Annotated[
        Path | None, typer.Argument(metavar="[LOG]", help="A server's log. Default, and for -: standard input.")
    ] = None,
    decision: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What was written: the output of `tuner plan --json`.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare a server's start-up log with the decision it should carry.

    It ends with 5 if the server runs otherwise than written, and with 7 if the log does not say it all.
    """
    from tuner.cli import confirm as cli_confirm

    cli_confirm.run(log, decision, as_json=as_json)


@app.command(cls=PassThrough)
def serve(
    context: typer.Context,
    vllm_args: Annotated[list[str], typer.Argument(metavar="MODEL [VLLM ARGS]", help="As for `vllm serve`.")],
    python: Python = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
    decision: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Let a `tuner export --format json` decide, the same on every rank, in place of the store.",
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(metavar="URL", envvar="TUNER_SERVICE", help="Ask this `tuner service` first, for 3 s at most."),
    ] = None,
    require_signed: Annotated[
        Path | None,
        typer.Option(
            metavar="KEY",
            envvar="TUNER_SERVICE_PUBLIC_KEY",
            help="Use only verdicts of the service that this public key signed, and decide here.",
        ),
    ] = None,
    on_missing: Annotated[
        OnMissing, typer.Option(help="Without a verdict: serve safely, probe and prove first, or fail.")
    ] = OnMissing.SAFE,
    fail_on_unknown: FailOnUnknown = False,
    enforce: Enforce = False,
    cache_root: CacheRoot = None,
    cache_dir_in: CacheDir = CacheDirIn.ENV,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and stop.")] = False,
) -> None:
    """Become `vllm serve` with the decision merged into its config.

    Options of this command come first; from the first other word on, everything is passed to vLLM.
    """
    from tuner.cli import actions
    from tuner.cli.inputs import Inputs, Launching

    project = context.obj or Project()
    if project.fault:
        say_without_waiting(f"tuner: {project.fault.rstrip('.')}; it is ignored, and the flag gets its safe value.")
    launching = Launching(fail_on_unknown, enforce, cache_root, cache_dir_in is CacheDirIn.CONFIG)
    inputs = Inputs(
        python,
        None,
        store,
        accept_platform=accept_platform,
        decision=decision,
        service=service or None,
        signed_with=require_signed,
        without_store="the settings file cannot be used" if project.fault else "",
    )
    actions.serve(vllm_args, inputs, launching, on_missing, dry_run=dry_run)


add_examples(app)


def run() -> None:
    """Run the command line with the settings of the project."""
    with failures(as_json=False):
        project = project_of("".join(sys.argv[1:2]))
    group = typer.main.get_group(app)
    app(prog_name="tuner", default_map=defaults_of_commands(project.settings, group.commands), obj=project)
