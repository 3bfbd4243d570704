"""`tuner cache`: the compile caches of vLLM."""

from typing import Annotated

import typer

app = typer.Typer(
    help="Warm vLLM's compile cache, and see that it is used.", no_args_is_help=True, rich_markup_mode=None
)
WARM_LIMIT_S = 3600.0
Python = Annotated[
    str | None,
    typer.Option(metavar="PATH", help="Python of the serving environment. Default: the one behind `vllm` on PATH."),
]
Store = Annotated[str | None, typer.Option(metavar="FILE", help="The verdict store. Default: TUNER_STORE, else XDG.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
CacheRoot = Annotated[
    str | None,
    typer.Option(metavar="DIR", envvar="TUNER_CACHE_ROOT", help="VLLM_CACHE_ROOT. Default: where vLLM would keep it."),
]


@app.command()
def warm(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder with a config.json, or a hub id.")],
    vllm_args: Annotated[
        list[str] | None, typer.Argument(metavar="[-- VLLM ARGS]", help="Arguments of `vllm serve`.")
    ] = None,
    cache_root: CacheRoot = None,
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
