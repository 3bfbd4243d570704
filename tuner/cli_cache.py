"""`tuner cache`: what vLLM's compile cache holds, and whether a launch would find it."""

import typer

from tuner import cli_cache_explain

app = typer.Typer(help="Explain the compile cache.", no_args_is_help=True, rich_markup_mode=None)
cli_cache_explain.add_to(app)


@app.callback()
def root() -> None:
    """Keep the commands named, however few there are."""
