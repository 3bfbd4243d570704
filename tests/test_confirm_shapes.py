"""Shapes of a server's log with a known answer (`tests/support/log_shapes.py`), and what no shape may change."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import tuner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_shapes import (
    CUT,
    DEAD,
    ENGINE,
    FAILED,
    ON,
    READY,
    RIGHT,
    SHAPES,
    STOPPED,
    SWITCHED,
    WRAPPINGS,
    WRONG,
    Lines,
    at,
    coloured,
    plain,
    ranks,
    renumbered,
    woven,
)

from tuner.confirm.compare import confirm
from tuner.confirm.expected import read_written
from tuner.confirm.outcome import Result
from tuner.server_log.log import read_server_log


def test_there_are_shapes_enough() -> None:
    """Thirty at least, of every outcome."""
    assert len(SHAPES) >= 30
    assert {shape.code for shape in SHAPES.values()} == {0, 5, 7}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_comes_out_as_known(tmp_path: Path, name: str) -> None:
    """Its exit code, and what its document says."""
    shape = SHAPES[name]
    log, written = tmp_path / "server.log", tmp_path / "plan.json"
    log.write_bytes(shape.encode("\n".join(shape.lines) + "\n"))
    written.write_text(json.dumps(shape.decision), encoding="utf-8")
    answer = tuner("confirm", log, "--decision", written, "--json", code=shape.code)

    assert shape.says in answer.out
    assert answer.document["result"] == {0: "confirmed", 5: "differs", 7: "not_said"}[shape.code]


def result_of(lines: Lines) -> Result:
    """What comes of a log beside the decision of the recorded server."""
    return confirm(read_server_log(lines), read_written(ON)).result


@given(st.data())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_wrapping_confirms_what_is_not_confirmed_without_it(data: st.DataObject) -> None:
    """Parts and mixtures of real logs, in up to two wrappings: the same comes of them."""
    base = data.draw(
        st.sampled_from([RIGHT, plain(WRONG), FAILED, STOPPED, DEAD, CUT, woven(RIGHT, renumbered(RIGHT))])
    )
    gone = data.draw(st.sets(st.integers(0, len(base) - 1), max_size=6))
    lines = [line for index, line in enumerate(base) if index not in gone]
    wrappings = data.draw(st.lists(st.sampled_from(sorted(WRAPPINGS)), min_size=1, max_size=2))
    changed = lines
    for name in wrappings:
        changed = WRAPPINGS[name](changed)

    if result_of(lines) is not Result.CONFIRMED:
        assert result_of(changed) is not Result.CONFIRMED
    if len(wrappings) == 1:
        assert result_of(changed) is result_of(lines)


@given(st.lists(st.booleans(), min_size=20, max_size=120), st.sampled_from([0, 500]))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_mixture_of_two_servers_is_confirmed(turns: list[bool], by: int) -> None:
    """Whatever the order of their lines, with the same numbers of processes and with others."""
    first, second, mixed = list(RIGHT), renumbered(RIGHT, by), []
    for turn in turns:
        source = first if turn else second
        if source:
            mixed.append(source.pop(0))
    mixed += [*first, *second]

    assert result_of(mixed) is Result.NOT_SAID


@given(st.sampled_from(sorted(WRAPPINGS)), st.lists(st.booleans(), min_size=20, max_size=120))
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_wrapping_hides_an_engine_that_runs_otherwise(name: str, turns: list[bool]) -> None:
    """Two ranks of one server, in any order of their lines, the first or the second with the flag off."""
    for one, other in ((RIGHT, SWITCHED), (SWITCHED, RIGHT)):
        lines = ranks(one, other)
        begin = at(lines, ENGINE)
        head, tail = lines[:begin], lines[begin:]
        rank_0 = [line for line in tail if "EngineCore_DP4" not in line]
        rank_4 = [line for line in tail if "EngineCore_DP4" in line]
        mixed = []
        for turn in turns:
            source = rank_0 if turn else rank_4
            if source:
                mixed.append(source.pop(0))
        assert result_of(WRAPPINGS[name]([*head, *mixed, *rank_0, *rank_4])) is Result.DIFFERS


# ---- logs that were once misread

CONFIG = (
    "Initializing a V1 LLM engine (v0.19.1) with config: model='/srv/flag-live', speculative_config=None, "
    "tokenizer='/srv/flag-live', enforce_eager=True, compilation_config={{'mode': <CompilationMode.NONE: 0>, "
    "'cache_dir': '', 'fast_moe_cold_start': {flag}, 'static_all_moe_layers': []}}"
)


def server_lines(process: str, pid: int, *, flag: bool) -> Lines:
    """The arguments, an engine's line, and the line that says it is ready."""
    return [
        f"(APIServer pid={pid}) INFO 01-01 00:00:00 [utils.py:233] non-default args: {{'model_tag': '/srv/flag-live'}}",
        f"({process} pid={pid + 1}) INFO 01-01 00:00:01 [core.py:105] {CONFIG.format(flag=flag)}",
        f"({process} pid={pid + 1}) INFO 01-01 00:00:20 [core.py:283] {READY}, create kv cache, warmup model) took 9 s",
    ]


def facts_of(tmp_path: Path, lines: Lines, code: int) -> dict[str, Any]:
    """Each fact of the document that the command prints beside `ON`."""
    log, written = tmp_path / "server.log", tmp_path / "plan.json"
    log.write_text("\n".join(lines), encoding="utf-8")
    written.write_text(json.dumps(ON), encoding="utf-8")
    facts = tuner("confirm", log, "--decision", written, "--json", code=code).document["facts"]
    return {fact["name"]: fact for fact in facts}


def test_ranks_behind_an_actor_of_ray_are_two_engines(tmp_path: Path) -> None:
    """The actor stands in front of both, and only the last process of a line is the engine."""
    off, on = server_lines("EngineCore_DP0", 10, flag=False), server_lines("EngineCore_DP1", 20, flag=True)[1:]
    lines = [off[0], off[1], on[0], off[2], on[1]]
    actor = "(vLLMHttpServer pid=62552, ip=10.0.0.5) "
    bare, actors = (facts_of(tmp_path, [front + line for line in lines], 5) for front in ("", actor))

    assert (actors["flag"]["outcome"], actors["flag"]["line"]) == ("differs", 2)
    assert actors["flag"]["effective"] == "false (EngineCore_DP0), true (EngineCore_DP1)"
    assert {name: fact["outcome"] for name, fact in actors.items()} == {
        name: fact["outcome"] for name, fact in bare.items()
    }


def test_two_replicas_that_nothing_tells_apart_are_not_confirmed(tmp_path: Path) -> None:
    """The line that the first is ready does not count for the second."""
    first, second = server_lines("EngineCore", 100, flag=True), server_lines("EngineCore", 600, flag=True)
    facts = facts_of(tmp_path, [*first[:2], *second[:2], first[2]], 7)

    assert facts["start"]["effective"] == "ready (EngineCore of line 2), not said (EngineCore of line 4)"
    compared = facts.keys() - {"start", "cache", "graphs", "passes", "backend"}
    assert {facts[name]["outcome"] for name in compared} == {"same"}


def test_colours_that_lost_their_escape_byte_hide_nothing(tmp_path: Path) -> None:
    """As in pasted and exported logs."""
    facts = facts_of(tmp_path, coloured("")(server_lines("EngineCore", 100, flag=True)), 0)

    assert (facts["start"]["line"], facts["flag"]["line"], facts["flag"]["effective"]) == (3, 2, "true")
