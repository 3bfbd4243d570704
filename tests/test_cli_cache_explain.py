"""`tuner cache explain`: the launch's keys, the folders that are there, and the warm-up it is compared with.

A script stands in for the worker (`explain_bench.py`).
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from explain_bench import Bench
from factors_samples import changed, key_of
from fake_environment import MIXTRAL

from rules.errors import TunerError
from tuner.compile_cache import factors
from tuner.compile_cache.factors import launch_factors
from tuner.engines import question


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench with vLLM's own backend and an empty cache."""
    return Bench(tmp_path, monkeypatch)


def test_an_empty_cache_is_a_miss(bench: Bench) -> None:
    """The key is printed, and that there was nothing to compare with."""
    said = bench.ask(code=6).out.splitlines()
    assert said[0] == "cache: miss"
    assert f"key: {key_of(bench.document)} model (Qwen3MoeModel.forward)" in said
    assert said[-1] == "compared with: nothing, no warm-up of this model is on record here"


def test_an_artifact_is_a_hit(bench: Bench) -> None:
    """It ends with 0, without a record too."""
    bench.artifact()
    assert bench.ask(code=0).out.startswith("cache: hit\n")


def test_a_folder_without_an_artifact_is_a_miss(bench: Bench) -> None:
    """0.32.0 makes the key's folder before it compiles anything."""
    bench.artifact()
    for file in bench.root.rglob("model"):
        file.unlink()
    bench.ask(code=6)


def test_the_factor_that_differs_is_named_with_its_fix(bench: Bench) -> None:
    """As text and as JSON; the warm-up is told by its digest."""
    bench.record()
    bench.will_say(changed(bench.document, 128, "config", "parts", "model_config", "factors", "max_model_len"))
    output = bench.ask(code=6).out
    assert "compared with: aaaaaaaaaaaa of 2026-11-20T10:00:00Z" in output
    assert "  moves the key: config model_config.max_model_len: 256 -> 128\n    Give --max-model-len" in output
    document = bench.ask("--json", code=6).document
    (found,) = document["differences"]
    assert (found["name"], found["effect"], found["before"]) == ("model_config.max_model_len", "key", 256)
    assert (document["schema_version"], document["answer"]) == (1, "miss")
    assert document["factors"] == bench.document


def test_many_differences_are_cut_in_text_alone(bench: Bench) -> None:
    """The JSON document holds all."""
    bench.record()
    bench.will_say(changed(bench.document, {f"vllm/{n}.py": "0" for n in range(30)}, "sources"))
    assert "more; --json shows all" in bench.ask(code=6).out
    assert len(bench.ask("--json", code=6).document["differences"]) > 30


def test_the_newest_record_of_the_model_comes_first(bench: Bench) -> None:
    """Then one of its architecture; others and those without factors do not count."""
    bench.record(digest="b" * 64, made_at="2026-11-23", architecture="Other", model="other")
    bench.record(digest="c" * 64, made_at="2026-11-22", factors={})
    assert bench.ask("--json", code=6).document["against"] is None
    bench.record(digest="d" * 64, made_at="2026-11-21", model="elsewhere")
    assert bench.ask("--json", code=6).document["against"]["digest"] == "d" * 64
    bench.record(digest="e" * 64, made_at="2026-11-20")
    assert bench.ask("--json", code=6).document["against"]["digest"] == "e" * 64


def test_a_record_can_be_named(bench: Bench) -> None:
    """By the start of its digest, or its model; one that is not there is told before a minute was spent."""
    bench.record(digest="b" * 64, model="other", architecture="Other")
    assert bench.ask("--against", "bbbb", "--json", code=6).document["against"]["digest"] == "b" * 64
    assert bench.ask("--against", "other", "--json", code=6).document["against"]["digest"] == "b" * 64
    (bench.folder / "seen.json").unlink()
    assert "No records with factors are called 'cc'" in bench.ask("--against", "cc", code=1).err
    assert not (bench.folder / "seen.json").exists()


def test_a_damaged_record_is_told(bench: Bench) -> None:
    """One sentence, and no traceback."""
    bench.record(factors=changed(bench.document, {}, "config"))
    assert "The factors in the record aaaaaaaaaaaa are damaged." in bench.ask(code=1).err


def test_a_warm_up_that_could_not_load_is_believed(bench: Bench) -> None:
    """The same launch with the artifacts there: what its second start saw decides."""
    bench.artifact()
    bench.record(hit=False)
    miss = bench.ask(code=6)
    assert "the warm-up could not load them" in miss.out
    assert "asking vLLM for the keys of this launch (20 s to a minute)" in miss.err
    bench.record(hit=True)
    bench.ask(code=0)


def test_the_worker_is_given_the_planned_launch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments and variables of `tuner plan`, secrets included, but a cache root of its own."""
    monkeypatch.setenv("HOME", "/home/somebody")
    bench.ask("--", "--max-model-len", "128", code=6, env={"VLLM_API_KEY": "k", "TUNER_STORE": "x"})
    seen = bench.seen()
    assert seen["request"]["args"][:3] == [str(MIXTRAL), "--max-model-len", "128"]
    assert (seen["env"]["HOME"], seen["env"]["VLLM_API_KEY"]) == ("/home/somebody", "k")
    assert seen["env"]["VLLM_CACHE_ROOT"] != str(bench.root)
    assert seen["cwd"] == []
    assert list(bench.root.iterdir()) == []


def test_a_launch_that_vllm_refuses_is_told(bench: Bench) -> None:
    """In vLLM's words, with the place; with --json as a document, too."""
    bench.answers({"result": "failed", "message": "ValueError: no such model", "where": "config.py:3"})
    answer = bench.ask("--json", code=1)
    assert "vLLM refuses this launch: ValueError: no such model" in answer.err
    assert answer.document["error"]["kind"] == "factors"


def test_a_worker_that_dies_leaves_its_last_words(bench: Bench) -> None:
    """The end of its log is quoted."""
    bench.answers(None)
    errors = bench.ask(code=1).err
    assert "ended early (exit code 7)" in errors
    assert "the last words" in errors


def test_a_worker_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After a fixed time, which the sentence names; the process is gone."""
    worker = tmp_path / "worker.py"
    worker.write_text("import time; time.sleep(60)", encoding="utf-8")
    monkeypatch.setattr(question, "WORKER", worker)
    monkeypatch.setattr(factors, "LIMIT", 0.5)
    with pytest.raises(TunerError, match="did not answer within 0 s"):
        launch_factors(sys.executable, ["m"], dict(os.environ))


def test_the_worker_gets_the_launchs_variables_without_secrets(bench: Bench) -> None:
    """But for VLLM_API_KEY, which vLLM hashes through 0.28.0; the worker names it by a digest."""
    given = {"HF_TOKEN": "x", "AWS_PROFILE": "x", "MY_PASSWORD": "x", "VLLM_API_KEY": "kept", "VLLM_USE_V1": "1"}
    launch_factors(sys.executable, ["m"], os.environ | given)
    seen = json.loads((bench.folder / "seen.json").read_text())["env"]
    assert given.keys() & seen.keys() == {"VLLM_API_KEY", "VLLM_USE_V1"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({}, "missing required field `result`"),
        ({"result": "failed"}, "missing required field `message`"),
        ({"result": "ok"}, "Expected `object`, got `null`"),
        ({"result": "ok", "factors": {"keys": {}}}, "its factors are not whole"),
        ({"result": "ok", "factors": []}, "Expected `object`, got `array`"),
    ],
)
def test_an_answer_that_is_none_is_named(bench: Bench, answer: Mapping[str, Any], said: str) -> None:
    """Nothing is concluded from it."""
    bench.answers(answer)
    with pytest.raises(TunerError, match=said) as raised:
        launch_factors(sys.executable, ["m"], dict(os.environ))
    assert raised.value.kind == "report"


EATER = """
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)]
open(sys.argv[0] + ".child", "w").write(str(children[0].pid))
held = bytearray(b"x") * (600 << 20)
time.sleep(60)
"""


def test_a_worker_that_eats_memory_is_stopped_with_its_children(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a probe's; the limit is the default's."""
    worker = tmp_path / "worker.py"
    worker.write_text(EATER, encoding="utf-8")
    monkeypatch.setattr(question, "WORKER", worker)
    monkeypatch.setattr("tuner.processes.worker_process.default_memory", lambda: 300 << 20)
    with pytest.raises(TunerError, match=r"its limit is 0\.3 GiB") as raised:
        launch_factors(sys.executable, ["m"], dict(os.environ))
    assert raised.value.kind == "memory"
    child = (tmp_path / "worker.py.child").read_text()
    stat = Path(f"/proc/{child}/stat")
    assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"  # nobody may collect an orphan
