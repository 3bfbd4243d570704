"""Runs inside a serving environment: prints which options that vLLM's `vllm serve` parser has, as one JSON document.

Usage: `python parser_options.py OUTPUT`. The document is `version`, the release, and `options`, a list with one object
for each option: the fields of `ReleaseOption` (tuner/arguments/release_options.py) but its releases.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PLAIN_ACTIONS = {"_StoreAction", "_AppendAction", "_StoreTrueAction", "BooleanOptionalAction", "_HelpAction"}
"""Actions that look at no value; any other may refuse what its type accepts."""
NAMED_TYPES = {
    "human_readable_int": "size",
    "human_readable_int_or_auto": "size_or_auto",
    "union_dict_and_str": "json_or_text",
}
"""Functions of vllm/engine/arg_utils.py and vllm/utils/argparse_utils.py that read a value, and our name for them."""


def main() -> None:
    """Write the document."""
    from vllm import __version__  # noqa: PLC0415  vLLM takes seconds to import
    from vllm.entrypoints.cli.serve import cmd_init  # noqa: PLC0415  as above
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415  as above

    parser = FlexibleArgumentParser()
    serve = cmd_init()[0].subparser_init(parser.add_subparsers(dest="subparser"))
    assert serve.allow_abbrev
    options = [described(action, spellings) for action, spellings in registered(serve)]
    Path(sys.argv[1]).write_text(json.dumps({"version": __version__, "options": options}), encoding="utf-8")


def registered(parser: argparse.ArgumentParser) -> list[tuple[argparse.Action, list[str]]]:
    """Each option with every spelling that the parser takes; from 0.33.0 on an action shows fewer than that."""
    spellings: dict[int, list[str]] = {}
    actions = {id(action): action for action in parser._option_string_actions.values()}
    for spelling, action in parser._option_string_actions.items():
        spellings.setdefault(id(action), []).append(spelling)
    return [(action, spellings[number]) for number, action in actions.items()]


def described(action: argparse.Action, spellings: list[str]) -> dict[str, Any]:
    """One option; what has its usual value is left out."""
    kind, optional, config = kind_of(action.type)
    if type(action).__name__ not in PLAIN_ACTIONS:
        kind = "unknown"
    facts = {
        "spellings": sorted(spellings, key=lambda spelling: not spelling.startswith("--")),
        "takes": str(1 if action.nargs is None else action.nargs),
        "kind": "none" if action.nargs == 0 else kind,
        "optional": optional,
        "choices": list(action.choices or ()),
        "keys": config_keys(action.type, config) if config else None,
    }
    return {name: value for name, value in facts.items() if value not in (None, False, [])}


def kind_of(converter: Any) -> tuple[str, bool, Any]:
    """How a value is read, whether the word None stands for none, and the config class that it becomes."""
    name = getattr(converter, "__name__", "")
    if name in {"_optional_type", "_parse_type"}:
        kind, optional, config = kind_of(enclosed(converter)["return_type"])
        return kind, optional or name == "_optional_type", config
    if name == "parse_dataclass":
        return "config", False, next(value for value in inner_values(converter) if dataclasses.is_dataclass(value))
    if name == "<lambda>":
        return kind_of_lambda(converter), False, None
    plain = {None: "text", str: "text", int: "int", float: "float", json.loads: "json"}
    return plain.get(converter) or NAMED_TYPES.get(name, "unknown"), False, None


def kind_of_lambda(converter: Callable[[str], Any]) -> str:
    """Two are known: names whose case and dashes do not count, and lists of anything between commas."""
    answer = converter("A-b")
    if answer == "a_b":
        return "folded_text"
    return "text" if answer == ["A-b"] else "unknown"


def enclosed(function: Any) -> dict[str, Any]:
    """The names that a function took from the one around it, and their values."""
    return {
        name: cell.cell_contents
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    }


def inner_values(function: Any) -> Iterator[Any]:
    """Whatever the function holds: its defaults, and what it took from the one around it."""
    yield from function.__defaults__ or ()
    yield from enclosed(function).values()


def config_keys(converter: Callable[[str], Any], config: Any) -> list[str] | None:
    """The keys that a config class takes; None where it takes any."""
    try:
        converter('{"not_a_key_of_any_config": 1}')
    except argparse.ArgumentTypeError:
        return sorted(field.name for field in dataclasses.fields(config) if field.init)
    return None


if __name__ == "__main__":
    main()
