"""`tuner probe --depth replay` from the command to the store.

Scripts stand in for both workers and hand back recorded answers, because a real engine takes a minute to start;
`test_replay_vllm.py` starts real ones.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from engine_bench import REFUSED, Bench
from fake_environment import INERT, MIXTRAL, SETTABLE, Answer
from replay_samples import ran_as_meant

LAYERS = [f"model.layers.{index}.block_sparse_moe.experts" for index in range(4)]


def engine(*passes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What the worker answers of an engine."""
    found = {
        "registered": LAYERS,
        "passes": list(passes) or [{**ran_as_meant(LAYERS), "graphs": 3, "entered": 0}],
        "lost": 0,
        "engine": {"mode": "VLLM_COMPILE", "cudagraph_mode": "FULL_AND_PIECEWISE", "flag": True},
        "changed": ["a thin model with random weights stands for the real one"],
        **changes,
    }
    return {"result": "ok", "replay": found}


WRONG = engine(ran_as_meant(LAYERS, ran=[LAYERS[1], *LAYERS[1:]]))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Where the flag can be set, and both engines run what is meant."""
    made = Bench(tmp_path, monkeypatch, SETTABLE)
    made.answers(on=engine(), off=engine())
    return made


def replays(answer: Answer) -> dict[str, str]:
    """Each engine's word in the document."""
    return {replay["name"]: replay["verdict"] for replay in json.loads(answer.out)["evidence"]["replays"]}


def test_both_values_of_the_flag_are_watched(bench: Bench) -> None:
    """The order is probed first, since nothing was stored; then two engines run, and the verdict rests on both."""
    answer = bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, "--", "--max-model-len", "512", code=0)
    document = json.loads(answer.out)

    assert (document["verdict"], document["evidence"]["depth"]) == ("uniform", "replay")
    assert replays(answer) == {"flag_on": "equal", "flag_off": "equal"}
    first = bench.seen()[0]
    assert first["request"]["args"][:3] == [str(MIXTRAL), "--max-model-len", "512"]
    assert first["request"]["thin"]["config"]["num_hidden_layers"] == 4
    assert "probing the order first" in answer.err


def test_the_text_names_each_engine(bench: Bench) -> None:
    """Beside the other evidence, and in a later look-up too."""
    bench.ask("probe", "--depth", "replay", MIXTRAL, code=0)
    text = bench.ask("verdict", MIXTRAL, code=0).out
    assert "flag on   equal: 40 passes, 40 of them replayed from CUDA graphs" in text
    assert "flag off  equal: 40 passes, 40 of them replayed from CUDA graphs" in text


def test_an_engine_that_runs_other_layers_takes_the_verdict_back(bench: Bench) -> None:
    """The verdict is inconclusive, and the launch falls back to the safe value."""
    bench.answers(on=WRONG, off=engine())
    answer = bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, code=3)
    document = json.loads(answer.out)
    assert document["verdict"] == "inconclusive"
    first = document["reasons"][0]
    assert (first["code"], first["fields"]) == ("replay_contradicts", {"engine": "flag_on"})
    assert first["because"]["code"] == "wrong_layer"
    assert first["because"]["fields"] | {"call": 1, "request": "one", "meant": LAYERS[0]} == first["because"]["fields"]
    assert document["launch"]["compilation_config"] == {"fast_moe_cold_start": False}


def test_where_the_flag_does_nothing_one_engine_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch as it is."""
    bench = Bench(tmp_path, monkeypatch, INERT)
    bench.answers(alone=engine())
    assert replays(bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, code=0)) == {"as_launched": "equal"}


def test_an_engine_that_does_not_start_is_kept_as_such(bench: Bench) -> None:
    """The other one's answer counts; what failed says why."""
    bench.answers(on=REFUSED, off=engine())
    answer = bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, code=0)
    assert replays(answer) == {"flag_on": "unknown", "flag_off": "equal"}
    reasons = {replay["name"]: replay["reason"]["fields"] for replay in json.loads(answer.out)["evidence"]["replays"]}
    assert reasons["flag_on"] == {"detail": "vLLM refuses this launch: ValueError: no memory"}


def test_without_any_engine_the_command_fails_and_the_verdict_stays(bench: Bench) -> None:
    """The first failure is the answer; the order's verdict is stored all the same."""
    bench.answers(on=REFUSED, off=REFUSED)
    answer = bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, code=1)
    assert json.loads(answer.out)["error"]["kind"] == "replay"
    assert "ValueError: no memory" in answer.err
    assert json.loads(bench.ask("verdict", "--json", MIXTRAL, code=0).out)["evidence"]["depth"] == "order"


@pytest.mark.parametrize(
    "damage",
    [{"passes": [{**ran_as_meant(LAYERS), "ran": LAYERS[:1]}]}, {"lost": -1}, {"passes": [{}]}, {"registered": None}],
)
def test_a_damaged_answer_is_stored_nowhere(bench: Bench, damage: dict[str, Any]) -> None:
    """It is an error, and the verdict of before stays."""
    bench.answers(on=engine(**damage), off=engine(**damage))
    bench.ask("probe", "--depth", "replay", MIXTRAL, code=1)
    assert json.loads(bench.ask("verdict", "--json", MIXTRAL, code=0).out)["evidence"]["depth"] == "order"


def test_engines_get_no_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does the process that imports vLLM for them."""
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    bench.ask("probe", "--depth", "replay", MIXTRAL, code=0)
    assert ["VLLM_API_KEY" in one["env"] for one in bench.seen()] == [False]


def test_a_worker_that_dies_costs_one_engine(bench: Bench) -> None:
    """The one that was under way; the other is asked of a process of its own."""
    bench.answers(on="dies", off=engine())
    answer = bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, code=0)
    assert replays(answer) == {"flag_on": "unknown", "flag_off": "equal"}
    reasons = {replay["name"]: replay["reason"]["fields"] for replay in json.loads(answer.out)["evidence"]["replays"]}
    assert reasons["flag_on"] == {"detail": "The process that runs vLLM ended early (exit code 7)."}
    assert [[one["flag"] for one in seen["request"]["engines"]] for seen in bench.seen()] == [[True, False], [False]]


def test_an_engine_that_crashes_costs_itself_alone(bench: Bench) -> None:
    """The worker that forked it says how it ended, and goes on."""
    bench.answers(on={"result": "ended", "how": "killed by SIGSEGV"}, off=engine())
    answer = bench.ask("probe", "--depth", "replay", "--json", MIXTRAL, code=0)
    assert replays(answer) == {"flag_on": "unknown", "flag_off": "equal"}
    reasons = {replay["name"]: replay["reason"]["fields"] for replay in json.loads(answer.out)["evidence"]["replays"]}
    assert reasons["flag_on"] == {"detail": "The engine's process ended early (killed by SIGSEGV)."}
    assert len(bench.seen()) == 1


def test_weights_that_are_here_are_used(bench: Bench, tmp_path: Path) -> None:
    """A folder with weights is served as it is."""
    folder = tmp_path / "whole"
    folder.mkdir()
    (folder / "config.json").write_bytes((MIXTRAL / "config.json").read_bytes())
    (folder / "model.safetensors").touch()
    bench.ask("probe", "--depth", "replay", folder, code=0)
    assert bench.seen()[0]["request"]["thin"] is None


def test_engines_have_all_layers_where_the_order_probe_needed_them(bench: Bench) -> None:
    """Code that asks for layers by number may do otherwise at one that a cut model lacks."""
    file = bench.folder / "report.json"
    report = json.loads(file.read_text(encoding="utf-8"))
    report["assumptions"] = [one for one in report["assumptions"] if one["kind"] != "layers_shrunk"]
    file.write_text(json.dumps(report), encoding="utf-8")
    bench.ask("probe", "--depth", "replay", MIXTRAL, code=0)
    assert bench.seen()[0]["request"]["thin"]["config"]["num_hidden_layers"] == 32


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "No MODEL is named"),
        ([MIXTRAL, MIXTRAL], "is a second"),
        (["--all"], "neither --all nor what narrows it"),
        ([MIXTRAL, "--match", "Q*"], "neither --all nor what narrows it"),
    ],
)
def test_it_takes_one_model(bench: Bench, args: list[object], said: str) -> None:
    """An engine is one launch."""
    assert said in bench.ask("probe", "--depth", "replay", *args, code=2).err
