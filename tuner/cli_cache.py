"""`tuner cache`: the compile caches that vLLM keeps."""

import typer

from tuner import cli_cache_archive

app = typer.Typer(
    help="Carry vLLM's compile caches from one machine to another.", no_args_is_help=True, rich_markup_mode=None
)
cli_cache_archive.add_to(app)
