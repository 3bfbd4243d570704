"""The program that runs many ladders loses no result. Scripts stand in for `tuner tune`, which takes minutes."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import pytest
from fake_environment import ROOT

from tools.evidence import run_ladders

STAND_IN = """#!{python}
import json, os, signal, sys, time
from pathlib import Path

folder, model = Path({folder!r}), Path(sys.argv[sys.argv.index("--") - 1]).name
words = {{"args": sys.argv[1:], "fault": os.environ["PLANTED"], "lane": os.environ["CUDA_VISIBLE_DEVICES"]}}
words["pid"] = os.getpid()
with (folder / "seen.jsonl").open("a") as seen:
    seen.write(json.dumps(words) + "\\n")
print("starting the arms", file=sys.stderr, flush=True)
if model == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if model in ("slow", "deaf"):
    print('{{"half": ', flush=True)
    time.sleep(60)
if model == "together":
    (folder / words["fault"]).touch()
    end = time.monotonic() + 20
    while len(list(folder.glob("co*"))) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    if time.monotonic() >= end:
        sys.exit(1)
if model == "fails":
    print('{{"error": {{"kind": "arm"}}}}')
    sys.exit(1)
if model == "empty":
    print('{{"ladder": null}}')
    sys.exit(3)
print(json.dumps({{"ladder": {{"word": "wrong"}}, "fault": words["fault"]}}))
sys.exit(5)
"""


class Bench:
    """A folder with a script in the place of the command."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        self.tuner = folder / "tuner"
        self.tuner.write_text(STAND_IN.format(python=sys.executable, folder=str(folder)), encoding="utf-8")
        self.tuner.chmod(0o755)

    def seen(self) -> list[dict[str, object]]:
        """Each command that was started."""
        return [json.loads(line) for line in (self.folder / "seen.jsonl").read_text(encoding="utf-8").splitlines()]

    def words(self, *words: str, limit: float = 60) -> list[str]:
        """The words of the program."""
        return ["--python", "/env/bin/python", "--out", str(self.out), "--limit", str(limit), *words]

    def names(self, pattern: str = "*") -> list[str]:
        """The files of the results, without stores."""
        return sorted(file.name for file in self.out.glob(pattern))


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Where handlers of signals stay those of the tests."""
    made = Bench(tmp_path)
    monkeypatch.setattr(run_ladders, "COMMAND", (str(made.tuner),))
    monkeypatch.setattr(run_ladders, "ENDING_S", 1.0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return made


def test_each_ladder_has_a_document_a_log_and_a_place_in_the_archive(bench: Bench) -> None:
    """With and without a fault, with the arguments of vLLM behind the model."""
    run_ladders.main(bench.words("m/Qwen", "frozen=m/Qwen", "--", "--max-model-len", "512"))
    files = ["frozen=Qwen.json", "frozen=Qwen.log", "plain=Qwen.json", "plain=Qwen.log"]
    assert bench.names() == sorted([*files, "ladders.tar"])
    with tarfile.open(bench.out / "ladders.tar") as tar:
        assert sorted(tar.getnames()) == files
    assert json.loads((bench.out / "frozen=Qwen.json").read_text(encoding="utf-8"))["fault"] == "frozen"
    log = (bench.out / "plain=Qwen.log").read_text(encoding="utf-8")
    assert log.startswith("starting the arms\nexit code 5, ")
    assert all(str(each["args"]).endswith("'--max-model-len', '512']") for each in bench.seen())


def test_two_lanes_run_at_the_same_time_each_on_a_gpu(bench: Bench) -> None:
    """Each ladder waits for the other one here."""
    run_ladders.main(bench.words("copied=together", "compiled=together"))
    assert bench.names("*.json") == ["compiled=together.json", "copied=together.json"]
    assert {each["lane"] for each in bench.seen()} == {"0", "1"}


def test_a_ladder_that_fails_costs_itself_alone(bench: Bench) -> None:
    """Its log is kept, and it has no document that could be taken for one."""
    run_ladders.main(bench.words("--lanes", "0", "fails", "empty", "Qwen"))
    assert bench.names("*.json") == ["plain=Qwen.json"]
    assert "exit code 1" in (bench.out / "plain=fails.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("model", ["slow", "deaf"])
def test_at_the_limit_what_ended_is_kept(bench: Bench, model: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A ladder under way is ended, even if it does not listen; those behind it are named."""
    run_ladders.main(bench.words("--lanes", "0", "Qwen", model, "other", limit=3))
    assert bench.names("*.json") == ["plain=Qwen.json"]
    assert "ended by the limit" in (bench.out / f"plain={model}.log").read_text(encoding="utf-8")
    assert "plain=other: not begun" in capfd.readouterr().err
    with tarfile.open(bench.out / "ladders.tar") as tar:
        assert "plain=Qwen.json" in tar.getnames()


def test_the_same_command_goes_on_where_it_was_ended(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """What has a document is not run again; what failed is."""
    run_ladders.main(bench.words("Qwen", "fails"))
    run_ladders.main(bench.words("Qwen", "fails", "other"))
    started = [str(each["args"]) for each in bench.seen()]
    assert sum("'Qwen'" in words for words in started) == 1
    assert sum("'fails'" in words for words in started) == 2
    assert "plain=Qwen: was run before" in capfd.readouterr().err


def test_an_unknown_fault_is_refused(bench: Bench) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit, match="melted is not a planted fault"):
        run_ladders.main(bench.words("melted=Qwen"))
    assert not bench.out.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_program_has_lost_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """The documents of ladders that ended, and their archive, are whole; the program is a process of its own here."""
    bench = Bench(tmp_path)
    words = bench.words("--lanes", "0", "Qwen", "slow")
    script = f"from tools.evidence import run_ladders as r; r.COMMAND = ({str(bench.tuner)!r},); r.main({words!r})"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    draft = bench.out / "plain=slow.part"
    while not (draft.exists() and draft.stat().st_size) and time.monotonic() < end:
        time.sleep(0.05)
    program.send_signal(number)
    program.wait(30)
    with suppress(ProcessLookupError):  # a program that is killed ends no other
        os.kill(int(str(bench.seen()[-1]["pid"])), signal.SIGKILL)
    assert json.loads((bench.out / "plain=Qwen.json").read_text(encoding="utf-8"))["ladder"]
    with tarfile.open(bench.out / "ladders.tar") as tar:
        assert "plain=Qwen.json" in tar.getnames()
    assert not (bench.out / "plain=slow.json").exists()
