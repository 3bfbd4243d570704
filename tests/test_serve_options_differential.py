"""Which argument lists we say that vLLM refuses, against the parsers of seven real releases of vLLM."""

import json
from collections import Counter
from typing import Any

import pytest
from argument_lists import FILE, Composed, composed
from argument_promises import refused_after_parsing
from hypothesis import HealthCheck, Phase, given, settings
from option_lists import launches, uses
from real_parsers import RealParser

from rules.compilation_keys import unknown_keys
from rules.errors import TunerError
from tuner.arguments.option_faults import read_options
from tuner.arguments.release_options import OptionTable, option_table
from tuner.arguments.serve_arguments import parse

pytestmark = pytest.mark.vllm


def test_what_is_refused_is_what_vllm_refuses(real: RealParser) -> None:
    """Launches, and every option with values of every kind: both say the same of each list."""
    table = table_of(real)
    seen: Counter[str] = Counter()
    for args in (*launches(), *uses(real.options)):
        seen[compared(args, real, table)] += 1
    assert seen["accepted"] > 900, seen
    assert seen["refused"] > 1500, seen
    assert seen["value of a config"] < 200, seen


def test_composed_lists_are_refused_where_vllm_refuses_them(real: RealParser) -> None:
    """Lists in all spellings, with `--config` files."""
    table = table_of(real)
    seen: Counter[str] = Counter()

    @settings(
        max_examples=150,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(composed())
    def hold(composition: Composed) -> None:
        if composition.file is not None:
            (real.folder / FILE).write_text(composition.file, encoding="utf-8")
        seen[compared(composition.args, real, table)] += 1

    hold()
    assert seen["accepted"] > 75, seen


def test_the_table_is_that_of_the_parser(real: RealParser) -> None:
    """Every spelling of the release, each with how many words it takes."""
    table = table_of(real)
    ours = {name: option.takes for name in table.spellings if (option := table.get(name))}
    assert ours == real.options


def table_of(real: RealParser) -> OptionTable:
    """Our table of this release."""
    table = option_table(real.version)
    assert table is not None
    assert table.exact
    return table


def compared(args: list[str], real: RealParser, table: OptionTable) -> str:
    """What both say of a list; a difference fails, but where vLLM judges a value inside of a config."""
    answer = real.read(args)
    why = refusal(args, real, table)
    if "refused" not in answer:
        assert not why or refused_after_parsing(answer["values"]), (args, why)
        return "accepted"
    if why:
        return "refused"
    assert holds_config(args, table) or is_without_model(answer), (args, answer)
    return "value of a config"


def refusal(args: list[str], real: RealParser, table: OptionTable) -> str:
    """Why we say that vLLM refuses a list; empty if we do not."""
    try:
        arguments = parse(args, lambda path: (real.folder / path).read_text(encoding="utf-8"), vllm=real.version)
    except TunerError as error:
        return error.message
    keys = unknown_keys(arguments.compilation_config, real.version)
    return " ".join([*(fault.text for fault in read_options(arguments, table).faults), *keys])


def holds_config(args: list[str], table: OptionTable) -> bool:
    """Whether a value is an object with known keys, of which vLLM judges the values, or is read by other code."""
    uses_of = [use for word in args if (use := table.use_of(word.partition(".")[0].replace("_", "-")))]
    return any(use.option is not None and use.option.kind in {"config", "unknown"} for use in uses_of)


def is_without_model(answer: dict[str, Any]) -> bool:
    """Whether vLLM misses a model beside a `--config` file."""
    return "No model specified" in json.dumps(answer)
