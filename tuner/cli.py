"""The command line: each command parses, calls one function, prints."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rules.releases import flag_status
from tuner import __version__, cli_verdicts
from tuner.cli_output import complain, conclude, failures, present, print_json, refuse
from tuner.errors import ExitCode, TunerError

app = typer.Typer(
    name="tuner",
    help="Proves whether fast_moe_cold_start is safe for a model on your vLLM, and writes the matching launch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_verdicts.app, name="verdicts")


class OnMissing(StrEnum):
    """What `serve` does without a stored verdict."""

    SAFE = "safe"
    PROBE = "probe"
    FAIL = "fail"


class CacheDirIn(StrEnum):
    """What carries the cache folder into the launch."""

    ENV = "env"
    CONFIG = "config"


ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A folder with a config.json, or a hub id.")]
VllmArgs = Annotated[list[str] | None, typer.Argument(metavar="[-- VLLM ARGS]", help="Arguments of `vllm serve`.")]
Python = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Python of the serving environment. Default: the one behind `vllm` on PATH."),
]
EnvironmentFile = Annotated[
    Path | None, typer.Option("--environment", metavar="FILE", help="A saved `tuner env --json` in its place.")
]
Store = Annotated[str | None, typer.Option(metavar="FILE", help="The verdict store. Default: TUNER_STORE, else XDG.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Revision = Annotated[str | None, typer.Option(metavar="REV", help="Hub revision of the model.")]
ModelImpl = Annotated[str, typer.Option(metavar="IMPL", help="As `vllm serve --model-impl`.")]
TrustRemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="Run code from the model's folder.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse where the flag may be on and nothing is known.")]
Enforce = Annotated[bool, typer.Option("--enforce", help="Refuse a value of yours that an unsafe verdict contradicts.")]
CacheRoot = Annotated[
    str | None, typer.Option(metavar="DIR", envvar="TUNER_CACHE_ROOT", help="Set VLLM_CACHE_ROOT to this folder.")
]
CacheDir = Annotated[
    CacheDirIn, typer.Option(help="config: write compilation_config.cache_dir, a folder keyed by the whole launch.")
]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Handle the options that stand before any command."""
    if version:
        typer.echo(f"tuner {__version__}")
        raise typer.Exit


@app.command()
def env(python: Python = None, as_json: Json = False) -> None:
    """Show the serving environment and what the flag can do there."""
    from tuner import render
    from tuner.document import environment_document
    from tuner.environment import read_environment

    with failures(as_json):
        environment = read_environment(python)
        flag = flag_status(environment.vllm, environment.torch, environment.platform)
        if as_json:
            print_json(environment_document(environment, flag))
        else:
            typer.echo(render.environment_text(environment, flag))


@app.command()
def probe(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders with a config.json, or hub ids.")],
    python: Python = None,
    store: Store = None,
    revision: Revision = None,
    model_impl: ModelImpl = "auto",
    trust_remote_code: TrustRemoteCode = False,
    time_limit: Annotated[float, typer.Option(metavar="SECONDS", help="For each model, vLLM's import excluded.")] = 120,
    as_json: Json = False,
) -> None:
    """Run models in the serving environment, judge them, and remember the verdicts."""
    from tuner import progress, render
    from tuner.document import failure_document, plan_document, together
    from tuner.flow import Request, exit_code, plan_of
    from tuner.flow import probe as probe_all
    from tuner.inputs import opened_store, serving_environment

    with failures(as_json):
        request = Request(models, model_impl, revision, trust_remote_code, time_limit)
        environment, _ = serving_environment(python, None)
        verdicts = opened_store(store, os.environ)
        with progress.probing(len(models)) as on_stage:
            results = sorted(
                probe_all(request, environment, verdicts, on_stage), key=lambda one: models.index(one.name)
            )
        for result in results:
            complain(result.failure, result.name)
        if as_json:
            print_json(
                together(
                    [
                        failure_document(result.name, result.failure)
                        if result.failure
                        else plan_document(plan_of(result, verdicts, os.environ))
                        for result in results
                    ]
                )
            )
        else:
            typer.echo(render.probed_text(results))
        raise typer.Exit(exit_code(results))


@app.command()
def verdict(
    model: ModelName,
    python: Python = None,
    environment: EnvironmentFile = None,
    store: Store = None,
    revision: Revision = None,
    model_impl: ModelImpl = "auto",
    trust_remote_code: TrustRemoteCode = False,
    as_json: Json = False,
) -> None:
    """Look up the stored verdict of a model; nothing is run."""
    from tuner import render
    from tuner.inputs import Inputs, looked_up

    with failures(as_json, model):
        inputs = Inputs(python, environment, store, revision, model_impl, trust_remote_code)
        present(looked_up(model, inputs, os.environ), as_json, render.verdict_text)


@app.command()
def plan(
    model: ModelName,
    vllm_args: VllmArgs = None,
    python: Python = None,
    environment: EnvironmentFile = None,
    store: Store = None,
    strict: Strict = False,
    enforce: Enforce = False,
    cache_root: CacheRoot = None,
    cache_dir_in: CacheDir = CacheDirIn.ENV,
    as_json: Json = False,
) -> None:
    """Show the launch that `tuner serve` would make, and why."""
    from tuner import render
    from tuner.inputs import Inputs, Launching, planned

    with failures(as_json, model):
        launching = Launching(strict, enforce, cache_root, cache_dir_in is CacheDirIn.CONFIG)
        made = planned([model, *(vllm_args or [])], Inputs(python, environment, store), launching, os.environ)
        present(made, as_json, render.plan_text)


@app.command()
def export(
    model: ModelName,
    vllm_args: VllmArgs = None,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help="json or vllm-yaml.")] = "json",
    python: Python = None,
    environment: EnvironmentFile = None,
    store: Store = None,
    cache_root: CacheRoot = None,
    cache_dir_in: CacheDir = CacheDirIn.ENV,
) -> None:
    """Write the planned launch as a file for other tools, on stdout."""
    from tuner.export import writer
    from tuner.inputs import Inputs, Launching, planned

    with failures(as_json=form == "json", name=model):
        write = writer(form)
        launching = Launching(False, False, cache_root, cache_dir_in is CacheDirIn.CONFIG)
        made = planned([model, *(vllm_args or [])], Inputs(python, environment, store), launching, os.environ)
        typer.echo(write(made), nl=False)
        conclude(made)


class PassThrough(TyperCommand):
    """A command whose own options come first; from the first other token on, all is passed through."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `--` before the first token that is not ours."""
        takes_value = {name: not option.is_flag for option in self.params for name in option.opts if name[:2] == "--"}  # type: ignore[attr-defined]
        takes_value["--help"] = False
        index = 0
        while index < len(args) and args[index].partition("=")[0] in takes_value:
            index += 1 if "=" in args[index] or not takes_value[args[index]] else 2
        return super().parse_args(ctx, [*args[:index], "--", *args[index:]])


@app.command(cls=PassThrough)
def serve(
    vllm_args: Annotated[list[str], typer.Argument(metavar="MODEL [VLLM ARGS]", help="As for `vllm serve`.")],
    python: Python = None,
    store: Store = None,
    on_missing: Annotated[
        OnMissing, typer.Option(help="Without a verdict: serve safely, probe first, or fail.")
    ] = OnMissing.SAFE,
    strict: Strict = False,
    enforce: Enforce = False,
    cache_root: CacheRoot = None,
    cache_dir_in: CacheDir = CacheDirIn.ENV,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and stop.")] = False,
) -> None:
    """Replace this process by `vllm serve` with the decision merged into its compilation config."""
    from tuner import render
    from tuner.inputs import Inputs, Launching, planned_safely, probed_first
    from tuner.serve import command, execute

    with failures(as_json=False):
        inputs = Inputs(python, None, store)
        launching = Launching(strict, enforce, cache_root, cache_dir_in is CacheDirIn.CONFIG)
        made = planned_safely(vllm_args, inputs, launching, os.environ)
        if made.found.verdict is None and on_missing is OnMissing.PROBE:
            made = probed_first(vllm_args, inputs, launching, os.environ)
        if made.found.verdict is None and on_missing is OnMissing.FAIL:
            raise TunerError(made.found.miss[0], hint="run `tuner probe` first", exit_code=ExitCode.UNKNOWN)
        for sentence in (render.serve_line(made), *made.warnings):
            typer.echo(f"tuner: {sentence}", err=True)
        refuse(made)
        interpreter = Path(made.subject.environment.python)
        if dry_run:
            typer.echo(render.command_line(command(interpreter, made.launch.args), made.launch.env))
            return
        execute(interpreter, made.launch.args, made.launch.env)
