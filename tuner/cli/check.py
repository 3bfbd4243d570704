"""`tuner check` and `tuner apply`: manifests against their verdicts."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rules.errors import ErrorKind, TunerError
from tuner.cli.output import failures, print_json, result, say

if TYPE_CHECKING:
    from tuner.checks.apply import LeftAlone
    from tuner.checks.examine import Knowledge

Paths = Annotated[list[Path], typer.Argument(metavar="PATH...", help="Manifests, or folders of them.")]
EnvironmentFile = Annotated[
    Path | None, typer.Option("--environment", metavar="FILE", help="`tuner env --json`, made inside the image.")
]
VllmVersion = Annotated[
    str | None, typer.Option(metavar="VERSION", help="vLLM of the images whose tag does not say; a weaker match.")
]
Configs = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folders ORG--NAME with a config.json, for models that are not in the hub cache."),
]
Store = Annotated[str | None, typer.Option(metavar="FILE", help="The verdict store. Default: TUNER_STORE, else XDG.")]
AcceptPlatform = Annotated[
    str | None, typer.Option(metavar="PLATFORM", help="Let PLATFORM's verdicts stand in where there is none.")
]
Override = Annotated[
    bool, typer.Option("--override", help="Change also a `true` of the user's that contradicts an unsafe verdict.")
]


def add_to(app: typer.Typer) -> None:
    """Register both commands."""
    app.command()(check)
    app.command()(apply)


def check(
    paths: Paths,
    environment: EnvironmentFile = None,
    vllm_version: VllmVersion = None,
    configs: Configs = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
    cold_start: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A measured cold start, to compare startupProbes with.")
    ] = None,
    fail_on_unknown: Annotated[
        bool, typer.Option("--fail-on-unknown", help="End with 3 if a launch could not be judged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="Print SARIF 2.1.0 on stdout, for code review.")] = False,
) -> None:
    """Compare the vLLM launches in manifests with their verdicts.

    Uses no network and runs nothing. Ends with 5 if a manifest contradicts its verdict, 4 if an unsafe verdict cannot
    be helped by any configuration of that vLLM, 1 if vLLM would refuse a launch.
    """
    from tuner.checks.check import check as check_manifests
    from tuner.checks.document import check_document, check_text
    from tuner.checks.sarif import sarif_log

    with failures(as_json):
        checked = check_manifests(
            paths, _knowledge(environment, vllm_version, configs, store, accept_platform, cold_start)
        )
        if as_sarif:
            print_json(sarif_log(checked))
        elif as_json:
            print_json(check_document(checked))
        else:
            result(check_text(checked))
        raise SystemExit(checked.exit_code(fail_on_unknown=fail_on_unknown))


def apply(
    paths: Paths,
    write: Annotated[bool, typer.Option("--write", help="Edit the files; without it, the diff is shown.")] = False,
    override: Override = False,
    environment: EnvironmentFile = None,
    vllm_version: VllmVersion = None,
    configs: Configs = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
) -> None:
    """Edit manifests so that each launch carries what `tuner serve` would write.

    Nothing but the compilation config of a launch is touched. What is left alone is named. Then it ends with 5 for a
    `true` of the user's that contradicts an unsafe verdict, 1 for what cannot be edited safely, 3 for an unknown model.
    """
    from tuner.checks.apply import exit_code

    with failures(as_json=False):
        knowledge = _knowledge(environment, vllm_version, configs, store, accept_platform, None)
        raise SystemExit(exit_code(_edit(paths, knowledge, write=write, override=override)))


def _edit(paths: list[Path], knowledge: "Knowledge", *, write: bool, override: bool) -> "list[LeftAlone]":
    """Edit the files or show the diffs; returns the launches that were left alone."""
    from tuner.checks.apply import apply as apply_to
    from tuner.checks.apply import write as write_file

    left_alone: list[LeftAlone] = []
    for applied in apply_to(paths, knowledge, override=override):
        for sentence in (*applied.warnings, *(alone.sentence for alone in applied.left_alone)):
            say(f"tuner: {sentence}")
        left_alone += applied.left_alone
        if applied.after == applied.before:
            continue
        if write:
            write_file(applied)
            result(f"{applied.path}: {applied.changed} changed")
        else:
            result(applied.diff(), end="")
    return left_alone


def _knowledge(
    environment: Path | None,
    vllm_version: str | None,
    configs: Path | None,
    store: str | None,
    accept_platform: str | None,
    cold_start: float | None,
) -> "Knowledge":
    from tuner.checks.examine import Knowledge
    from tuner.environment.saved import serving_environment
    from tuner.verdicts.lookup import opened_store

    saved = serving_environment(None, environment)[0] if environment else None
    # The method raises for a name that is too long.
    if configs is not None and not os.path.isdir(configs):  # noqa: PTH112
        raise TunerError(
            f"There is no folder {configs}.",
            hint="Name the folder of the models' configurations.",
            kind=ErrorKind.MODEL,
        )
    return Knowledge(opened_store(store, os.environ), saved, vllm_version, configs, accept_platform, cold_start)
