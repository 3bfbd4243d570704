"""`tuner probe --all` and its kin: a registry from the list to the summary, stopped and begun again.

The registry and the worker are stand-ins; `test_probe_all_vllm.py` asks a real vLLM.
"""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import registry_stand_in
from fake_environment import ERNIE, LLAMA, SETTABLE, Answer, Serving, model_like, sample, serving_in, tuner
from registry_stand_in import Plan

DENSE, BRANCHING, BROKEN, BARE = "DenseForCausalLM", "ErnieLike", "BrokenForCausalLM", "BareForCausalLM"
OTHERS = [f"Other{index}ForCausalLM" for index in range(4)]


class Bench:
    """An environment, a store, and a registry of four kinds: dense, branching, broken, and one without a config."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.serving: Serving = serving_in(folder / "env", SETTABLE)
        self.store = folder / "home" / "verdicts.sqlite"
        self.store.parent.mkdir()
        self.plan = Plan(folder)
        self.candidates: list[dict[str, Any]] = []
        self.reports: dict[str, Any] = {}
        registry_stand_in.install(self.plan.file, monkeypatch.setattr)

    def register(self, architecture: str, model: Path | None, report: Mapping[str, Any] | None = None) -> None:
        """Add an architecture: with a config like a model's, or without one; and what its probe will report."""
        config = model and model_like(model, self.folder / "models" / architecture, architectures=[architecture])
        said = {"source": "made up", "reason": ""} if config else {"source": "", "reason": "no config class"}
        kind = {"category": "text_generation", "moe": "static"}
        self.candidates.append({"architecture": architecture, **kind, "folder": config and str(config), **said})
        if model and report is None:
            self.reports[architecture] = self.serving.probed_here(sample(model, "flag-live"))
        elif report:
            self.reports[architecture] = report
        self.plan.write(self.reports, self.candidates)

    def args(self, *args: object) -> list[str]:
        """The arguments of a probe here."""
        return ["probe", "--python", str(self.serving.python), "--store", str(self.store), *map(str, args)]

    def ask(self, *args: object, code: int) -> Answer:
        """Probe here."""
        return tuner(*self.args(*args), code=code)

    def begin(self, *args: object, **streams: Any) -> subprocess.Popen[str]:
        """Start a probe in a process of its own."""
        script = [sys.executable, str(Path(registry_stand_in.__file__)), str(self.plan.file)]
        return subprocess.Popen([*script, *self.args(*args)], text=True, **streams)

    def stored(self) -> list[str]:
        """Architectures with a stored verdict."""
        rows = tuner("verdicts", "list", "--store", self.store, "--json", code=0).document["verdicts"]
        return sorted(row["factors"]["architecture"] for row in rows)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The four kinds."""
    made = Bench(tmp_path, monkeypatch)
    made.register(DENSE, LLAMA)
    made.register(BRANCHING, ERNIE)
    said = "NotImplementedError: no kernel"
    made.register(BROKEN, LLAMA, {"result": "failed", "kind": "kernel_missing", "message": said, "where": "x:1"})
    made.register(BARE, None)
    return made


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until something is so; fail after some seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_running(pid: str) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_table_and_one_summary(bench: Bench) -> None:
    """By verdict and then name, failures and what needs a config behind them, and the counts below."""
    lines = bench.ask("--all", code=3).out.splitlines()
    assert lines[0].split() == ["ARCHITECTURE", "VERDICT", "MOE", "LAYERS", "SECONDS", "NOTE"]
    assert [line.split()[:2] for line in lines[1:5]] == [
        [DENSE, "no_moe"],
        [BRANCHING, "conditional"],
        [BROKEN, "error:"],
        [BARE, "needs"],
    ]
    assert lines[4].endswith("no config class")
    assert lines[5:9] == [
        "",
        "verdicts      1 no_moe, 1 conditional",
        "failed        1 kernel_missing",
        "needs config  1; give theirs with --configs DIR",
    ]
    assert lines[9].startswith("time          ")
    assert "with 1 worker, median " in lines[9]
    assert len(lines) == 10


def test_the_document_counts_and_names_the_source_of_each_config(bench: Bench) -> None:
    """The results are documents as ever; what needs a config stands apart, for it is not a result."""
    document = bench.ask("--all", "--json", code=3).document
    assert set(document) == {"schema_version", "results", "needs_config", "summary"}
    assert [result.get("verdict") or result["error"]["kind"] for result in document["results"]] == [
        "no_moe",
        "conditional",
        "kernel_missing",
    ]
    assert [result["candidate"]["architecture"] for result in document["results"]] == [DENSE, BRANCHING, BROKEN]
    assert {result["candidate"]["source"] for result in document["results"]} == {"made up"}
    folder = str(bench.folder / "models" / DENSE)
    assert document["results"][0]["model"]["name"] == folder
    assert document["results"][0]["launch"]["args"][0] == folder
    (bare,) = document["needs_config"]
    assert (bare["architecture"], bare["reason"]) == (BARE, "no config class")
    summary = document["summary"]
    assert (summary["verdicts"], summary["failed"]) == ({"no_moe": 1, "conditional": 1}, {"kernel_missing": 1})
    assert (summary["stored_before"], summary["needs_config"], summary["workers"]) == (0, 1, 1)
    assert summary["wall_seconds"] > 0
    assert summary["median_seconds"] > 0


def test_a_verdict_is_that_of_a_look_up(bench: Bench) -> None:
    """By the folder of the configuration that was probed."""
    bench.ask("--all", code=3)
    model = bench.folder / "models" / BRANCHING
    answer = tuner("verdict", "--json", "--python", bench.serving.python, "--store", bench.store, model, code=0)
    assert answer.document["verdict"] == "conditional"


def test_the_second_run_probes_only_what_is_missing(bench: Bench) -> None:
    """Verdicts of exactly this key are not reached again; what failed is tried again, and `--force` tries all."""
    bench.ask("--all", code=3)
    assert bench.plan.probed() == sorted([DENSE, BRANCHING, BROKEN])
    answer = bench.ask("--all", "--json", code=3)
    assert bench.plan.probed() == [BROKEN]
    assert answer.document["summary"]["stored_before"] == 2
    assert "1 to probe, 2 stored before" in answer.err
    text = bench.ask("--all", code=3).out
    assert next(line for line in text.splitlines() if line.startswith(DENSE)).split()[3] == "stored"
    assert "(2 stored before)" in text
    assert bench.plan.probed() == [BROKEN]
    bench.ask("--all", "--force", code=3)
    assert bench.plan.probed() == sorted([DENSE, BRANCHING, BROKEN])


def test_a_changed_configuration_is_probed_again(bench: Bench) -> None:
    """What is stored is for another key."""
    bench.ask("--match", DENSE, code=0)
    config = bench.folder / "models" / DENSE / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"rope_theta": 1.0}))
    bench.plan.probed()
    bench.ask("--match", DENSE, code=0)
    assert bench.plan.probed() == [DENSE]


def test_a_run_with_nothing_to_do_starts_no_worker(bench: Bench) -> None:
    """The list alone is asked for."""
    bench.ask("--match", DENSE, code=0)
    bench.plan.workers()
    answer = bench.ask("--match", DENSE, code=0)
    assert bench.plan.workers() == []
    assert "worker" not in answer.out
    assert "median" not in answer.out


@pytest.mark.parametrize(
    ("args", "seen"),
    [
        (["--all"], ["None", False, None]),
        (["--all-text"], ["None", True, None]),
        (["--match", "Dense*"], ["None", False, "Dense*"]),
        (["--all", "--configs", "my/models"], ["my/models", False, None]),
    ],
)
def test_the_selection_reaches_the_list(bench: Bench, args: list[str], seen: list[object]) -> None:
    """And configurations that are made are kept beside the store."""
    bench.ask(*args, code=0 if "--match" in args else 3)
    assert json.loads((bench.store.parent / "asked.json").read_text()) == seen


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "No MODEL is named."),
        (["--configs", "x"], "No MODEL is named."),
        (["--force"], "No MODEL is named."),
        (["--all", str(LLAMA)], "take no MODEL"),
        (["--match", "Q*", str(LLAMA)], "take no MODEL"),
        (["--all-text", str(LLAMA)], "take no MODEL"),
        (["--configs", "x", str(LLAMA)], "take no MODEL"),
        (["--match", "Nothing*"], "registers no MoE architecture that matches Nothing*"),
        (["--all", "--workers", "0"], "--workers"),
    ],
)
def test_usage_errors(bench: Bench, args: list[str], said: str) -> None:
    """Models or the registry, one of both; nothing is probed, and stdout stays empty."""
    answer = bench.ask(*args, code=2)
    assert said in answer.err
    assert answer.out == ""
    assert bench.plan.probed() == []


def test_what_needs_a_config_is_no_failure(bench: Bench) -> None:
    """Nor does it make a run that completed less complete."""
    answer = bench.ask("--match", "[BD]*e*ForCausalLM", "--json", code=3)
    assert len(answer.document["results"]) == 2
    answer = bench.ask("--match", BARE, "--json", code=0)
    assert (answer.document["results"], len(answer.document["needs_config"])) == ([], 1)
    assert BARE in bench.ask("--match", BARE, code=0).out


def test_a_configuration_that_cannot_be_read_is_one_failure(bench: Bench) -> None:
    """A folder of the user's with a damaged file stops nothing."""
    (bench.folder / "models" / DENSE / "config.json").write_text("{")
    document = bench.ask("--all", "--json", code=3).document
    assert document["summary"]["verdicts"] == {"conditional": 1}
    (failed,) = [result for result in document["results"] if result["candidate"]["architecture"] == DENSE]
    assert "config.json" in failed["error"]["message"]


def test_several_configurations_of_one_architecture(bench: Bench) -> None:
    """Each has its own result, told apart by the user's folder."""
    bench.register(OTHERS[0], LLAMA)
    mine = bench.folder / "models"
    model_like(LLAMA, mine / "more" / "large", architectures=[OTHERS[0]], rope_theta=1.0)
    bench.candidates.append(bench.candidates[-1] | {"folder": str(mine / "more" / "large")})
    bench.plan.write(bench.reports, bench.candidates)
    args = ("--match", OTHERS[0], "--configs", mine)
    document = bench.ask(*args, "--json", code=0).document
    assert [result["verdict"] for result in document["results"]] == ["no_moe"] * 2
    assert len({result["model"]["name"] for result in document["results"]}) == 2
    text = bench.ask(*args, code=0).out
    assert f"\n{OTHERS[0]} (more/large) " in text
    assert f"\n{OTHERS[0]} ({OTHERS[0]}) " in text


def test_an_environment_that_is_not_what_its_files_say_stops_early(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is probed in vain."""
    monkeypatch.setitem(registry_stand_in.LISTING["environment"], "vllm", "0.18.0")
    answer = bench.ask("--all", code=1)
    assert "The environment's files say vLLM 0.19.1, but the probe ran vLLM 0.18.0" in answer.err
    assert bench.plan.probed() == []


def test_an_environment_at_fault_ends_with_1(bench: Bench) -> None:
    """It is said once, and every architecture has its document."""
    bench.serving.python.unlink()
    bench.serving.python.write_bytes(b"\x7fELF and nothing else")
    bench.serving.python.chmod(0o755)
    answer = bench.ask("--all", "--json", code=1)
    assert answer.document["summary"]["failed"] == {"environment": 3}
    assert answer.err.count("does not start") == 1


def test_a_damaged_record_is_probed_again(bench: Bench) -> None:
    """And replaced, instead of stopping the others."""
    bench.ask("--match", DENSE, code=0)
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(\"UPDATE {} SET value = 'x' WHERE key {}\")"
    )
    table = "verdicts"
    damage = script.format(table, "LIKE 'verdict:%'") + "; c.commit()"
    subprocess.run([sys.executable, "-c", damage, str(bench.store)], check=True)
    bench.plan.probed()
    bench.ask("--match", DENSE, code=0)
    assert bench.plan.probed() == [DENSE]
    assert bench.stored() == [DENSE]


def test_progress_is_lines_where_there_is_no_terminal(bench: Bench) -> None:
    """What is begun, and each verdict as it is reached."""
    said = [line.partition("] ")[2] for line in bench.ask("--all", code=3).err.splitlines()]
    assert said[0] == "asking vLLM which MoE architectures it registers (10 to 40 s)"
    assert said[1] == "3 to probe, 0 stored before"
    assert said[2].startswith("starting vLLM")
    assert f"probing {BRANCHING} (2 of 3)" in said
    (verdict,) = [line for line in said if line.startswith(f"{BRANCHING}: ")]
    assert verdict.startswith(f"{BRANCHING}: conditional (")
    assert verdict.endswith("2 of 3 done)")
    (failure,) = [line for line in said if line.startswith(f"{BROKEN}: ")]
    assert failure.startswith(f"{BROKEN}: failed: kernel_missing (")


def test_several_workers_share_the_registry(bench: Bench) -> None:
    """Each starts once, and all verdicts are stored."""
    for name in OTHERS:
        bench.register(name, LLAMA)
    document = bench.ask("--match", "Other*", "--workers", "2", "--json", code=0).document
    assert len(bench.plan.workers()) == 2
    assert document["summary"]["workers"] == 2
    assert bench.stored() == OTHERS


def held(bench: Bench, *names: str) -> None:
    """Register the others, and let these wait in their workers."""
    for name in OTHERS:
        bench.register(name, LLAMA)
    bench.plan.hold()
    bench.plan.write(bench.reports, bench.candidates, names)


def test_after_a_kill_the_same_command_goes_on(bench: Bench) -> None:
    """What was reached before SIGKILL stays, and is not probed again."""
    held(bench, OTHERS[2])
    process = bench.begin("--match", "Other*", stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: bench.stored() == OTHERS[:2])
    process.kill()
    process.wait()
    assert bench.stored() == OTHERS[:2]
    bench.plan.release()
    bench.plan.probed()
    document = bench.ask("--match", "Other*", "--json", code=0).document
    assert document["summary"]["stored_before"] == 2
    assert bench.plan.probed() == OTHERS[2:]
    assert bench.stored() == OTHERS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_workers_and_says_how_to_go_on(bench: Bench, number: signal.Signals) -> None:
    """Both workers are gone when the command is."""
    held(bench, *OTHERS[2:])
    process = bench.begin(
        "--match", "Other*", "--workers", "2", stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=_hears
    )
    wait_for(lambda: bench.stored() == OTHERS[:2])
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert [pid for pid in bench.plan.workers() if is_running(pid)] == []


def _hears() -> None:
    """SIGINT acts, although the tests' own caller may ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_terminal_sees_one_live_table(bench: Bench) -> None:
    """Counts and workers on stderr while it runs; gone at the end, and stdout stays plain."""
    held(bench, OTHERS[2])
    main, side = pty.openpty()
    process = bench.begin(
        "--match", "Other*", stdout=subprocess.PIPE, stderr=side, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    )
    os.close(side)
    os.set_blocking(main, False)
    seen = ""

    def shows(text: str) -> bool:
        nonlocal seen
        with suppress(OSError):  # nothing new, or no writer any more
            seen += os.read(main, 65536).decode(errors="replace")
        return text in seen

    wait_for(lambda: shows("2 of 4 done in ") and shows(f"probing {OTHERS[2]} (3 of 4)") and shows("2 no_moe"))
    bench.plan.release()
    out, _ = process.communicate(timeout=30)
    os.close(main)
    assert process.returncode == 0
    assert "\x1b" not in out
    assert "verdicts      4 no_moe" in out
