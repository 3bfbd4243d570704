"""`tuner cache`: the compile caches below a VLLM_CACHE_ROOT: filled, listed, checked and pruned."""

import os
from typing import Annotated

import typer

from tuner import cli_cache_archive, cli_cache_explain
from tuner.cli_options import CachesRoot, Json, ModelName, Python, Store, VllmArgs
from tuner.cli_output import failures, print_json, result, say
from tuner.errors import ExitCode

app = typer.Typer(
    help="Fill, explain, list, prune and carry vLLM's compile caches.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
cli_cache_archive.add_to(app)
cli_cache_explain.add_to(app)
WARM_LIMIT_S = 3600.0


@app.command()
def warm(
    model: ModelName,
    vllm_args: VllmArgs = None,
    cache_root: CachesRoot = None,
    python: Python = None,
    store: Store = None,
    time_limit: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="How long each of the two starts may take.")
    ] = WARM_LIMIT_S,
    as_json: Json = False,
) -> None:
    """Start the launch of `tuner plan` once to fill the cache, and once more to see that it is used."""
    from tuner import cli_cache_warm
    from tuner.inputs import Inputs

    inputs = Inputs(python, store=store)
    cli_cache_warm.run([model, *(vllm_args or [])], inputs, cache_root, time_limit, as_json=as_json)


@app.command("ls")
def list_entries(cache_root: CachesRoot = None, as_json: Json = False) -> None:
    """Show what lies in a cache, which launch it is for, and when it was last used.

    Model, vLLM and GPU come from the record of a warm-up; what vLLM itself wrote does not tell them.
    """
    import time

    from tuner.compile_cache.prune import opened_root
    from tuner.compile_cache.text import root_document, root_text

    with failures(as_json):
        root = opened_root(cache_root, os.environ)
        if as_json:
            print_json(root_document(root))
        else:
            result(root_text(root, time.time()))


@app.command()
def scan(cache_root: CachesRoot = None, as_json: Json = False) -> None:
    """Look for secrets, loose permissions, strange owners, links that lead out and pickles of unknown origin.

    Ends with 1 if there is a secret, or something that other users can change; else with 3 if something could not be
    read; else with 0, notes or none.
    """
    from cache.compiled.scan import Level
    from cache.compiled.scan import scan as scan_root
    from tuner.compile_cache.prune import opened_root
    from tuner.compile_cache.text import scan_document, scan_text

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
    cache_root: CachesRoot = None,
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
    from tuner.compile_cache.prune import opened_root
    from tuner.compile_cache.prune import prune as prune_root
    from tuner.compile_cache.size import parse_size
    from tuner.compile_cache.text import pruned_document, pruned_text

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
