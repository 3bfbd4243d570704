"""The options of `verdict` and `serve` that are ours, without typer: a look-up reads them, too."""

from collections.abc import Mapping, Sequence

COMMON = {"--python": True, "--store": True, "--accept-platform": True}
VERDICT = {
    **COMMON,
    "--environment": True,
    "--revision": True,
    "--model-impl": True,
    "--trust-remote-code": False,
    "--json": False,
    "--verbose": False,
    "-v": False,
}
SERVE = {
    **COMMON,
    "--decision": True,
    "--service": True,
    "--require-signed": True,
    "--on-missing": True,
    "--fail-on-unknown": False,
    "--enforce": False,
    "--cache-root": True,
    "--cache-dir-in": True,
    "--dry-run": False,
}
"""Option -> whether it takes a value, as declared in `tuner.cli.app`; a test compares the two."""


def own_tokens(args: Sequence[str], takes_value: Mapping[str, bool]) -> int:
    """How many leading tokens are options of ours and their values."""
    index = 0
    while index < len(args) and args[index].partition("=")[0] in takes_value:
        index += 1 if "=" in args[index] or not takes_value[args[index]] else 2
    return index
