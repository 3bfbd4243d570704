"""Reads a `vllm serve` argument list, and rewrites it with one merged compilation config.

vLLM never merges compilation configs. It keeps the last of several JSON values; dotted keys (`-cc.key=value`) replace
every JSON value wherever they stand; `-cc.…` and `--compilation-config.…` replace each other; the command line
replaces the `--config` file's (0.14.1 to 0.33.0; tested against seven releases from 0.16.0 to 0.32.0). Adding one key
is therefore safe only as part of one merged value.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from pathlib import Path
from typing import Any

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from rules.releases import named_release
from tuner.arguments.release_options import option_table, positional_in
from tuner.arguments.serving import Serving, read_serving, stored_objects
from tuner.arguments.vllm_options import Setting, scan
from tuner.untrusted.files import read_plain
from tuner.untrusted.json_text import MAX_BYTES

_FIELD = "compilation_config"


class ServeArguments(Struct, frozen=True):
    """An argument list as it stands behind `vllm serve`, and what it says.

    Attributes:
        as_written: the arguments, exactly as they stand.
        effective: the arguments with the options of the `--config` file in place of `--config FILE`, in the order in
            which vLLM reads them: a model that stands first, the file's options, the command line's.
        model: the model to serve; None if no model is named, or if a bare word stands behind an option that is neither
            known here nor listed for the release.
        compilation_config: all keys that any spelling or the `--config` file sets; of two values for one key, the value
            that vLLM would keep.
        dropped: dotted names of the keys in `compilation_config` that vLLM itself would drop from `as_written`.
        without_config: `as_written` without the arguments of any compilation config.
        merged_at: index in `without_config` where the merged compilation config belongs.
        file_has_dotted_keys: the `--config` file spells keys of the compilation config with dots, which vLLM stores
            behind any JSON value.
        serving: the facts that decide, with those of the `--config` file.
        warnings: whole sentences about what vLLM would silently do in another way than written.
    """

    as_written: tuple[str, ...]
    effective: tuple[str, ...]
    model: str | None
    compilation_config: dict[str, Any]
    dropped: tuple[str, ...]
    without_config: tuple[str, ...]
    merged_at: int
    file_has_dotted_keys: bool
    serving: Serving
    warnings: tuple[str, ...]


def parse(
    args: Sequence[str], read_text: Callable[[str], str] | None = None, *, vllm: str | None = None
) -> ServeArguments:
    """Read the arguments behind `vllm serve`.

    Precedence is vLLM's: of several values the last, and the command line over the `--config` file.

    Args:
        args: the arguments, model included.
        read_text: the text of the file at a path, for `--config`; default: the file system.
        vllm: the release that will read them, as far as known.

    Raises:
        TunerError: a list that vLLM would refuse (kind `usage`): a compilation config that is not a JSON object, a
            missing value, an unreadable `--config` file.
    """
    options = _file_options(args, read_text or _read_file)
    file_arguments = _as_arguments(options, vllm)
    in_file, _ = scan(file_arguments)
    own, positional = scan(args)
    settings = [*in_file, *own]
    expands = _expands_numbers(vllm)
    config, dropped = _all_keys(settings, _FIELD, expands)
    without_config, merged_at = _without_config(args, own)
    return ServeArguments(
        as_written=tuple(args),
        effective=_effective(args, file_arguments),
        model=_model(own, positional or _by_table(args, vllm), in_file),
        compilation_config=config,
        dropped=dropped,
        without_config=without_config,
        merged_at=merged_at,
        file_has_dotted_keys=any(s.path for s in in_file if s.option.field == _FIELD),
        serving=read_serving(settings, expands=expands),
        warnings=(*_warnings(args, settings, dropped, expands), *_dropped_from_file(options)),
    )


def merge(arguments: ServeArguments, additions: Mapping[str, Any], options: Sequence[str] = ()) -> tuple[str, ...]:
    """The argument list with `additions` in its compilation config, and with further `options`.

    Returns:
        `as_written` where there is nothing to add and nothing that vLLM would drop. Otherwise the same arguments with
        one `--compilation-config` that holds the user's keys and ours; a key that the user set wins. It stands
        where the user's stood. Only a `--config` file with dotted keys makes it one `-cc.key=value` a key, because
        JSON could not win over them. Further options stand behind it.
    """
    if not additions and not arguments.dropped:
        return with_options(arguments.as_written, options)
    merged = merged_config(arguments, additions)
    if arguments.file_has_dotted_keys:
        config = [f"-cc.{key}={json.dumps(value)}" for key, value in merged.items()]
    else:
        config = ["--compilation-config", json.dumps(merged)]
    before = arguments.without_config[: arguments.merged_at]
    behind = arguments.without_config[arguments.merged_at :]
    return (*before, *config, *options, *behind)


def merged_config(arguments: ServeArguments, additions: Mapping[str, Any]) -> dict[str, Any]:
    """The compilation config with `additions`, objects merged deeply; the user's keys come first, and their values win.

    So a switch of the user's in `pass_config` stays beside one of ours.
    """
    config = arguments.compilation_config
    return _overlay(_overlay(config, additions), config)


def with_options(arguments: tuple[str, ...], options: Sequence[str]) -> tuple[str, ...]:
    """The arguments with options behind them, in front of a `--`."""
    end = end_of_options(arguments)
    return (*arguments[:end], *options, *arguments[end:])


def end_of_options(arguments: Sequence[str]) -> int:
    """The index of a `--`, behind which no option is read; without one the number of the arguments."""
    return list(arguments).index("--") if "--" in arguments else len(arguments)


def without_options(arguments: Sequence[str], options: Sequence[str]) -> tuple[str, ...] | None:
    """The arguments without options that stand in them in one run, the last such run; None if they do not."""
    size = len(options)
    for start in range(len(arguments) - size, -1, -1):
        if tuple(arguments[start : start + size]) == tuple(options):
            return (*arguments[:start], *arguments[start + size :])
    return None


def _model(own: Sequence[Setting], positional: str | None, in_file: Sequence[Setting]) -> str | None:
    """The model: vLLM makes the first `--model` of the command line the positional one; the file counts last."""
    first = next((s.value for s in own if s.option.field == "model"), None)
    last_in_file = next((s.value for s in reversed(in_file) if s.option.field == "model"), None)
    return first or positional or last_in_file


def _by_table(args: Sequence[str], vllm: str | None) -> str | None:
    """The positional argument by the options of this very release; None where it is another one."""
    table = option_table(vllm)
    return positional_in(args, table) if table is not None and table.exact else None


def _without_config(args: Sequence[str], own: Sequence[Setting]) -> tuple[tuple[str, ...], int]:
    """The arguments without any compilation config, and where among them the merged one belongs.

    vLLM moves dotted keys to the end itself, so only plain ones hold a place; before a bare word they may be all that
    keeps an option of many values from swallowing it.
    """
    configs = [setting for setting in own if setting.option.field == _FIELD]
    removed: set[int] = set()
    for setting in configs:
        removed.update(range(setting.start, setting.stop))
    indices = [index for index in range(len(args)) if index not in removed]
    remaining = tuple(args[index] for index in indices)
    places = [bisect_left(indices, setting.start) for setting in configs if not setting.path]
    places = places or [end_of_options(remaining)]
    before_word = (place for place in places if place < len(remaining) and not remaining[place].startswith("-"))
    return remaining, next(before_word, places[0])


def _effective(args: Sequence[str], file_arguments: Sequence[str]) -> tuple[str, ...]:
    """The arguments that vLLM parses once it has read the `--config` file.

    As `_pull_args_from_config` puts them together (vllm/utils/argparse_utils.py, 0.16.0 to 0.32.0).
    """
    if "--config" not in args:
        return tuple(args)
    index = args.index("--config")
    own = (*args[:index], *args[index + 2 :])
    first = own[:1] if not args[0].startswith("-") else ()
    return (*first, *file_arguments, *own[len(first) :])


def _file_options(args: Sequence[str], read_text: Callable[[str], str]) -> dict[Any, Any]:
    """The content of the `--config` file; vLLM puts its options in front of the command line's options.

    vLLM looks for `--config` as a separate argument with exactly that name.
    """
    if "--config" not in args:
        return {}
    if args.count("--config") > 1:
        raise _file_error("The option --config is given more than once.", "vLLM reads one file; put the options in it.")
    path = next(iter(args[args.index("--config") + 1 :]), None)
    if path is None:
        raise _file_error("The option --config has no value.", "Give the path of a YAML file after it.")
    if path.split(".")[-1] not in {"yaml", "yml"}:
        raise _file_error(f"The --config file {path} is named neither .yaml nor .yml; vLLM refuses it.", "Rename it.")
    return _load(path, read_text)


def _file_error(message: str, hint: str = "") -> TunerError:
    """VLLM ends with a traceback, before its parser sees the list."""
    return TunerError(message, hint=hint, kind=ErrorKind.ARGUMENTS)


def _load(path: str, read_text: Callable[[str], str]) -> dict[Any, Any]:
    from tuner import yaml_text  # noqa: PLC0415  PyYAML is slow to import and rarely needed here

    try:
        return yaml_text.load_mapping(read_text(path))
    except OSError as error:
        raise _file_error(f"The --config file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:  # UnicodeDecodeError among them
        raise _file_error(f"The --config file {path} cannot be used: {error}.") from None


def _read_file(path: str) -> str:
    data = read_plain(Path(path), MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
    return data.decode("utf-8")


def _as_arguments(options: Mapping[Any, Any], vllm: str | None) -> list[str]:
    """A mapping as vLLM's `load_config_file` (vllm/utils/argparse_utils.py) turns it into arguments.

    `false` is left out: see `_dropped_from_file`. Releases before 0.16 write a mapping in it as Python does, and then
    refuse it, because that is not JSON.
    """
    version = named_release(vllm)
    written = str if version is not None and version.release < (0, 16) else partial(json.dumps, default=str)
    arguments: list[str] = []
    for key, value in options.items():
        if value is False or value == []:
            continue
        arguments.append(f"--{key}")
        if isinstance(value, list):
            arguments += map(str, value)
        elif isinstance(value, dict):
            arguments.append(written(value))
        elif value is not True:
            arguments.append(str(value))
    return arguments


def _expands_numbers(vllm: str | None) -> bool:
    """Whether a release writes out numbers such as `80g` (0.20.2 does, 0.19.1 does not); an unknown release does."""
    version = named_release(vllm)
    return version is None or version.release >= (0, 20)


def _dropped_from_file(options: Mapping[Any, Any]) -> Iterator[str]:
    """Warnings about options that the file switches off and vLLM does not; options that we read are off by default.

    `vllm serve` drops every `false` (0.16.0 to 0.32.0). 0.32.0 means to write `--no-KEY`, but looks for it among the
    options of `vllm` itself, where those of `serve` are not.
    """
    for key, value in options.items():
        if value is not False or scan([f"--{key}"])[0]:
            continue
        yield f"vLLM drops `{key}: false` of the --config file; write `no-{key}: true` there."


def _all_keys(settings: Sequence[Setting], field: str, expands: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """All keys that are set for an object option, and the dotted names of the keys that vLLM drops."""
    stored = [value or {} for value in stored_objects(settings, field, expands=expands)]
    whole: dict[str, Any] = reduce(_overlay, stored, {})
    return whole, tuple(_missing(whole, stored[-1])) if stored else ()


def _warnings(args: Sequence[str], settings: Sequence[Setting], dropped: Sequence[str], expands: bool) -> Iterator[str]:
    if dropped:
        yield (
            "Of several compilation configs vLLM keeps only one and would drop "
            f"{', '.join(dropped)}; all keys are kept here, merged into one --compilation-config."
        )
    for field, option in (("hf_overrides", "--hf-overrides"), ("speculative", "--speculative-config")):
        if lost := _all_keys(settings, field, expands)[1]:
            yield f"Of several {option} vLLM keeps only one and drops {', '.join(lost)}; give all keys in one of them."
    if joined := next((argument for argument in args if argument.startswith("--config=")), None):
        yield f"vLLM ignores {joined}; give --config and its path as two arguments."


def _overlay(base: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings in one, objects merged deeply; `update` wins, keys keep the order of `base`."""
    merged = dict(base)
    for key, value in update.items():
        inner = merged.get(key)
        merged[key] = _overlay(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _missing(whole: Mapping[str, Any], part: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of the keys of `whole` that `part` lacks."""
    for key, value in whole.items():
        if key not in part:
            yield prefix + key
        elif isinstance(value, dict):
            yield from _missing(value, part[key], f"{prefix}{key}.")
