"""`tuner service`: decisions and stored verdicts over HTTP."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from rules.errors import ErrorKind, TunerError
from tuner.cli.commands import ListedCommands
from tuner.cli.options import Store
from tuner.cli.output import failures, result, say, written_to
from tuner.cli.settings import images_of

PORT = 8707
app = typer.Typer(
    cls=ListedCommands,
    help="Answer for a whole team: decisions and stored verdicts over HTTP.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def run(
    context: typer.Context,
    store: Store = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="To listen on; without a certificate only this machine.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="To listen on.")] = PORT,
    configs: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="TUNER_CONFIGS",
            help="Folders ORG--NAME with a config.json, for models that are asked for by name.",
        ),
    ] = None,
    read_tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Tokens of those who may read, one a line.")
    ] = None,
    write_tokens: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Tokens of those who may send bundles. Default: nobody may.")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="PEM file of the certificate and its chain.")
    ] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="PEM file of its private key.")] = None,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="By which it will be asked; warns where the certificate lacks it.")
    ] = "",
    require_signed: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Store only lines that this public key of minisign signed.")
    ] = None,
    follow: Annotated[
        str | None, typer.Option(metavar="URL", help="Be a replica: take every change of this service.")
    ] = None,
    rate: Annotated[
        float, typer.Option(metavar="N", min=1, help="Requests a second that one address may make.")
    ] = 1000,
) -> None:
    """Serve decisions and stored verdicts, until it is stopped.

    It runs no model and fetches nothing. The log goes to stderr, one line for each request.
    """
    from tuner.service.client import client_of
    from tuner.verdicts.lookup import opened_store

    with failures(as_json=False):
        try:
            from tuner.service.server import Settings, run_service
        except ModuleNotFoundError as error:
            raise _not_installed(error.name) from None
        settings = Settings(
            store=written_to(opened_store(store, os.environ)),
            host=host,
            port=port,
            configs=configs,
            read_tokens=read_tokens,
            write_tokens=write_tokens,
            certificate=certificate,
            key=key,
            name=name,
            signed_with=require_signed,
            rate=rate,
            images=images_of(context.obj),
            follow=client_of(follow, os.environ) if follow else None,
        )
        run_service(settings, _log)


@app.command()
def certificate(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Of the authority and the certificate; made if it is not there.")
    ],
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="DNS name or address of the service. Default: those of the last one."),
    ] = None,
    days: Annotated[int, typer.Option(metavar="N", min=1, max=825, help="That the certificate is valid.")] = 90,
) -> None:
    """Make a certificate for the service, and an authority that signs it, where there is not cert-manager.

    A second run renews the certificate. Nothing else in FOLDER is overwritten.
    """
    with failures(as_json=False):
        try:
            from tuner.service.authority import CA, LEAF, LEAF_KEY, issue
        except ModuleNotFoundError as error:
            raise _not_installed(error.name) from None
        issued = issue(folder, name or [], days)
        result(f"certificate  {folder / LEAF}")
        result(f"key          {folder / LEAF_KEY}")
        result(f"authority    {folder / CA}")
        result(f"names        {', '.join(issued.names)}")
        result(f"expires      {issued.expires:%Y-%m-%d %H:%M} UTC")
        say("tuner: the certificate was renewed." if issued.renewed else "tuner: keep ca.key to renew it.")


def _not_installed(package: str | None) -> TunerError:
    return TunerError(
        f"The service needs the package {package}, which is not installed here.",
        hint="Install it with the tuner: `pip install 'vllm-moe-tuner[service]'`.",
        kind=ErrorKind.SERVICE,
    )


def _log(line: str) -> None:
    say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {line}")
