"""Answers the usual forms of `tuner verdict` and `tuner serve` before typer is imported.

Both stand in a start path, and importing typer costs as much CPU time as all the
rest of a look-up (`benchmarks/lookup.py`). What is not understood here, help and
faulty usage included, is left to typer, which calls the same `tuner.cli.actions`.
"""

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tuner.cli.choices import OnMissing
from tuner.cli.own_options import SERVE, VERDICT, own_tokens
from tuner.cli.settings import settings_file

Options = dict[str, str | bool]


def try_fast_path(argv: Sequence[str]) -> bool:
    """Run the command if it is understood; False leaves it to typer, which also reads a settings file."""
    if argv[:1] not in (["verdict"], ["serve"]) or settings_file() is not None:
        return False
    if argv[:1] == ["verdict"]:
        return _verdict(argv[1:])
    return _serve(argv[1:])


def read(args: Sequence[str], takes_value: Mapping[str, bool]) -> Options | None:
    """Options by name; None where a value is missing, empty, or given to a flag."""
    options: Options = {}
    tokens = iter(args)
    for token in tokens:
        name, joined, value = token.partition("=")
        if joined and not takes_value[name]:
            return None
        if not takes_value[name]:
            options[name] = True
        else:
            options[name] = value if joined else next(tokens, "")
        if not options[name]:
            return None
    return options


def _verdict(args: Sequence[str]) -> bool:
    """`verdict` with the model first, last, or between options."""
    before = own_tokens(args, VERDICT)
    model, behind = args[before : before + 1], args[before + 1 :]
    if own_tokens(behind, VERDICT) != len(behind):
        return False
    options = read([*args[:before], *behind], VERDICT)
    if options is None or not model or model[0].startswith("-"):
        return False
    with _no_garbage_collection():
        from tuner.cli import actions
        from tuner.cli.inputs import Inputs

    environment = _text(options, "--environment")
    inputs = Inputs(
        python=_text(options, "--python") or os.environ.get("TUNER_PYTHON") or None,
        environment=Path(environment) if environment else None,
        store=_text(options, "--store"),
        revision=_text(options, "--revision"),
        model_impl=_text(options, "--model-impl") or "auto",
        trust_remote_code="--trust-remote-code" in options,
        accept_platform=_text(options, "--accept-platform") or os.environ.get("TUNER_ACCEPT_PLATFORM") or None,
    )
    actions.verdict(model[0], inputs, as_json="--json" in options, verbose="--verbose" in options or "-v" in options)
    return True


def _serve(args: Sequence[str]) -> bool:
    """`serve` with our options first; all behind them is vLLM's."""
    own = own_tokens(args, SERVE)
    options, foreign = read(args[:own], SERVE), args[own:]
    if options is None or not foreign or foreign[0] in {"--", "--help", "-h"}:
        return False
    with _no_garbage_collection():
        from tuner.cli import actions
        from tuner.cli.inputs import Inputs, Launching

    choices = (options.get("--on-missing", "safe"), options.get("--cache-dir-in", "env"))
    if choices[0] not in set(OnMissing) or choices[1] not in {"env", "config"}:
        return False
    launching = Launching(
        fail_on_unknown="--fail-on-unknown" in options,
        enforce="--enforce" in options,
        cache_root=_text(options, "--cache-root") or os.environ.get("TUNER_CACHE_ROOT") or None,
        cache_dir_in_config=choices[1] == "config",
    )
    decision = _text(options, "--decision")
    public_key = _text(options, "--require-signed") or os.environ.get("TUNER_SERVICE_PUBLIC_KEY")
    inputs = Inputs(
        python=_text(options, "--python") or os.environ.get("TUNER_PYTHON") or None,
        store=_text(options, "--store"),
        accept_platform=_text(options, "--accept-platform") or os.environ.get("TUNER_ACCEPT_PLATFORM") or None,
        decision=Path(decision) if decision else None,
        service=_text(options, "--service") or os.environ.get("TUNER_SERVICE") or None,
        signed_with=Path(public_key) if public_key else None,
    )
    actions.serve(foreign, inputs, launching, OnMissing(choices[0]), dry_run="--dry-run" in options)
    return True


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Import without searching for garbage: modules stay, and so later searches pass over them, too."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _text(options: Options, name: str) -> str | None:
    value = options.get(name)
    return value if isinstance(value, str) else None
