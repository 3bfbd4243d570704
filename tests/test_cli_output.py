"""`tuner probe --depth output` from the command to the store.

Scripts stand in for both workers, as in `test_cli_replay.py`; `test_output_vllm.py` starts real engines.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from engine_bench import REFUSED, Bench
from fake_environment import INERT, MIXTRAL, ROOT, SETTABLE, Answer
from manifest_schemas import closed, complaints
from output_samples import output, prompt

FLAG = "flag_on_against_flag_off"


def engine(by: float = 0.0, **changes: Any) -> dict[str, Any]:
    """What the worker answers of an engine, `by` nats below another; whatever was asked, the flag is on in it."""
    found = output("flag_on", by)
    return {"result": "ok", "output": {**{name: found[name] for name in ("prompts", "engine", "changed")}, **changes}}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Where the flag can be set, and all engines answer alike."""
    made = Bench(tmp_path, monkeypatch, SETTABLE)
    made.answers(eager=engine(), on=engine(), off=engine())
    return made


def words(answer: Answer) -> dict[str, str]:
    """Each comparison's word in the document."""
    return {one["name"]: one["verdict"] for one in answer.document["evidence"]["outputs"]["compared"]}


def test_four_engines_are_asked_the_same(bench: Bench) -> None:
    """The eager one twice with the flag off, and the launch with both values; the verdict rests on all."""
    answer = bench.ask("probe", "--depth", "output", "--json", MIXTRAL, "--", "--max-model-len", "512", code=0)

    assert (answer.document["verdict"], answer.document["evidence"]["depth"]) == ("uniform", "output")
    assert words(answer) == {FLAG: "same", "flag_on_against_eager": "same", "flag_off_against_eager": "same"}
    [asked] = [one["request"] for one in bench.seen()]
    assert [(one["eager"], one["flag"]) for one in asked["engines"]] == [
        (True, False),
        (True, False),
        (False, True),
        (False, False),
    ]
    assert asked["question"] == "output"
    assert asked["args"][:3] == [str(MIXTRAL), "--max-model-len", "512"]
    assert "probing the order first" in answer.err
    schema = json.loads((ROOT / "docs" / "schema" / "launch-2.json").read_text(encoding="utf-8"))
    assert not complaints(answer.document, closed(schema))


def test_the_text_has_a_row_for_each_comparison(bench: Bench) -> None:
    """In a later look-up, too."""
    bench.answers(eager=engine(), on=engine(0.01), off=engine(0.01))
    bench.ask("probe", "--depth", "output", MIXTRAL, code=0)
    text = bench.ask("verdict", MIXTRAL, code=0).out
    assert "flag on against flag off  same: 0.0000 nats, 0.0000 on added tokens, 0.0000 on those decoded alone" in text
    assert "flag on against eager     same: 0.0100 nats" in text


def test_a_flag_that_moves_the_answers_takes_the_verdict_back(bench: Bench) -> None:
    """The verdict is inconclusive, and the launch falls back to the safe value."""
    bench.answers(eager=engine(), on=engine(2.0), off=engine())
    answer = bench.ask("probe", "--depth", "output", "--json", MIXTRAL, code=3)
    assert (answer.document["verdict"], words(answer)[FLAG]) == ("inconclusive", "moved")
    assert answer.document["reasons"][0]["code"] == "output_contradicts"
    assert answer.document["launch"]["compilation_config"] == {"fast_moe_cold_start": False}


def test_where_the_flag_does_nothing_the_launch_is_held_against_eager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three engines; one that moved is a finding and changes no verdict."""
    bench = Bench(tmp_path, monkeypatch, INERT)
    bench.answers(eager=engine(), alone=engine(0.4))
    answer = bench.ask("probe", "--depth", "output", "--json", MIXTRAL, code=0)
    assert (answer.document["verdict"], words(answer)) == ("uniform", {"as_launched_against_eager": "moved"})


def test_a_failure_costs_its_own_engine(bench: Bench) -> None:
    """Without a second eager engine nothing is compared, and each comparison says why."""
    bench.answers(eager=[engine(), REFUSED], on=engine(), off=engine())
    answer = bench.ask("probe", "--depth", "output", "--json", MIXTRAL, code=0)
    assert set(words(answer).values()) == {"unknown"}
    engines = {one["name"]: one["status"] for one in answer.document["evidence"]["outputs"]["engines"]}
    assert engines == {"eager": "ran", "eager_again": "failed", "flag_on": "ran", "flag_off": "ran"}
    assert answer.document["evidence"]["depth"] == "order"


def test_without_any_engine_the_command_fails(bench: Bench) -> None:
    """The first failure is the answer; the order's verdict is stored all the same."""
    bench.answers(eager=REFUSED, on=REFUSED, off=REFUSED)
    answer = bench.ask("probe", "--depth", "output", "--json", MIXTRAL, code=1)
    assert answer.document["error"]["kind"] == "output"
    assert bench.ask("verdict", "--json", MIXTRAL, code=0).document["evidence"]["outputs"] is None


@pytest.mark.parametrize(
    "damage",
    [
        {"prompts": [{}]},
        {"prompts": None},
        {"prompts": [prompt(f"tokens_{number}") for number in range(33)]},
        {"prompts": [prompt(given=[-1.0] * 257)]},
        {"prompts": [prompt(tokens=["five"], made=[-1.0])]},
    ],
)
def test_a_damaged_answer_is_stored_nowhere(bench: Bench, damage: dict[str, Any]) -> None:
    """One of another shape or size is an error, and the verdict of before stays."""
    wrong = engine(**damage)
    bench.answers(eager=wrong, on=wrong, off=wrong)
    bench.ask("probe", "--depth", "output", MIXTRAL, code=1)
    assert bench.ask("verdict", "--json", MIXTRAL, code=0).document["evidence"]["depth"] == "order"


def test_both_depths_stand_side_by_side(bench: Bench) -> None:
    """A probe of outputs keeps what an earlier one of replays showed, and says no less deep."""
    bench.answers(eager=engine(), on=engine(), off=engine())
    bench.ask("probe", "--depth", "output", MIXTRAL, code=0)
    layer = "model.layers.0.block_sparse_moe.experts"
    shown = {"request": "one", "called": [layer], "ran": [layer], "tokens": 8, "count": 3, "replayed": False}
    run = {"registered": [layer], "passes": [{**shown, "ambiguous": False}], "lost": 0, "engine": {}, "changed": []}
    bench.answers(on={"result": "ok", "replay": run}, off={"result": "ok", "replay": run})
    evidence = bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, code=0).document["evidence"]
    assert evidence["depth"] == "replay"
    assert evidence["outputs"]["compared"][0]["verdict"] == "same"


def test_it_takes_one_model(bench: Bench) -> None:
    """As the replay probe does, in its own name."""
    assert "--depth output takes one MODEL" in bench.ask("probe", "--depth", "output", "--all", code=2).err
