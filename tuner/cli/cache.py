"""`tuner cache`: the compile caches below a VLLM_CACHE_ROOT: filled, listed, checked and pruned."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from tuner.cli.commands import BehindDashes, ListedCommands
from tuner.cli.options import (
    AcceptPlatform,
    CacheRoot,
    CachesRoot,
    EnvironmentFile,
    Json,
    ModelName,
    Python,
    Store,
    VllmArgs,
)
from tuner.cli.output import complain, failures, keeping, print_json, refuse, result, say, stop_on_signals
from tuner.errors import ExitCode

if TYPE_CHECKING:
    from tuner.compile_cache.warm import Warmed

app = typer.Typer(
    cls=ListedCommands,
    help="Fill, explain, list, prune and carry vLLM's compile caches.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
WARM_LIMIT_S = 3600.0
KEPT = "what the first start compiled is kept once that start was ready; nothing half-done is seen in the cache"


@app.command(cls=BehindDashes)
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
    """Start the launch of `tuner plan` once to fill the cache, and once more to see that it is used.

    Ends with 0 if a second start hits, with 6 if it does not, with 7 if its log does not say.
    """
    from tuner.arguments.serve_arguments import parse
    from tuner.cli.inputs import Inputs, Launching, planned
    from tuner.cli.progress import working
    from tuner.compile_cache.warm import warm as warm_cache
    from tuner.compile_cache.warm_text import warmed_document, warmed_text

    args = [model, *(vllm_args or [])]
    with failures(as_json, model):
        stop_on_signals()
        plan = planned(args, Inputs(python, store=store), Launching(cache_root=cache_root), os.environ)
        refuse(plan)
        arguments = parse(args, vllm=plan.subject.environment.vllm)
        with keeping(KEPT), working() as under_way:
            warmed = warm_cache(plan, arguments, os.environ, time_limit, under_way, hear=under_way.log_line)
        if as_json:
            print_json(warmed_document(warmed))
        else:
            result(warmed_text(warmed))
        for note in warmed.notes:
            say(f"tuner: {note}")
        raise SystemExit(_warm_exit(warmed))


def _warm_exit(warmed: "Warmed") -> ExitCode:
    if warmed.record.hit:
        return ExitCode.FINE
    if warmed.record.hit is None:
        hint = "It compiles nothing, or VLLM_CONFIGURE_LOGGING keeps it from saying so."
        complain("The log of the second start says nothing of the compile cache.", hint)
        return ExitCode.LOG_INCOMPLETE
    hint = f"vLLM says: {warmed.reason}" if warmed.reason else ""
    complain("The second start compiled again: this cache does not help.", hint)
    return ExitCode.CHANGED


@app.command("list")
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

    Ends with 1 if there is a secret, or something that other users can change. Else it ends with 3 if something could
    not be read, and with 0 otherwise, also with notes.
    """
    from cache.compiled.scan import ScanLevel
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
        exits = {ScanLevel.ERROR: ExitCode.ERROR, ScanLevel.WARNING: ExitCode.UNKNOWN, ScanLevel.NOTE: ExitCode.FINE}
        raise SystemExit(exits[findings[0].level] if findings else ExitCode.FINE)


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
        for note in pruned.pruning.notes:
            say(f"tuner: {note}")
        for candidate in pruned.failed:
            say(f"tuner: {candidate.path} stays: {candidate.why}.")
        raise SystemExit(ExitCode.ERROR if pruned.failed else ExitCode.FINE)


@app.command()
def pack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The file to write, such as cache.tar.zst.")],
    cache_root: CachesRoot = None,
    record: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A warm-up by its model or digest; repeatable. Default: all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a cache's warm-ups and their entries as one file.

    The same cache gives the same bytes. It is refused if an entry holds a secret, a link, or changes under way.
    """
    from tuner.compile_cache.archive import pack as pack_cache
    from tuner.compile_cache.archive import packed_document, packed_text

    with failures(as_json):
        root = _root(cache_root)
        manifest = pack_cache(root, archive, record or [])
        if as_json:
            print_json(packed_document(root, archive, manifest))
        else:
            result(packed_text(archive, manifest))


@app.command()
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A file of `tuner cache pack`.")],
    cache_root: CachesRoot = None,
    python: Python = None,
    environment: EnvironmentFile = None,
    force: Annotated[bool, typer.Option("--force", help="Unpack what was made for another environment, too.")] = False,
    as_json: Json = False,
) -> None:
    """Put a packed cache in place, once all of it is checked.

    A server never sees a half-written entry there, and an entry that is there already stays as it is. vLLM runs what it
    reads from a compile cache, so unpack only what you trust.
    """
    from tuner.compile_cache.archive import ServingEnvironment, unpacked_document, unpacked_text
    from tuner.compile_cache.archive import unpack as unpack_cache

    with failures(as_json):
        root = _root(cache_root)
        manifest, unpacked, differing = unpack_cache(
            archive, root, ServingEnvironment(python, environment), force=force
        )
        for difference in differing:
            say(f"tuner: unpacked nevertheless: {difference}")
        if as_json:
            print_json(unpacked_document(root, archive, manifest, unpacked, differing))
        else:
            result(unpacked_text(root, manifest, unpacked))


def _root(option: str | None) -> Path:
    """The cache root, `~` resolved as vLLM does (vllm/envs.py)."""
    from tuner.launch.cache_root import cache_root

    return Path(option or cache_root(os.environ)[0]).expanduser()


Against = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The warm-up to compare with, by its digest or model. Default: the newest of MODEL."
    ),
]
Between = Annotated[
    tuple[Path, Path] | None,
    typer.Option(metavar="A B", help="Two cache folders, cache_key_factors.json, records of warm-ups, or logs."),
]


@app.command(cls=BehindDashes)
def explain(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="A folder with a config.json, or a hub id.")
    ] = None,
    vllm_args: VllmArgs = None,
    python: Python = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
    cache_root: CacheRoot = None,
    against: Against = None,
    between: Between = None,
    as_json: Json = False,
) -> None:
    """Tell whether the launch of `tuner plan` would load what the compile cache holds, and what keeps it from that.

    The serving environment's own vLLM computes the keys; the model is built without weights, and nothing is compiled.
    It ends with 0 for a hit, with 6 for a miss, and with 3 where it is not known.

    With --between, two caches or two logs are compared by what they say: 0 if nothing differs, 6 if something does.
    """
    if between is not None:
        if model is not None:
            raise typer.BadParameter("it takes no MODEL", param_hint="--between")
        _explain_between(*between, as_json=as_json)
    if model is None:
        raise typer.BadParameter("name a model, or give --between A B", param_hint="MODEL")
    from tuner.cli.inputs import Inputs, Launching, planned
    from tuner.cli.progress import working
    from tuner.compile_cache.explain import explain as explained
    from tuner.compile_cache.explain import explanation_document
    from tuner.compile_cache.explain_text import explanation_text
    from tuner.compile_cache.prediction import Answer

    with failures(as_json, model):
        inputs = Inputs(python, None, store, accept_platform=accept_platform)
        plan = planned([model, *(vllm_args or [])], inputs, Launching(cache_root=cache_root), os.environ)
        refuse(plan)
        for warning in plan.warnings:
            say(f"tuner: {warning}")
        with working() as under_way:
            under_way("asking vLLM for the keys of this launch (20 s to a minute)")
            explanation = explained(plan, os.environ, against)
        if as_json:
            print_json(explanation_document(explanation, model))
        else:
            result(explanation_text(explanation))
        exits = {Answer.HIT: ExitCode.FINE, Answer.MISS: ExitCode.CHANGED, Answer.UNKNOWN: ExitCode.UNKNOWN}
        raise SystemExit(exits[explanation.prediction.answer])


def _explain_between(first: Path, second: Path, *, as_json: bool) -> NoReturn:
    from tuner.compile_cache.between import between, between_document, between_text

    with failures(as_json):
        compared = between(first, second)
        if as_json:
            print_json(between_document(compared))
        else:
            result(between_text(compared))
        if compared.counting:
            raise SystemExit(ExitCode.CHANGED)
        raise SystemExit(ExitCode.FINE if compared.is_complete else ExitCode.UNKNOWN)
