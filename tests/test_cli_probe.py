"""`tuner probe` from the command to the store, and `tuner serve --on-missing probe`.

A script stands in for the worker and hands back recorded reports of real probes, because a real one takes half a minute
to start; `test_probe_vllm.py` starts real ones.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, QWEN, SETTABLE, Answer, Serving, sample, serving_in, tuner
from proof_stand_in import write_stand_in

from tuner.engines import question
from tuner.probe import runner

STAND_IN = """
import json, sys
from pathlib import Path

control, reports = Path(sys.argv[1]), json.loads(Path({reports!r}).read_text())
(control / "draft").write_text('{{"result": "ok"}}')
(control / "draft").rename(control / "environment.json")
for job in json.loads((control / "request.json").read_text())["models"]:
    draft = control / "draft"
    draft.write_text(json.dumps(reports[job["config"]["architectures"][0]]))
    draft.rename(control / f"report-{{job['index']}}.json")
"""
Reports = Mapping[str, Mapping[str, Any]]


class Bench:
    """An environment and a store, and a worker that hands back reports by architecture."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.serving: Serving = serving_in(folder / "env", SETTABLE)
        self.store = folder / "verdicts.sqlite"
        self.reports = folder / "reports.json"
        worker = folder / "moe_probe_worker"
        worker.write_text(STAND_IN.format(reports=str(self.reports)))
        monkeypatch.setattr(runner, "WORKER", worker)
        write_stand_in(folder / "launch_worker", self.reports)
        monkeypatch.setattr(question, "WORKER", folder / "launch_worker")

    def hand_back(self, *reports: Mapping[str, Any]) -> None:
        """What the worker will answer: each report for its own architecture."""
        whole = [self.serving.probed_here(report) if "sources" in report else report for report in reports]
        self.reports.write_text(json.dumps({str(one["architecture"]): one for one in whole}))

    def ask(self, command: str, *args: object, code: int) -> Answer:
        """Run a command here."""
        return tuner(command, "--python", self.serving.python, "--store", self.store, *args, code=code)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Where Mixtral, ERNIE and Llama can be probed."""
    made = Bench(tmp_path, monkeypatch)
    made.hand_back(*(sample(model, "flag-live") for model in (MIXTRAL, ERNIE, LLAMA)))
    return made


def failed(architecture: str) -> dict[str, str]:
    """What the worker says of a model that could not be built."""
    said = "NotImplementedError: no kernel"
    return {"architecture": architecture, "result": "failed", "kind": "kernel_missing", "message": said, "where": "x:1"}


def inconclusive(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report of a probe that saw MoE calls through the counter alone, which hides the order."""
    return {**report, "observation_method": "counted"}


def test_verdicts_are_shown_and_stored(bench: Bench) -> None:
    """A table with one line a model, the witness above it, and an exit code that says that all were judged."""
    answer = bench.ask("probe", MIXTRAL, ERNIE, LLAMA, code=0)
    lines = answer.out.splitlines()
    table = lines[-4:]
    assert table[0].split() == ["MODEL", "VERDICT", "MOE", "LAYERS", "SECONDS", "NOTE"]
    assert [line.split()[:3] for line in table[1:]] == [
        [str(MIXTRAL), "uniform", "4"],
        [str(ERNIE), "conditional", "6"],
        [str(LLAMA), "no_moe", "0"],
    ]
    assert lines[0] == str(ERNIE)
    assert "<- differs" in answer.out
    for model, value in (
        (MIXTRAL, {"fast_moe_cold_start": True}),
        (ERNIE, {"fast_moe_cold_start": False}),
        (LLAMA, {}),
    ):
        assert bench.ask("plan", "--json", model, code=0).document["launch"]["compilation_config"] == value


def test_progress_goes_to_stderr(bench: Bench) -> None:
    """Plain lines where there is no terminal: what is under way, and how many are left."""
    said = bench.ask("probe", "--json", MIXTRAL, LLAMA, code=0).err.splitlines()
    assert "starting vLLM in the serving environment" in said[0]
    assert said[1].endswith(f"probing {MIXTRAL} (1 of 2)")
    assert said[2].endswith(f"probing {LLAMA} (2 of 2)")


def test_one_model_is_one_document(bench: Bench) -> None:
    """The document that a look-up then gives."""
    probed = bench.ask("probe", "--json", ERNIE, code=0).document
    assert probed == bench.ask("verdict", "--json", ERNIE, code=0).document
    assert probed["verdict"] == "conditional"


def test_several_models_are_results_in_the_order_given(bench: Bench, tmp_path: Path) -> None:
    """Those that failed early stand where they were named, too."""
    answer = bench.ask("probe", "--json", LLAMA, tmp_path / "none", MIXTRAL, code=1)
    assert set(answer.document) == {"schema_version", "results"}
    found = [(result["model"]["name"], result.get("verdict", "error")) for result in answer.document["results"]]
    assert found == [(str(LLAMA), "no_moe"), (str(tmp_path / "none"), "error"), (str(MIXTRAL), "uniform")]


def test_options_of_the_model_reach_the_launch(bench: Bench) -> None:
    """The launch of a probe's document is the look-up's, the way to build the model included."""
    options = ("--model-impl", "vllm", "--trust-remote-code")
    probed = bench.ask("probe", "--json", *options, MIXTRAL, code=0).document
    assert probed["launch"]["args"][:4] == [str(MIXTRAL), *options]
    assert probed == bench.ask("verdict", "--json", *options, MIXTRAL, code=0).document


def test_an_inconclusive_verdict_ends_with_3(bench: Bench) -> None:
    """It is stored with its reasons, and the launch stays safe."""
    bench.hand_back(inconclusive(sample(MIXTRAL, "flag-live")), sample(LLAMA, "flag-live"))
    results = bench.ask("probe", "--json", LLAMA, MIXTRAL, code=3).document["results"]
    assert [result["verdict"] for result in results] == ["no_moe", "inconclusive"]
    assert results[1]["launch"]["compilation_config"] == {"fast_moe_cold_start": False}
    assert bench.ask("verdict", "--json", MIXTRAL, code=3).document["verdict"] == "inconclusive"


def test_a_failure_ends_with_1_and_keeps_the_rest(bench: Bench) -> None:
    """The sentence names the model, and what was stored for it before stays."""
    bench.ask("probe", MIXTRAL, code=0)
    bench.hand_back(failed("MixtralForCausalLM"), sample(LLAMA, "flag-live"))
    answer = bench.ask("probe", "--json", "--force", MIXTRAL, LLAMA, code=1)
    assert answer.document["results"][0]["error"]["kind"] == "kernel_missing"
    assert f"tuner: {MIXTRAL}: NotImplementedError: no kernel\n  This vLLM has no kernel for it" in answer.err
    assert bench.ask("verdict", "--json", MIXTRAL, code=0).document["verdict"] == "uniform"
    assert bench.ask("verdict", "--json", LLAMA, code=0).document["verdict"] == "no_moe"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("vllm", "0.18.0", "The environment's files say vLLM 0.19.1, but the probe ran vLLM 0.18.0"),
        ("torch", "2.11.0", "The environment's files say torch 2.10.0, but the probe ran torch 2.11.0"),
        ("device", "cuda", "The environment's files say device cpu, but the probe ran device cuda"),
    ],
)
def test_a_probe_of_another_environment_is_not_stored(bench: Bench, name: str, value: str, said: str) -> None:
    """A verdict would be kept under a key that it was not reached for."""
    report = sample(MIXTRAL, "flag-live")
    bench.hand_back({**report, "environment": {**report["environment"], name: value}})
    answer = bench.ask("probe", "--json", MIXTRAL, code=1)
    assert answer.document["error"]["kind"] == "environment"
    assert said in answer.err
    bench.ask("verdict", MIXTRAL, code=3)


def test_a_damaged_report_is_not_stored(bench: Bench) -> None:
    """The sentence names the field."""
    report = sample(MIXTRAL, "flag-live")
    bench.hand_back({**report, "registered": "all"})
    answer = bench.ask("probe", "--json", MIXTRAL, code=1)
    assert answer.document["error"]["kind"] == "report"
    assert "damaged at registered" in answer.err
    bench.ask("verdict", MIXTRAL, code=3)


def test_an_environment_at_fault_is_said_once(bench: Bench) -> None:
    """Every model has its document, and stderr one sentence that names none of them."""
    bench.serving.python.unlink()
    bench.serving.python.write_bytes(b"\x7fELF and nothing else")
    bench.serving.python.chmod(0o755)
    answer = bench.ask("probe", "--json", MIXTRAL, LLAMA, code=1)
    assert [result["error"]["kind"] for result in answer.document["results"]] == ["environment"] * 2
    (sentence,) = [line for line in answer.err.splitlines() if line.startswith("tuner: ")]
    assert sentence == f"tuner: {bench.serving.python} does not start: Exec format error."


@pytest.mark.parametrize("seconds", ["0", "-1", "soon"])
def test_a_time_limit_is_a_number_of_seconds(bench: Bench, seconds: str) -> None:
    """Nothing is started with a limit that nothing can meet."""
    assert bench.ask("probe", "--time-limit", seconds, MIXTRAL, code=2).out == ""


@pytest.mark.parametrize(("model", "value"), [(MIXTRAL, "true"), (ERNIE, "false")])
def test_a_server_can_have_its_model_probed_first(bench: Bench, model: Path, value: str) -> None:
    """`--on-missing probe` probes once, remembers, and starts with the decision."""
    dry = ("--dry-run", "--on-missing", "probe", model)
    first = bench.ask("serve", *dry, code=0)
    assert f'{{"fast_moe_cold_start": {value}}}' in first.out
    assert "probing first" in first.err
    again = bench.ask("serve", *dry, code=0)
    assert again.out == first.out
    assert "probing first" not in again.err


def test_a_probe_that_fails_stops_the_server_that_asked_for_it(bench: Bench) -> None:
    """The operator wanted to know first; the reason is said, and nothing is started."""
    bench.hand_back(failed("Qwen3MoeForCausalLM"))
    answer = bench.ask("serve", "--dry-run", "--on-missing", "probe", QWEN, code=1)
    assert answer.out == ""
    assert "no kernel" in answer.err


def names(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """The models of several documents."""
    return [document["model"]["name"] for document in documents]


def test_a_model_named_twice_is_probed_twice(bench: Bench) -> None:
    """Harmless, and every argument has its result."""
    results = bench.ask("probe", "--json", LLAMA, LLAMA, code=0).document["results"]
    assert names(results) == [str(LLAMA)] * 2


EATER = """
import sys, time
from pathlib import Path
Path(sys.argv[1], "draft").write_text('{"result": "ok"}')
Path(sys.argv[1], "draft").rename(Path(sys.argv[1], "environment.json"))
held = bytearray(b"x") * (600 << 20)
time.sleep(60)
"""


def test_a_probe_that_takes_too_much_memory_is_no_verdict(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The option sets the limit for a worker, and the sentence names both; nothing is stored."""
    (tmp_path / "eater").write_text(EATER)
    monkeypatch.setattr(runner, "WORKER", tmp_path / "eater")
    answer = bench.ask("probe", "--json", "--memory-limit", "0.3", MIXTRAL, code=1)
    assert answer.document["error"]["kind"] == "memory"
    assert "its limit is 0.3 GiB" in answer.err
    assert "--memory-limit" in answer.err
    assert not bench.store.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"environment": None},
        {"environment": ["vllm"]},
        {"environment": {"vllm": 7}},
        {"registered": "all"},
        {"scenarios": []},
        {"sources": {}},
        {"flag": {"field": "\ud800"}},
    ],
    ids=repr,
)
def test_a_damaged_report_is_no_verdict(bench: Bench, changes: Mapping[str, Any]) -> None:
    """Whatever is wrong in it: one sentence, nothing stored."""
    report = {**sample(MIXTRAL, "flag-live"), **changes}
    bench.reports.write_text(json.dumps({report["architecture"]: report}))
    answer = bench.ask("probe", "--json", MIXTRAL, code=1)
    assert answer.document["error"]["kind"] in {"report", "environment"}
    assert bench.ask("verdict", "--json", MIXTRAL, code=3).document["verdict"] is None


def test_several_models_go_on_where_they_were_stopped(bench: Bench) -> None:
    """What has a verdict is not run again, but shown; --force runs it, and what proves nothing is run again anyway."""
    bench.hand_back(inconclusive(sample(MIXTRAL, "flag-live")), sample(LLAMA, "flag-live"))
    bench.ask("probe", MIXTRAL, LLAMA, code=3)
    bench.hand_back(*(sample(model, "flag-live") for model in (MIXTRAL, ERNIE)))
    again = bench.ask("probe", "--json", LLAMA, ERNIE, MIXTRAL, code=0)
    assert names(again.document["results"]) == [str(LLAMA), str(ERNIE), str(MIXTRAL)]
    assert [result["verdict"] for result in again.document["results"]] == ["no_moe", "conditional", "uniform"]
    assert "1 of 3 models have a stored verdict; --force probes them again" in again.err
    assert f"probing {LLAMA}" not in again.err
    bench.hand_back(*(sample(model, "flag-live") for model in (MIXTRAL, LLAMA)))
    assert f"probing {LLAMA}" in bench.ask("probe", "--force", LLAMA, MIXTRAL, code=0).err


def test_a_probe_that_is_stopped_says_what_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exit code of a command that was stopped."""

    def stopped(*_: object) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("tuner.cli.probe.probe_models", stopped)
    answer = bench.ask("probe", MIXTRAL, LLAMA, code=130)
    assert "tuner: what was reached is stored; the same command goes on from there\n" in answer.err


def test_a_quiet_probe_says_results_and_errors_alone(bench: Bench) -> None:
    """Neither progress nor notes; the next command is as loud as before."""
    at = ("--python", bench.serving.python, "--store", bench.store)
    quiet = tuner("-q", "probe", *at, MIXTRAL, LLAMA, code=0)
    assert (quiet.err, "uniform" in quiet.out) == ("", True)
    assert "have a stored verdict" in tuner("probe", *at, MIXTRAL, LLAMA, code=0).err
    bench.hand_back(failed("MixtralForCausalLM"))
    assert "NotImplementedError: no kernel" in tuner("--quiet", "probe", *at, MIXTRAL, code=1).err
