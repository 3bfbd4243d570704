"""`tuner verdicts`: the stored verdicts, listed, shown, forgotten, and carried from one store to another."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli_output import failures, print_json, result, say, written_to
from tuner.errors import ExitCode, TunerError

app = typer.Typer(
    help="List, show, forget, export and import stored verdicts.", no_args_is_help=True, rich_markup_mode=None
)
KeyPrefix = Annotated[str, typer.Argument(metavar="KEY", help="At least 8 characters of a verdict's key.")]
Store = Annotated[str | None, typer.Option(metavar="FILE", help="The verdict store. Default: TUNER_STORE, else XDG.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.command("list")
def list_verdicts(store: Store = None, as_json: Json = False) -> None:
    """Show every stored verdict, one line each."""
    from tuner import render
    from tuner.document import SCHEMA_VERSION
    from tuner.inputs import opened_store
    from tuner.memory import known_verdict

    with failures(as_json):
        verdicts = opened_store(store, os.environ)
        entries = [(entry, known_verdict(verdicts, entry)) for entry in verdicts.entries()]
        if as_json:
            rows = [
                {
                    "key": entry.digest,
                    "verdict": verdict.word,
                    "factors": entry.key,
                    "probed_at": entry.probed_at,
                    "imported": entry.provenance,
                }
                for entry, verdict in entries
            ]
            print_json({"schema_version": SCHEMA_VERSION, "verdicts": rows})
        else:
            result(render.verdicts_table(entries))


@app.command()
def show(key: KeyPrefix, store: Store = None, as_json: Json = False) -> None:
    """Show one stored verdict and what it rests on.

    With --json the whole entry, the probe's report included.
    """
    from tuner import render
    from tuner.document import SCHEMA_VERSION
    from tuner.inputs import opened_store
    from tuner.memory import known_verdict

    with failures(as_json):
        verdicts = opened_store(store, os.environ)
        entry = verdicts.find(key)
        if entry is None:
            raise no_such_key(key)
        verdict = known_verdict(verdicts, entry)
        if as_json:
            stored = entry.to_dict() | {"verdict": verdict.to_dict(), "imported": entry.provenance}
            stored.pop("provenance", None)
            print_json({"schema_version": SCHEMA_VERSION, "digest": entry.digest, **stored})
        else:
            result(render.entry_text(entry, verdict))


@app.command()
def forget(key: KeyPrefix, store: Store = None, as_json: Json = False) -> None:
    """Remove one stored verdict, damaged or not."""
    from tuner.document import SCHEMA_VERSION
    from tuner.inputs import opened_store

    with failures(as_json):
        gone = written_to(opened_store(store, os.environ)).forget(key)
        if gone is None:
            raise no_such_key(key)
        if as_json:
            print_json({"schema_version": SCHEMA_VERSION, "forgotten": gone})
        else:
            result(f"forgotten: {gone}")


@app.command("export")
def export_verdicts(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY...]", help="Starts of keys. Default: all.")] = None,
    store: Store = None,
    command: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The command that made them, to be kept with each.")
    ] = None,
) -> None:
    """Write stored verdicts as a bundle, one a line, on stdout."""
    from tuner.exchange import export
    from tuner.inputs import opened_store

    with failures(as_json=False):
        made = export(opened_store(store, os.environ), keys or [], command)
        for sentence in made.left_out:
            say(f"tuner: {sentence}")
        result(made.text, end="")
        if made.left_out:
            raise SystemExit(ExitCode.ERROR)


@app.command("import")
def import_verdicts(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle of `tuner verdicts export`.")],
    store: Store = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Let them replace different ones that were imported before.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Store the verdicts of a bundle, judged anew; none if a line is damaged.

    What was probed here is never replaced.
    """
    from tuner.document import SCHEMA_VERSION
    from tuner.exchange import Fate, import_file, told
    from tuner.inputs import opened_store

    with failures(as_json):
        fates = import_file(written_to(opened_store(store, os.environ)), file, replacing=replace)
        if as_json:
            print_json({"schema_version": SCHEMA_VERSION, "imported": {fate: fates[fate] for fate in Fate}})
        else:
            result(told(fates))


def no_such_key(key: str) -> TunerError:
    """What to say of a key that no entry has."""
    hint = "`tuner verdicts list` shows the keys."
    return TunerError(f"No stored verdict has a key that starts with {key}.", hint=hint, exit_code=ExitCode.UNKNOWN)
