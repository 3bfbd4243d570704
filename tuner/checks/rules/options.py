"""What this vLLM's parser says of the options of a launch that a manifest states."""

from collections.abc import Iterator

from tuner.arguments.option_conflicts import conflicts_in
from tuner.arguments.option_faults import FROM_FILE, FaultKind, OptionReading, read_options
from tuner.arguments.refusals import basis_sentence, is_certain
from tuner.arguments.release_options import OptionTable, option_table
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Severity
from tuner.checks.rules.surroundings import platform_of


def fault_problems(examined: Examined, kind: FaultKind) -> Iterator[Problem]:
    """The places at which the parser stops, of one kind; less than certain where no table of the release exists."""
    table = option_table(examined.version)
    reading = _reading(examined, table)
    if table is None or reading is None:
        return
    certain = is_certain(table, platform_of(examined))
    for fault in reading.faults:
        if fault.kind is kind and certain:
            yield Problem(fault.text, _line(examined, fault.index))
        elif fault.kind is kind:
            yield Problem(f"{fault.text} {basis_sentence(table)}", _line(examined, fault.index), Severity.WARNING)


def conflict_problems(examined: Examined) -> Iterator[Problem]:
    """Options that contradict each other: an error where vLLM ends, a warning where it drops one of them."""
    table = option_table(examined.version)
    reading = _reading(examined, table)
    if table is None or reading is None or examined.arguments is None:
        return
    config = examined.arguments.compilation_config
    for conflict in conflicts_in(reading.options, config, table, complete=_is_complete(examined)):
        severity = Severity.ERROR if conflict.refused and table.exact else Severity.WARNING
        yield Problem(conflict.text, _line(examined, conflict.index), severity)


def _reading(examined: Examined, table: OptionTable | None) -> OptionReading | None:
    """The options as this release reads them; None where the arguments or the release are not known."""
    if table is None or examined.arguments is None:
        return None
    unknown = {index for index, word in enumerate(examined.launch.words) if word.unknown}
    return read_options(examined.arguments, table, unknown, complete=_is_complete(examined))


def _is_complete(examined: Examined) -> bool:
    """Whether every argument is written in the manifest."""
    return not examined.hidden and not any(word.unknown for word in examined.launch.words)


def _line(examined: Examined, index: int) -> int | None:
    """The line of an argument; None for one of the `--config` file."""
    return None if index == FROM_FILE else examined.launch.words[index].line
