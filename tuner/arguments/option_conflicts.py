"""Options of one argument list that contradict each other, as vLLM's own code says or as its parser resolves them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from tuner.arguments.option_faults import GivenOption
from tuner.arguments.release_options import OptionTable
from tuner.text import brief

MODE_SINCE = (0, 17)
"""The first minor series in which `--enforce-eager` sets the compile mode to 0 (vllm/config/vllm.py)."""


class Conflict(Struct, frozen=True):
    """Options that do not go together.

    Attributes:
        index: of the argument that the message is about; see `Fault`.
        text: whole sentences.
        refused: vLLM ends with an error; otherwise it drops what one of the options says.
    """

    index: int
    text: str
    refused: bool


def conflicts_in(
    options: Sequence[GivenOption], config: Mapping[str, Any], table: OptionTable, *, complete: bool = True
) -> Iterator[Conflict]:
    """The contradictions of a list.

    Args:
        options: of the list, as `read_options` gives them.
        config: the keys of the compilation config.
        table: the options of the release.
        complete: no argument is hidden, so what is not there is not there.
    """
    yield from _both_ways(options)
    last = {option.name: option for option in options}
    yield from _eager(last, config, table)
    if complete:
        yield from _data_parallel(last)
        yield from _headless(last)
        yield from _without_partner(last)


def _both_ways(options: Sequence[GivenOption]) -> Iterator[Conflict]:
    """A switch that is given with and without `--no-`; argparse keeps the last."""
    before: dict[str, GivenOption] = {}
    for option in options:
        other = before.get(option.name, option)
        before[option.name] = option
        if option.value is None and _negates(other) != _negates(option):
            last = option.spelling
            text = f"{other.spelling} and {last} contradict each other; vLLM keeps the last, {last}."
            yield Conflict(option.index, text, refused=False)


def _negates(option: GivenOption) -> bool:
    """Whether a switch is off: `--no-x` for `--x`; in 0.33.0 also `--disable-x` for `--enable-x`, and the reverse."""
    return option.spelling != option.name and option.spelling.startswith(("--no-", "--disable-", "--enable-"))


def _data_parallel(last: Mapping[str, GivenOption]) -> Iterator[Conflict]:
    """ParallelConfig.__post_init__ (vllm/config/parallel.py, 0.14.1 to 0.33.0); a rank sets the local size to 1."""
    local, whole = last.get("--data-parallel-size-local"), last.get("--data-parallel-size")
    if local is None or {"--data-parallel-rank", "--data-parallel-external-lb"} & last.keys():
        return
    sizes = _number(local), _number(whole) if whole else 1
    if sizes[0] is not None and sizes[1] is not None and sizes[0] > sizes[1]:
        text = f"--data-parallel-size-local {sizes[0]} is more than --data-parallel-size {sizes[1]}; vLLM refuses it."
        yield Conflict(local.index, text, refused=True)


def _headless(last: Mapping[str, GivenOption]) -> Iterator[Conflict]:
    """ServeSubcommand.cmd (vllm/entrypoints/cli/serve.py, 0.15.0 to 0.33.0)."""
    count = last.get("--api-server-count")
    if count is None or "--headless" not in last or "--grpc" in last:
        return
    if (_number(count) or 0) > 0:
        yield Conflict(count.index, "--headless starts no API server; vLLM refuses --api-server-count.", refused=True)


def _without_partner(last: Mapping[str, GivenOption]) -> Iterator[Conflict]:
    """validate_parsed_serve_args (vllm/entrypoints/openai/cli_args.py, 0.14.1 to 0.33.0)."""
    auto, parser = last.get("--enable-auto-tool-choice"), last.get("--tool-call-parser")
    if auto and not _negates(auto) and (parser is None or parser.value in {"", "None"}):
        yield Conflict(auto.index, "vLLM refuses --enable-auto-tool-choice without --tool-call-parser.", refused=True)
    outputs, requests = last.get("--enable-log-outputs"), last.get("--enable-log-requests")
    if outputs and not _negates(outputs) and (requests is None or _negates(requests)):
        yield Conflict(outputs.index, "vLLM refuses --enable-log-outputs without --enable-log-requests.", refused=True)


def _eager(last: Mapping[str, GivenOption], config: Mapping[str, Any], table: OptionTable) -> Iterator[Conflict]:
    """VllmConfig.__post_init__ (vllm/config/vllm.py): the mode from 0.17.0 on, the graphs in every release."""
    eager = last.get("--enforce-eager")
    if eager is None or _negates(eager):
        return
    read = {"cudagraph_mode": {"NONE", "0"}, **({"mode": {"NONE", "0"}} if table.numbers >= MODE_SINCE else {})}
    for key, off in read.items():
        value = config.get(key)
        if value is not None and "$" not in str(value) and str(value).upper() not in off:
            text = f"--enforce-eager sets {key} to NONE: vLLM drops the {brief(str(value))} of the compilation config."
            yield Conflict(eager.index, text, refused=False)


def _number(option: GivenOption) -> int | None:
    """The value as a number; None if it is not known."""
    try:
        return None if option.unknown else int(option.value or "")
    except ValueError:
        return None
