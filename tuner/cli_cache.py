"""`tuner cache`: the compile caches below a VLLM_CACHE_ROOT, listed, checked and pruned."""

import os
from typing import Annotated

import typer

from tuner.cli_output import failures, print_json, result, say
from tuner.errors import ExitCode

app = typer.Typer(help="List, check and prune vLLM's compile caches.", no_args_is_help=True, rich_markup_mode=None)
CacheRoot = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        envvar="TUNER_CACHE_ROOT",
        help="The caches' folder. Default: VLLM_CACHE_ROOT, else vLLM's own default.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@app.command("ls")
def list_entries(cache_root: CacheRoot = None, as_json: Json = False) -> None:
    """Show what lies in a cache, which launch it is for, and when it was last used.

    Model, vLLM and GPU come from the record of a warm-up; what vLLM itself wrote does not tell them.
    """
    import time

    from tuner.caches import opened_root
    from tuner.render_cache import root_document, root_text

    with failures(as_json):
        root = opened_root(cache_root, os.environ)
        if as_json:
            print_json(root_document(root))
        else:
            result(root_text(root, time.time()))


@app.command()
def scan(cache_root: CacheRoot = None, as_json: Json = False) -> None:
    """Look for secrets, loose permissions, strange owners, links that lead out and pickles of unknown origin.

    Ends with 1 if there is a secret, or something that other users can change; else with 3 if something could not be
    read; else with 0, notes or none.
    """
    from cache.compiled.scan import Level
    from cache.compiled.scan import scan as scan_root
    from tuner.caches import opened_root
    from tuner.render_cache import scan_document, scan_text

    with failures(as_json):
        root = opened_root(cache_root, os.environ)
        findings = scan_root(root, os.environ, os.geteuid())
        if as_json:
            print_json(scan_document(root, findings))
        else:
            result(scan_text(root, findings))
        exits = {Level.ERROR: ExitCode.ERROR, Level.WARNING: ExitCode.UNKNOWN, Level.NOTE: ExitCode.DONE}
        raise SystemExit(exits[findings[0].level] if findings else ExitCode.DONE)


@app.command()
def prune(
    cache_root: CacheRoot = None,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Entries that were last used longer ago.")
    ] = None,
    max_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Longest unused entries, until all have this size (500M, 20G) or less."),
    ] = None,
    unreachable: Annotated[
        bool, typer.Option("--unreachable", help="Entries that no warm-up's record names, and unfinished ones.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove entries that meet a criterion, and the records that name them.

    What a live process holds open stays, and so does what is unfinished and younger than a day. Ends with 1 if
    something could not be removed.
    """
    from cache.compiled.prune import Criteria
    from tuner.caches import opened_root, parse_size
    from tuner.caches import prune as prune_root
    from tuner.render_cache import pruned_document, pruned_text

    with failures(as_json):
        criteria = Criteria(older_than, None if max_size is None else parse_size(max_size), unreachable)
        pruned = prune_root(opened_root(cache_root, os.environ), criteria, dry=dry_run)
        if as_json:
            print_json(pruned_document(pruned))
        else:
            result(pruned_text(pruned))
        for sentence in (*pruned.pruning.notes, *(f"{one.path} stays: {one.why}." for one in pruned.failed)):
            say(f"tuner: {sentence}")
        raise SystemExit(ExitCode.ERROR if pruned.failed else ExitCode.DONE)
