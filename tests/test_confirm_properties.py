"""Whatever a log holds, the command ends, and nothing is confirmed that a whole log would not confirm."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules.releases import FlagStatus
from rules.verdict import Word
from tuner.confirm.compare import confirm
from tuner.confirm.expected import Written
from tuner.confirm.outcome import Confirmation, FactResult, Result
from tuner.confirm.text import confirmation_document, confirmation_text
from tuner.server_log.log import read_server_log

LOGS = {path.stem: path.read_bytes().decode().split("\n") for path in Path(__file__).parent.glob("server_logs/*.log")}
KEPT = Written(
    vllm="0.19.1",
    model="/srv/flag-live",
    architecture="Qwen3MoeForCausalLM",
    flag=True,
    status=FlagStatus.SETTABLE,
    verdict=Word.UNIFORM,
    refused=False,
    mode=None,
    eager="--enforce-eager",
    speculative=None,
    cache_root="/srv/cache",
    cache_dir=None,
)
"""What the server of the sample `0.19.1-true` was started with."""
CACHE_LINES = """\
(EngineCore pid=101) INFO 01-01 00:00:00 [backends.py:9] Using cache directory: /srv/cache/a for vLLM's torch.compile
(EngineCore pid=101) INFO 01-01 00:00:00 [decorators.py:9] saved AOT compiled function to /srv/cache/b/rank_0_0/model
""".splitlines()


def of(lines: list[str], written: Written | None = KEPT) -> Confirmation:
    """What comes of a log; both forms of output are made, too."""
    confirmation = confirm(read_server_log(lines), written)
    assert confirmation_text(confirmation).isprintable() or "\n" in confirmation_text(confirmation)
    assert confirmation_document(confirmation)["result"] == confirmation.result
    return confirmation


def same(found: Confirmation) -> set[str]:
    """The facts that are confirmed."""
    return {fact.name for fact in found.facts if fact.outcome is FactResult.SAME}


def compiling() -> list[str]:
    """The sample with a compiled engine and its cache."""
    lines = [line.replace("CompilationMode.NONE: 0", "CompilationMode.VLLM_COMPILE: 3") for line in LOGS["0.19.1-true"]]
    at = next(index for index, line in enumerate(lines) if "init engine (profile" in line)
    return [*lines[:at], *CACHE_LINES, *lines[at:]]


def test_the_base_of_these_properties_holds() -> None:
    """The whole log of the written launch is confirmed, so that less of it can be compared with that."""
    assert of(LOGS["0.19.1-true"]).result is Result.CONFIRMED
    assert {"cache", "flag", "start"} <= same(of(compiling()))


@given(st.lists(st.text(), max_size=20))
def test_arbitrary_text_confirms_nothing(lines: list[str]) -> None:
    """No text that is not a log is a confirmation, and none is an error."""
    assert of(lines).result is Result.NOT_SAID


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_lines_that_are_missing_only_make_less_sure(data: st.DataObject) -> None:
    """Of every real log, compared with every kind of decision: what is the same in a part is the same in the whole."""
    lines = data.draw(st.sampled_from([*LOGS.values(), compiling()]))
    gone = data.draw(st.sets(st.integers(0, len(lines) - 1)))
    part = [line for index, line in enumerate(lines) if index not in gone]

    assert same(of(part)) <= same(of(lines))
    if of(part).result is Result.CONFIRMED:
        assert of(lines).result is Result.CONFIRMED


@pytest.mark.parametrize("name", LOGS)
def test_a_log_that_is_cut_anywhere_only_makes_less_sure(name: str) -> None:
    """A log that was read too early, or whose beginning was rotated away."""
    lines = LOGS[name]
    whole = same(of(lines))

    for index in range(len(lines)):
        assert same(of(lines[:index])) <= whole
        assert same(of(lines[index:])) <= whole


@given(st.data())
def test_lines_out_of_order_only_make_less_sure(data: st.DataObject) -> None:
    """Interleaved pipes may swap lines of a start."""
    lines = data.draw(st.sampled_from([LOGS["0.19.1-true"], compiling()]))

    assert same(of(data.draw(st.permutations(lines)))) <= same(of(lines))


@given(st.integers(0, 5000), st.integers(1, 400))
def test_an_engine_line_that_lost_a_piece_is_no_other_confirmation(at: int, length: int) -> None:
    """Characters lost from the engine's line of a server that runs otherwise never make it the written one."""
    lines = list(LOGS["0.19.1-false-colour"])
    index = next(index for index, line in enumerate(lines) if "Initializing a V1" in line)
    lines[index] = lines[index][:at] + lines[index][at + length :]

    assert "flag" not in same(of(lines))


@given(st.text(max_size=60), st.integers(0, 6000))
def test_text_written_into_the_engine_line_is_no_other_confirmation(text: str, at: int) -> None:
    """Another process may write into the middle of a long line."""
    lines = list(LOGS["0.19.1-false-colour"])
    index = next(index for index, line in enumerate(lines) if "Initializing a V1" in line)
    lines[index] = lines[index][:at] + text + lines[index][at:]

    assert "flag" not in same(of(lines))
