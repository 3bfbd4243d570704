"""`tuner check` and `tuner apply`: manifests against their verdicts."""

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rules.errors import ErrorKind, TunerError
from tuner.cli.options import AcceptPlatform, Store
from tuner.cli.output import failures, print_json, result, say
from tuner.cli.settings import Project, images_of
from tuner.errors import ExitCode
from tuner.text import visible

if TYPE_CHECKING:
    from tuner.checks.admitted import Ask
    from tuner.checks.apply import LeftAlone
    from tuner.checks.check import Checked
    from tuner.checks.examine import Knowledge

Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Manifests, folders of them, or - for YAML on standard input.")
]
EnvironmentFile = Annotated[
    Path | None, typer.Option("--environment", metavar="FILE", help="`tuner env --json`, made inside the image.")
]
VllmVersion = Annotated[
    str | None, typer.Option(metavar="VERSION", help="vLLM of the images whose tag does not say; a weaker match.")
]
Configs = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        envvar="TUNER_CONFIGS",
        help="Folders ORG--NAME with a config.json, for models that are not in the hub cache.",
    ),
]
Override = Annotated[
    bool,
    typer.Option(
        "--override",
        help="Change also a value of the user's that contradicts an unsafe verdict or was found to answer wrongly.",
    ),
]


class Format(StrEnum):
    """How `tuner check` prints its result."""

    TEXT = "text"
    JSON = "json"
    SARIF = "sarif"
    GITHUB = "github"


def add_to(app: typer.Typer) -> None:
    """Register both commands."""
    app.command()(check)
    app.command()(apply)


def check(
    context: typer.Context,
    paths: Paths,
    environment: EnvironmentFile = None,
    vllm_version: VllmVersion = None,
    configs: Configs = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
    cold_start: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A measured cold start, to compare with the probes of pods.")
    ] = None,
    fail_on_unknown: Annotated[
        bool, typer.Option("--fail-on-unknown", help="End with 3 if a launch could not be judged or was not read.")
    ] = False,
    output: Annotated[
        Format, typer.Option("--format", help="What to print: text, a document, SARIF, or commands for GitHub.")
    ] = Format.TEXT,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    select: Annotated[list[str] | None, typer.Option(metavar="RULE,...", help="Show these rules alone.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="RULE,...", help="Leave these rules out.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show errors and the last lines alone.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="First edit the files, as `tuner apply --write` does.")] = False,
    override: Override = False,
    service: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Also name live pods that started without its answer."),
    ] = None,
) -> None:
    """Compare the vLLM launches in manifests with their verdicts.

    Uses no network without --service, and runs nothing. Ends with 5 if a manifest contradicts its verdict, with 4 if a
    verdict is unsafe and no configuration of that vLLM helps, and with 1 if vLLM would refuse a launch.
    """
    from tuner.checks.check import Choice
    from tuner.checks.check import check as check_manifests

    chosen = Format.JSON if as_json else output
    with failures(chosen is Format.JSON):
        if as_json and output not in {Format.TEXT, Format.JSON}:
            raise TunerError(
                f"--json and --format {output} contradict each other.", hint="Give one of them.", kind=ErrorKind.USAGE
            )
        _require_editable(paths, fix=fix, override=override)
        knowledge = _knowledge(context.obj, environment, vllm_version, configs, store, accept_platform, cold_start)
        left_alone = _edit(paths, knowledge, write=True, override=override, tell=say) if fix else []
        checked = check_manifests(paths, knowledge, Choice(_listed(select), _listed(ignore)), _asking(service))
        _print(checked, chosen, quiet=quiet)
        for folder in checked.empty_folders:
            say(f"tuner: {visible(folder)} holds no file that is looked into.")
        raise SystemExit(checked.exit_code(fail_on_unknown=fail_on_unknown) or _exit_of_edits(left_alone))


def _asking(service: str | None) -> "Ask | None":
    """What asks a service about live pods; None where none is named."""
    if service is None:
        return None
    from tuner.service.client import client_of
    from tuner.service.missed import asking

    return asking(client_of(service, os.environ))


def _require_editable(paths: list[Path], *, fix: bool, override: bool) -> None:
    """Check that options on edits fit together; standard input can be read once, and not be written.

    Raises:
        TunerError: they do not.
    """
    if override and not fix:
        hint = "It changes files: give --fix, too."
        raise TunerError("--override is given without --fix.", hint=hint, kind=ErrorKind.USAGE)
    if fix and Path("-") in paths:
        hint = "Name the file, or leave --fix out."
        raise TunerError("Standard input cannot be edited in place.", hint=hint, kind=ErrorKind.USAGE)


def _exit_of_edits(left_alone: "list[LeftAlone]") -> ExitCode:
    """How a check ends in which nothing is wrong: with 1 if something should have been edited and could not be."""
    is_error = any(alone.code is ExitCode.ERROR for alone in left_alone)
    return ExitCode.ERROR if is_error else ExitCode.FINE


def _listed(values: list[str] | None) -> list[str]:
    """The rules of an option that may be given several times, each time with several rules."""
    return [name.strip() for value in values or [] for name in value.split(",") if name.strip()]


def _print(checked: "Checked", output: Format, *, quiet: bool) -> None:
    """Print the result of a check."""
    from tuner.checks.document import check_document, check_text, github_text
    from tuner.checks.sarif import sarif_log

    if output is Format.SARIF:
        print_json(sarif_log(checked))
    elif output is Format.JSON:
        print_json(check_document(checked))
    elif output is Format.GITHUB:
        result(github_text(checked, quiet=quiet))
    else:
        result(check_text(checked, quiet=quiet))


def apply(
    context: typer.Context,
    paths: Paths,
    write: Annotated[bool, typer.Option("--write", help="Edit the files; without it, the diff is shown.")] = False,
    override: Override = False,
    environment: EnvironmentFile = None,
    vllm_version: VllmVersion = None,
    configs: Configs = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
) -> None:
    """Edit manifests so that their vLLM launches match their verdicts.

    Each launch then carries what `tuner serve` would write.
    Nothing but the compilation config of a launch is touched, and the cache root that a `true` needs is added.
    What is left alone is named. Then it ends with 5 for a `true` of the user's that contradicts an unsafe verdict, 1
    for what cannot be edited safely, 3 for an unknown model.
    """
    from tuner.checks.apply import exit_code

    with failures(as_json=False):
        knowledge = _knowledge(context.obj, environment, vllm_version, configs, store, accept_platform, None)
        raise SystemExit(exit_code(_edit(paths, knowledge, write=write, override=override, tell=result)))


def _edit(
    paths: list[Path], knowledge: "Knowledge", *, write: bool, override: bool, tell: Callable[[str], None]
) -> "list[LeftAlone]":
    """Edit the files or show the diffs; returns the launches that were left alone.

    Args:
        paths: files and folders.
        knowledge: what is known beside them.
        write: edit the files.
        override: change an unsafe value of the user's, too.
        tell: prints the line on a file that was edited.
    """
    from tuner.checks.apply import apply as apply_to
    from tuner.checks.apply import write as write_file

    left_alone: list[LeftAlone] = []
    for applied in apply_to(paths, knowledge, override=override):
        for sentence in (*applied.warnings, *(alone.sentence for alone in applied.left_alone)):
            say(f"tuner: {visible(sentence)}")
        left_alone += applied.left_alone
        if applied.after == applied.before:
            continue
        if write:
            write_file(applied)
            launches = "1 launch" if applied.changed == 1 else f"{applied.changed} launches"
            tell(f"{visible(applied.path)}: {launches} changed")
        else:
            result(applied.diff(), end="")
    return left_alone


def _knowledge(
    project: Project | None,
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

    if store is not None and not os.path.exists(store):  # noqa: PTH110
        raise TunerError(
            f"There is no store {store}.",
            hint="Import verdicts into it, or leave --store and TUNER_STORE out.",
            kind=ErrorKind.STORE,
        )
    saved = serving_environment(None, environment)[0] if environment else None
    # The methods raise for a name that is too long.
    if configs is not None and not os.path.isdir(configs):  # noqa: PTH112
        raise TunerError(
            f"There is no folder {configs}.",
            hint="Name the folder of the models' configurations.",
            kind=ErrorKind.MODEL,
        )
    verdicts = opened_store(store, os.environ)
    return Knowledge(verdicts, saved, vllm_version, configs, accept_platform, cold_start, store, images_of(project))
