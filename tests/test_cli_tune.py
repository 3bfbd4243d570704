"""`tuner tune` from the command to the store.

A script stands in for the worker (`arm_bench.py`), because a real engine takes a minute to start and CUDA graphs need a
GPU; `test_ladder_vllm.py` starts real ones on a CPU.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from arm_bench import Act, ArmBench
from fake_environment import MIXTRAL, ROOT, Answer

WIDTH = 80
GRAPH_ARMS = ("piecewise", "full_decode", "full", "as_launched")
FROZEN: dict[str, Act] = dict.fromkeys(
    (*GRAPH_ARMS, "without_fuse_norm_quant", "without_eliminate_noops", "backend_marlin"), "is frozen"
)
"""Whatever has CUDA graphs of compiled code."""


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArmBench]:
    """Where every arm answers rightly; no process and no folder may be left at the end."""
    made = ArmBench(tmp_path, monkeypatch)
    yield made
    assert made.left() == []


def ladder_of(answer: Answer) -> dict[str, Any]:
    """The ladder in the document."""
    part: dict[str, Any] = answer.document["ladder"]
    return part


def test_a_launch_that_is_right_ends_with_0(bench: ArmBench) -> None:
    """Nothing is written, and the text says how many arms were compared."""
    answer = bench.tune(code=0)
    assert "the launch as it stands answers rightly (10 arms were compared)" in unfolded(answer.out)
    assert f"vllm serve {MIXTRAL}" in unfolded(answer.out)
    assert "not right" not in answer.out
    assert "as launched started in 30 s" in answer.err


def test_a_launch_that_is_wrong_ends_with_5_and_its_plan_is_right(bench: ArmBench) -> None:
    """The text says what is wrong, and the launch to write is that of `tuner plan`."""
    bench.arms(**FROZEN)
    answer = bench.tune(code=5)
    text = unfolded(answer.out)
    assert "the launch as it stands answers wrongly: what enters the experts of layers.1 does not depend on" in text
    assert """--compilation-config '{"cudagraph_mode": "NONE"}'""" in text
    plan = bench.ask("plan", "--json", MIXTRAL).document
    assert plan["launch"]["compilation_config"] == {"cudagraph_mode": "NONE"}


def test_a_launch_that_could_not_be_judged_ends_with_3(bench: ArmBench) -> None:
    """Nothing is written, and the text says what was missing."""
    bench.arms(as_launched="answers fewer prompts")
    answer = bench.tune(code=3)
    assert "whether the launch answers rightly is not known: it could not be compared with" in unfolded(answer.out)


def test_a_launch_that_does_not_start_ends_with_5(bench: ArmBench) -> None:
    """Another graph mode does, and is written."""
    bench.arms(as_launched="ends")
    answer = bench.tune(code=5)
    assert "the launch as it stands does not start" in unfolded(answer.out)
    assert '"FULL_AND_PIECEWISE"' in answer.out


def test_two_answers_stand_side_by_side_where_a_wrong_arm_parts(bench: ArmBench) -> None:
    """Below the table, with the neighbour on the left; the document has them too. A right launch shows none."""
    bench.arms(full="is apart")
    shown = bench.tune(code=0).out.splitlines()
    place = shown.index("one_token_0: the likeliest answers, as numbers of tokens (no tokenizer here)")
    assert [line.split() for line in shown[place + 1 : place + 3]] == [["[compiled]", "[full]"], ["0", "0", "0", "9"]]
    bench.arms(full="is apart")
    arms = {arm["name"]: arm for arm in ladder_of(bench.tune("--json", code=0))["arms"]}
    assert arms["full"]["texts"] == {"prompt": "one_token_0", "own": "0 9", "below": "0 0", "are_numbers": True}
    assert arms["piecewise"]["texts"] is None
    bench.arms()
    assert "likeliest" not in bench.tune(code=0).out


def test_the_users_own_setting_is_named_and_kept(bench: ArmBench) -> None:
    """The launch stays as it is, with a warning."""
    bench.arms(**FROZEN, not_compiled="is frozen", eager="answers")
    launch = ["-cc.cudagraph_mode=PIECEWISE", "-cc.mode=3"]
    answer = bench.tune("--json", launch=launch, code=5)
    ladder = ladder_of(answer)
    assert (ladder["word"], ladder["remedy"], ladder["users"]) == ("wrong", None, ["cudagraph_mode"])
    assert answer.document["launch"]["compilation_config"] == {"cudagraph_mode": "PIECEWISE", "mode": 3}
    text = " ".join(warning["text"] for warning in answer.document["warnings"])
    assert "other values of them would be right: cudagraph_mode" in text


@pytest.mark.parametrize(("prefer", "field"), [("start", "ready"), ("step", "step")])
def test_what_is_preferred_is_written(bench: ArmBench, prefer: str, field: str) -> None:
    """The launch is right, and another arm is faster; without --prefer it is left alone."""
    bench.arms(piecewise="is fast", full="is apart")
    plain = ladder_of(bench.tune("--json", code=0))
    assert (plain["remedy"], plain["prefer"]) == (None, None)
    bench.arms(piecewise="is fast", full="is apart")
    preferred = ladder_of(bench.tune("--json", "--prefer", prefer, code=0))
    assert preferred["remedy"]["config"] == {"cudagraph_mode": "PIECEWISE"}
    assert preferred["prefer"] == prefer
    assert min(preferred["arms"], key=lambda arm: arm["seconds"].get(field, 99))["name"] == "piecewise"


def test_times_of_engines_side_by_side_are_not_compared(bench: ArmBench) -> None:
    """They slow each other down; nothing is started."""
    error = bench.tune("--json", "--prefer", "step", "--workers", 4, code=2).document["error"]
    assert error["kind"] == "usage"
    assert bench.started() == []


def test_the_document_holds_every_arm_with_its_reason(bench: ArmBench) -> None:
    """In the order of the ladder, each with its limit, and as the published schema has it."""
    bench.arms(full="is noisy", piecewise="dies", full_decode="is not a number")
    answer = bench.tune("--json", code=0)
    arms = {arm["name"]: arm for arm in ladder_of(answer)["arms"]}
    assert list(arms)[:3] == ["eager", "eager_again", "eager_float32"]
    codes = {name: arms[name]["reason"]["code"] for name in ("full", "piecewise", "full_decode", "as_launched")}
    assert codes == {
        "full": "arm_noisy",
        "piecewise": "arm_failed",
        "full_decode": "arm_broken",
        "as_launched": "arm_distance",
    }
    assert (arms["as_launched"]["limit"], arms["compiled"]["limit"], arms["eager"]["limit"]) == (0.15, 0.25, None)
    schema = json.loads((ROOT / "docs" / "schema" / "launch-2.json").read_text(encoding="utf-8"))
    jsonschema.validate(answer.document, schema)


def unfolded(text: str) -> str:
    """The text with each value on one line."""
    return " ".join(text.split())


@pytest.mark.parametrize("act", ["is frozen", "is refused", "answers fewer prompts", "is apart", "is noisy"])
def test_the_text_fits_a_terminal(bench: ArmBench, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns, with the table of all arms and long reasons."""
    bench.arms(**dict.fromkeys(GRAPH_ARMS, act), without_fuse_norm_quant=act, without_eliminate_noops=act)
    monkeypatch.setattr("tuner.text.terminal_width", lambda _=None: WIDTH)
    lines = bench.ask("tune", MIXTRAL, code=None).out.splitlines()  # type: ignore[arg-type]
    assert [line for line in lines if len(line) > WIDTH and str(MIXTRAL) not in line] == []
    assert [line for line in lines if line.split()[:2] == ["arm", "answers"]]


def test_the_table_shows_the_distance_that_was_held_against_the_limit(bench: ArmBench) -> None:
    """Of an arm that is as wrong as the one below it, its own."""
    bench.arms(compiled="is apart", compiled_float32="is apart", **dict.fromkeys(GRAPH_ARMS, "is apart"))
    rows = {row.split()[0]: row.split() for row in bench.tune(code=5).out.splitlines() if row}
    assert rows["compiled"][:4] == ["compiled", "wrong", "0.9000", "0.25"]
    assert rows["full"][:4] == ["full", "wrong", "0.0000", "0.15"]


def test_an_eager_engine_that_fails_is_an_error_with_a_kind(bench: ArmBench) -> None:
    """There is nothing to compare with."""
    bench.arms(eager="is refused")
    error = bench.tune("--json", code=1).document["error"]
    assert error["kind"] == "arm"
    assert "no memory" in error["message"]


RUN = """
import sys
from pathlib import Path
from tuner.ladder import climb
from tuner.environment import environment
climb.ARM_WORKER = Path({worker!r})
environment.nvidia_gpus = lambda: ("NVIDIA H200",)
sys.argv = ["tuner", *{words!r}]
from tuner.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_command_leaves_no_process_and_stores_nothing(bench: ArmBench, number: signal.Signals) -> None:
    """Ctrl-C, `kill` and a closed terminal end every engine; the command is a process of its own here."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup; run the tests without it")
    bench.arms(full="hangs")
    words = ["tune", "--python", str(bench.serving.python), "--store", str(bench.store), "--workers", "3", str(MIXTRAL)]
    code = RUN.format(worker=str(bench.folder / "worker.py"), words=words)
    environ = {**os.environ, "TMPDIR": str(bench.scratch)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (bench.folder / "hanging").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()  # its keepers then end what it started
    assert (process.returncode, out) == (130, "")
    assert "tuner: stopped" in err
    assert "Traceback" not in err
    assert bench.left() == []
    assert bench.ask("plan", "--json", MIXTRAL).document["ladder"] is None
