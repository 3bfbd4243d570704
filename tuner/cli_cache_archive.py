"""`tuner cache pack` and `tuner cache unpack`: a compile cache carried to another node, or baked into an image."""

import os
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli_options import CachesRoot, EnvironmentFile, Json, Python
from tuner.cli_output import failures, print_json, result, say


def add_to(app: typer.Typer) -> None:
    """Register both commands."""
    app.command()(pack)
    app.command()(unpack)


def pack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="The file to write, such as cache.tar.zst.")],
    cache_root: CachesRoot = None,
    record: Annotated[
        list[str] | None, typer.Option(metavar="DIGEST", help="Start of a warm-up's digest; repeatable. Default: all.")
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


def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A file of `tuner cache pack`.")],
    cache_root: CachesRoot = None,
    python: Python = None,
    environment: EnvironmentFile = None,
    force: Annotated[bool, typer.Option("--force", help="Unpack what was made for another environment, too.")] = False,
    as_json: Json = False,
) -> None:
    """Put a packed cache in place, once all of it is checked.

    Nothing half-done is ever seen there, and an entry that is there already is left as it is. vLLM runs what it reads
    from a compile cache, so unpack only what you trust.
    """
    from tuner.compile_cache.archive import Serving, unpacked_document, unpacked_text
    from tuner.compile_cache.archive import unpack as unpack_cache

    with failures(as_json):
        root = _root(cache_root)
        manifest, done, differing = unpack_cache(archive, root, Serving(python, environment), force=force)
        for difference in differing:
            say(f"tuner: unpacked nevertheless: {difference}")
        if as_json:
            print_json(unpacked_document(root, archive, manifest, done, differing))
        else:
            result(unpacked_text(root, manifest, done))


def _root(given: str | None) -> Path:
    """The cache root, `~` resolved as vLLM does (vllm/envs.py)."""
    from tuner.launch.cache_root import cache_root

    return Path(given or cache_root(os.environ)[0]).expanduser()
