"""Proof that an edit lost nothing: the edited launch is read again and compared with the one before it.

The edit is made from a plan, and the plan from a reading of the file. This looks at the two launches alone and knows
neither, so that a fault of either is found here. Pure, except for a `--config` file beside the manifest.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rules.decide import FLAG_KEY, MODE_KEY
from rules.errors import TunerError
from tuner.arguments.serve_arguments import without_options
from tuner.arguments.vllm_options import Setting, indexes_of_field, scan
from tuner.checks.edit import NotEditable
from tuner.checks.examine import read_arguments
from tuner.manifests.launch import Argument, Form, ManifestLaunch

_FIELD = "compilation_config"
_SEVERAL = re.compile(r"\$+\{?!?[@*]|\[[@*]\]")
"""What stands for any number of arguments in a shell, whoever reads the text before it."""


@dataclass(frozen=True)
class Meant:
    """What an edit may do beside adding keys to the compilation config.

    Attributes:
        options: the options that it adds, in one run.
        changed: dotted names of the keys of the compilation config that may have another value, or none.
    """

    options: tuple[str, ...] = ()
    changed: frozenset[str] = frozenset()


NOTHING_ELSE = Meant()


def require_nothing_lost(
    path: str, text: str, before: ManifestLaunch, after: ManifestLaunch, meant: Meant = NOTHING_ELSE
) -> None:
    """Check a launch that an edit changed.

    Every argument except the compilation config must still be there, in the same order. There must be one compilation
    config, with every key that was asked for before. A launch that hides arguments may not be changed at all.

    Args:
        path: the manifest, beside which a `--config` file is looked for.
        text: the file after the edit.
        before: the launch as it was.
        after: the launch as it is read from `text`.
        meant: what else the edit may do.

    Raises:
        NotEditable: something would be lost; the message says what.
    """
    hidden = after.hidden or next(_several_words(text, after.words), "")
    if hidden:
        raise NotEditable(f"the value of {hidden} is not written here, and would come before the added arguments")
    settings = _config_settings(after.args)
    if _others(before.args) != without_options(_others(after.args), meant.options):
        raise NotEditable("the edit would change other arguments, or their order")
    if len(settings) > 1 and not all(setting.path for setting in settings):
        raise NotEditable("the edit would leave two compilation configs, and vLLM drops one")
    try:
        old, _ = read_arguments(path, before)
        new, unread = read_arguments(path, after)
    except TunerError as error:
        raise NotEditable(f"after the edit vLLM would refuse the launch: {error.message}") from None
    if unread:
        raise NotEditable(f"the value of {unread} is not written here, and may hold a compilation config")
    values = leaves(new.compilation_config)
    lost = [name for name, value in leaves(old.compilation_config).items() if not _same(name, value, values)]
    lost = [name for name in lost if name not in meant.changed]
    lost += new.dropped
    if lost:
        raise NotEditable(f"after the edit vLLM would drop {', '.join(lost)}")


def leaves(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value, for each key of a compilation config that holds no object, and for empty objects."""
    values: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            values |= leaves(value, f"{prefix}{key}.")
        else:
            values[prefix + key] = value
    return values


def _same(name: str, value: object, values: Mapping[str, Any]) -> bool:
    """Whether a key is as it was; a null for what is decided here asks for vLLM's default."""
    if value is None and name in {FLAG_KEY, MODE_KEY}:
        return True
    if value == {} and any(other.startswith(f"{name}.") for other in values):
        return True
    return name in values and json.dumps(values[name], sort_keys=True) == json.dumps(value, sort_keys=True)


def _config_settings(args: tuple[str, ...]) -> list[Setting]:
    return [setting for setting in scan(args)[0] if setting.option.field == _FIELD]


def _others(args: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments that belong to no compilation config."""
    indexes = indexes_of_field(args, _FIELD)
    return tuple(arg for index, arg in enumerate(args) if index not in indexes)


def _several_words(text: str, words: tuple[Argument, ...]) -> Iterator[str]:
    """What is written for words of a command line that a shell may make any number of words of."""
    for word in words:
        written = text[word.start : word.stop]
        if word.owner is not None and word.owner.form is Form.SHELL and _SEVERAL.search(written):
            yield written
