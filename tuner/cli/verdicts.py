"""`tuner verdicts`: the stored verdicts, listed, shown, forgotten, and carried from one store to another."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rules.errors import ErrorKind, TunerError
from tuner.cli.commands import ListedCommands
from tuner.cli.options import Verbose
from tuner.cli.output import complain, failures, print_json, result, say, written_to
from tuner.errors import ExitCode

if TYPE_CHECKING:
    from tuner.exchange.signing import Signer

app = typer.Typer(
    cls=ListedCommands,
    help="List, show, forget, export and import stored verdicts.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Called = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A model, an architecture, a pattern for one, or 4 characters of a key."),
]
Store = Annotated[str | None, typer.Option(metavar="FILE", help="The verdict store. Default: TUNER_STORE, else XDG.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.command("list")
def list_verdicts(store: Store = None, as_json: Json = False) -> None:
    """Show every stored verdict, one line each.

    An entry that this release cannot read is `unreadable`, and its verdict is null with --json.
    """
    from tuner.launch.document import SCHEMA_VERSION
    from tuner.verdicts.document import row_part
    from tuner.verdicts.lookup import opened_store, readable_verdict
    from tuner.verdicts.text import unreadable_text, verdicts_table

    with failures(as_json):
        verdicts = opened_store(store, os.environ)
        entries = [(entry, readable_verdict(verdicts, entry)) for entry in verdicts.entries()]
        unreadable = sum(verdict is None for _, verdict in entries)
        if as_json:
            rows = [row_part(entry, verdict) for entry, verdict in entries]
            print_json({"schema_version": SCHEMA_VERSION, "verdicts": rows})
        elif entries:
            result(verdicts_table(entries))
        else:
            say(f"tuner: No verdict is stored. `{verdicts.place.command('probe', 'MODEL')}` makes one.")
        if unreadable:
            complain(*unreadable_text(unreadable, verdicts.place))


@app.command()
def show(name: Called, store: Store = None, verbose: Verbose = False, as_json: Json = False) -> None:
    """Show one stored verdict and what it rests on.

    With --json the whole entry, the probe's report included.
    """
    from tuner.launch.document import SCHEMA_VERSION
    from tuner.verdicts.document import entry_part
    from tuner.verdicts.lookup import known_verdict, opened_store
    from tuner.verdicts.selection import entry_called
    from tuner.verdicts.text import entry_text

    with failures(as_json):
        verdicts = opened_store(store, os.environ)
        entry = entry_called(verdicts, name)
        verdict = known_verdict(verdicts, entry)
        if as_json:
            print_json({"schema_version": SCHEMA_VERSION, **entry_part(entry, verdict)})
        else:
            result(entry_text(entry, verdict, verbose=verbose))


@app.command()
def forget(name: Called, store: Store = None, as_json: Json = False) -> None:
    """Remove one stored verdict, damaged or not."""
    from tuner.launch.document import SCHEMA_VERSION
    from tuner.verdicts.lookup import opened_store
    from tuner.verdicts.selection import forget_called

    with failures(as_json):
        digest = forget_called(written_to(opened_store(store, os.environ)), name)
        if as_json:
            print_json({"schema_version": SCHEMA_VERSION, "forgotten": digest})
        else:
            result(f"forgotten: {digest}")


@app.command("export")
def export_verdicts(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Models, architectures, patterns, starts of keys. Default: all."),
    ] = None,
    store: Store = None,
    command: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The command that made them, to be kept with each.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the bundle here, whole or not at all. Default: stdout.")
    ] = None,
    sign_with: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign it with this private key, as FILE.minisig beside --output.")
    ] = None,
) -> None:
    """Write stored verdicts as a bundle, one a line, on stdout or into a file."""
    from tuner.exchange.transfer import export, write
    from tuner.verdicts.lookup import opened_store

    with failures(as_json=False):
        if sign_with and not output:
            raise _no_output()
        exported = export(opened_store(store, os.environ), names or [], command)
        for sentence in exported.left_out:
            say(f"tuner: {sentence}")
        if output:
            write(exported, output, signer_of(sign_with).sign(exported.text.encode()) if sign_with else None)
            say(f"tuner: written: {output}")
        else:
            result(exported.text, end="")
        if exported.left_out:
            raise SystemExit(ExitCode.ERROR)


@app.command()
def send(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY...]", help="Starts of keys. Default: all.")] = None,
    service: Annotated[
        str, typer.Option(metavar="URL", envvar="TUNER_SERVICE", help="The `tuner service` that takes them.")
    ] = "",
    sign_with: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign each line with this private key of minisign.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let them replace different ones that the service imported before.")
    ] = False,
    store: Store = None,
    as_json: Json = False,
) -> None:
    """Send stored verdicts to a service; TUNER_SERVICE_TOKEN_FILE names the file with a writer's token.

    What the service has of the same key stays, as with `tuner verdicts import`.
    """
    from tuner.exchange.sent_line import sign_line
    from tuner.exchange.transfer import export
    from tuner.launch.document import SCHEMA_VERSION
    from tuner.service.client import client_of
    from tuner.service.sending import send_lines, sent_text
    from tuner.verdicts.lookup import opened_store

    with failures(as_json):
        if not service:
            raise TunerError("No service is named.", hint="Add --service URL.", kind=ErrorKind.USAGE)
        client = client_of(service, os.environ)
        exported = export(opened_store(store, os.environ), keys or [], None)
        for sentence in exported.left_out:
            say(f"tuner: {sentence}")
        lines = exported.text.splitlines(keepends=True)
        signer = signer_of(sign_with) if sign_with else None
        sent = send_lines(client, [sign_line(line, signer) for line in lines] if signer else lines, replace=replace)
        if as_json:
            print_json({"schema_version": SCHEMA_VERSION, "imported": sent})
        else:
            result(sent_text(sent))
        if exported.left_out:
            raise SystemExit(ExitCode.ERROR)


@app.command("import")
def import_verdicts(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle of `tuner verdicts export`.")],
    store: Store = None,
    require_signed: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Refuse it unless FILE.minisig is right by this public key.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let them replace different ones that were imported before.")
    ] = False,
    replace_local: Annotated[
        bool, typer.Option("--replace-local", help="Let them replace what was probed here, never unsafe by safe.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store the verdicts of a bundle, judged anew; none if a line is damaged.

    Which of two verdicts of one key stays is shown; without options it is the one that is stored.
    """
    from tuner.exchange.conflict import document, imported_text
    from tuner.exchange.signing import check_signature
    from tuner.exchange.transfer import import_file
    from tuner.launch.document import SCHEMA_VERSION
    from tuner.verdicts.lookup import opened_store
    from tuner.verdicts.origin import HERE, IMPORTED

    with failures(as_json):
        signed = check_signature(file, require_signed) if require_signed else None
        options = ((IMPORTED, replace), (HERE, replace_local))
        giving_way = [origin for origin, option in options if option]
        verdicts = written_to(opened_store(store, os.environ))
        imported = import_file(verdicts, file, giving_way=giving_way, signed=signed)
        if as_json:
            by = {"key": signed.key, "comment": signed.comment} if signed else None
            print_json({"schema_version": SCHEMA_VERSION, **document(imported), "signed": by})
        else:
            result(imported_text(imported, verdicts.place))
            if signed:
                result(signed.signer())


def signer_of(key: Path) -> "Signer":
    """What signs with a private key; the user is asked for its password, and warned if others may read it.

    Raises:
        TunerError: the key cannot be used.
    """
    from tuner.exchange.signing import Signer, readable_by_others

    signer = Signer(key, lambda: _password(key))
    if warning := readable_by_others(key):
        say(f"tuner: {warning}")
    return signer


def _password(key: Path) -> str:
    from getpass import getpass

    if not sys.stdin.isatty():
        raise TunerError(
            f"The private key {key} has a password, and there is no terminal to ask for it.",
            hint="Sign the bundle with `minisign -S -s KEY -m FILE`; `minisign -G -W` makes a key without a password.",
            kind=ErrorKind.SIGNATURE,
        )
    try:
        return getpass(f"Password of {key}: ")
    except EOFError:  # Ctrl-D
        return ""


def _no_output() -> TunerError:
    hint = "Add --output FILE; the signature is written beside it, as FILE.minisig."
    return TunerError("--sign-with has no file to sign.", hint=hint, kind=ErrorKind.USAGE)
