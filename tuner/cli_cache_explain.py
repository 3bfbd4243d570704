"""`tuner cache explain`: would a launch hit the compile cache, and if not, why."""

import os
from typing import Annotated

import typer

from tuner.cli_options import AcceptPlatform, CacheRoot, Json, ModelName, Python, Store, VllmArgs
from tuner.cli_output import failures, print_json, refuse, result, say
from tuner.errors import ExitCode

Against = Annotated[
    str | None, typer.Option(metavar="DIGEST", help="The warm-up to compare with. Default: the newest of the model.")
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command()(explain)


def explain(
    model: ModelName,
    vllm_args: VllmArgs = None,
    python: Python = None,
    store: Store = None,
    accept_platform: AcceptPlatform = None,
    cache_root: CacheRoot = None,
    against: Against = None,
    as_json: Json = False,
) -> None:
    """Tell whether the launch of `tuner plan` would load what the compile cache holds, and what keeps it from that.

    The serving environment's own vLLM computes the keys; the model is built without weights, and nothing is compiled.
    It ends with 0 for a hit, and with 3 for a miss or where it cannot be told.
    """
    from tuner.compile_cache.explain import explain as explained
    from tuner.compile_cache.explain import explanation_document
    from tuner.compile_cache.explain_text import explanation_text
    from tuner.compile_cache.prediction import Answer
    from tuner.inputs import Inputs, Launching, planned

    with failures(as_json, model):
        inputs = Inputs(python, None, store, accept_platform=accept_platform)
        made = planned([model, *(vllm_args or [])], inputs, Launching(cache_root=cache_root), os.environ)
        refuse(made)
        for warning in made.warnings:
            say(f"tuner: {warning}")
        explanation = explained(made, os.environ, against)
        if as_json:
            print_json(explanation_document(explanation, model))
        else:
            result(explanation_text(explanation))
        if explanation.prediction.answer is not Answer.HIT:
            raise SystemExit(ExitCode.UNKNOWN)
