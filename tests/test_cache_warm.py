"""`tuner cache warm`: two starts, an entry that is there whole or not at all, and a record that says what was seen."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factors_samples import NEW, factors
from fake_environment import MIXTRAL, OURS, ROOT, Answer, Serving, model_like, tuner, tuner_process
from warm_server import CLIENTS, ENTRY, starts, with_warm_server

from cache.compiled.publish import WARMING
from cache.compiled.warm_record import read_records

Warm = Callable[..., Answer]


@pytest.fixture
def serving(serving: Serving) -> Serving:
    """It has a stand-in for `vllm`."""
    return with_warm_server(serving)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache root that is not there yet."""
    return tmp_path / "caches" / "root"


@pytest.fixture
def warm(serving: Serving, root: Path, tmp_path: Path) -> Warm:
    """Runs the command for Mixtral; `mode` says what the stand-in does."""

    def run(*args: object, mode: str = "hit", code: int = 0, model: Path = MIXTRAL, **env: str) -> Answer:
        ours = ("--python", serving.python, "--store", tmp_path / "verdicts.sqlite", "--cache-root", root)
        return tuner_process("cache", "warm", model, *ours, *args, env={"STAND_IN": mode, **env}, code=code)

    return run


def test_a_second_start_that_hits_ends_with_0(warm: Warm, serving: Serving, root: Path) -> None:
    """The first start compiles where nobody looks, the second one reads what was put in place."""
    document = warm("--json").document
    first, second = starts(serving)
    assert Path(first["env"]["VLLM_CACHE_ROOT"]).parent == root
    assert Path(first["env"]["VLLM_CACHE_ROOT"]).name.startswith(WARMING)
    assert second["env"]["VLLM_CACHE_ROOT"] == str(root)
    assert (document["hit"], document["proof"]) == (True, "1 loaded, 0 compiled")
    assert document["entries"] == [ENTRY]
    assert document["cold_seconds"] > 0 < document["warm_seconds"]
    assert (root / ENTRY / "rank_0_0" / "model").read_text() == "compiled"
    assert (root / "modelinfos" / "one.json").exists()
    assert not list(root.glob(f"{WARMING}*"))


def test_it_is_the_launch_of_the_plan(warm: Warm, serving: Serving, tmp_path: Path) -> None:
    """Same arguments, on this machine alone, with stand-ins for what the folder lacks, which no key counts."""
    serving.remember(tmp_path / "verdicts.sqlite", MIXTRAL)
    warm("--", "--max-model-len", "4096", "--port", "80")
    for start in starts(serving):
        args = start["args"]
        assert args[:4] == ["serve", str(MIXTRAL), "--max-model-len", "4096"]
        assert json.loads(args[args.index("--compilation-config") + 1]) == {"fast_moe_cold_start": True}
        assert args[-4:-1] == ["--host", "127.0.0.1", "--port"]
        assert {"--load-format", "dummy", "--skip-tokenizer-init"} <= set(args)


def test_real_weights_are_used_where_they_are(warm: Warm, serving: Serving, tmp_path: Path) -> None:
    """Then nothing stands in for them."""
    model = model_like(MIXTRAL, tmp_path / "whole")
    (model / "model.safetensors").write_bytes(b"")
    (model / "tokenizer.json").write_text("{}")
    warm(model=model)
    assert not {"--load-format", "--skip-tokenizer-init"} & set(starts(serving)[0]["args"])


def test_the_record_is_listed(warm: Warm, root: Path) -> None:
    """What was measured can be read back, and `tuner cache list` shows the launch."""
    warm()
    (record,), damaged = read_records(root)
    assert (record.model, record.vllm, record.hit, damaged) == (str(MIXTRAL), "0.19.1", True, [])
    listed = tuner_process("cache", "list", "--cache-root", root, code=0).out
    assert record.digest[:12] in listed
    assert "0.19.1" in listed


def test_an_entry_that_vllm_cannot_load_ends_with_6(warm: Warm) -> None:
    """Its own words say why."""
    answer = warm(mode="unloadable", code=6)
    assert "miss (0 loaded, 1 compiled)" in answer.out
    assert "compiled again: this cache does not help" in answer.err
    assert "finalize_loading" in answer.err


def test_what_vllm_cannot_load_is_said_before_the_first_start(
    serving: Serving, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The factors of the launch tell; the warm-up goes on, because the next release may load it."""
    monkeypatch.setattr("tuner.compile_cache.warm.launch_factors", lambda *_: factors(NEW))
    monkeypatch.setenv("STAND_IN", "unloadable")
    ours = ("--python", serving.python, "--store", tmp_path / "verdicts.sqlite", "--cache-root", root)
    lines = tuner("cache", "warm", MIXTRAL, *ours, code=6).err.splitlines()
    said = next(number for number, line in enumerate(lines) if "the second start will compile again" in line)
    assert "mode 2 with the backend inductor" in lines[said]
    assert said < next(number for number, line in enumerate(lines) if "first start" in line)


def test_a_log_that_says_nothing_ends_with_7(warm: Warm) -> None:
    """A launch that compiles nothing has no cache, and nothing is claimed of it."""
    document = warm("--json", mode="silent", code=7).document
    assert (document["hit"], document["proof"], document["entries"]) == (None, "", [])


def test_a_server_that_ends_is_an_error_with_its_log(warm: Warm, root: Path) -> None:
    """What it said last, and nothing in the cache."""
    answer = warm(mode="dies", code=1)
    assert "ended before it was ready (exit code 1)" in answer.err
    assert "ValueError: no such model" in answer.err
    assert not (root / ENTRY).exists()


def test_a_server_that_is_never_ready_is_stopped(warm: Warm, serving: Serving) -> None:
    """At the time limit, with all its processes."""
    assert "not ready in time" in warm("--time-limit", 2, mode="never", code=1).err
    assert not Path(f"/proc/{starts(serving)[0]['pid']}").exists()


def test_no_api_key_reaches_the_cache(warm: Warm, serving: Serving, root: Path) -> None:
    """Up to 0.28 vLLM counts it and writes it out; the user is told how to give it instead."""
    answer = warm("--", "--api-key", CLIENTS, VLLM_API_KEY=CLIENTS)
    assert all("VLLM_API_KEY" not in start["env"] for start in starts(serving))
    assert "give the server its key with --api-key" in answer.err
    assert CLIENTS not in answer.out + answer.err
    assert not [path for path in root.rglob("*") if path.is_file() and CLIENTS in path.read_text()]


@pytest.mark.parametrize("args", [["-cc", '{"cache_dir": "/mine"}'], ["--ssl-keyfile", "k"]], ids=["folder", "tls"])
def test_a_launch_that_cannot_be_warmed_is_refused(warm: Warm, serving: Serving, args: list[str]) -> None:
    """Before anything is started."""
    warm("--", *args, code=2)
    assert starts(serving) == []


def test_a_folder_that_cannot_be_written_is_an_error(warm: Warm, root: Path) -> None:
    """One sentence names it."""
    root.parent.mkdir()
    root.write_text("a file")
    answer = warm(code=1)
    assert "The cache cannot be written" in answer.err
    assert "--cache-root" in answer.err


def test_two_warmers_do_no_harm_to_each_other(serving: Serving, root: Path, tmp_path: Path) -> None:
    """Of one launch at once: one's entry stays, both hit it."""
    processes = [started(serving, root, tmp_path / f"{number}.sqlite") for number in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    documents = [json.loads(out) for out, _ in outputs]
    assert {document["hit"] for document in documents} == {True}
    assert sorted(len(document["kept"]) for document in documents) == [0, 1]


@pytest.mark.parametrize("moment", [0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1, 2.4, 2.7, 3.0])
def test_a_killed_warmer_leaves_no_half_entry(serving: Serving, root: Path, tmp_path: Path, moment: float) -> None:
    """Whenever it dies, its server dies too, and a later start finds a whole entry or none."""
    process = started(serving, root, tmp_path / "verdicts.sqlite", STAND_IN="half" if moment > 1.5 else "hit")
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    end = time.monotonic() + 20
    while any(Path(f"/proc/{start['pid']}").exists() for start in starts(serving)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [start for start in starts(serving) if Path(f"/proc/{start['pid']}").exists()]
    files = [path.name for path in (root / ENTRY).rglob("*") if path.is_file()]
    assert files in ([], ["model"])


def started(serving: Serving, root: Path, store: Path, **env: Any) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    ours = ("--python", serving.python, "--store", store, "--cache-root", root, "--json")
    words = [sys.executable, "-m", "tuner", "cache", "warm", MIXTRAL, *ours]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    variables = {**clean, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **env}
    return subprocess.Popen(
        [*map(str, words)], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
