"""`tuner worker`: probes from the queue of a service are run once, and none is lost.

The service answers in this process and the probes are stand-ins; `tools/evidence/make_fleet.py` runs processes.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fleet_stand_in
import ladders
import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, Answer, Serving, sample, tuner
from live_service import live_service, until
from service_bench import WRITER, Bench, Setting, bearing, bench, tokens_in
from signing_keys import make_keys

from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.fleet import probing, worker
from tuner.fleet.queue_client import Claimed, RemoteQueue
from tuner.fleet.worker import Heart
from tuner.service import client, probes
from tuner.service.client import Answer as Served
from tuner.service.client import RefusedError
from tuner.service.queued import Launch

ARGS = ["--max-model-len", "4096"]
URL = "http://127.0.0.1:8707"
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "fleet.md"


class Direct:
    """A client that asks a service in this process.

    Attributes:
        away: how many requests fail before the next one gets through.
    """

    name = "127.0.0.1:8707"

    def __init__(self, service: Bench) -> None:
        self.service = service
        self.away = 0
        self.asked: list[str] = []

    def ask(self, method: str, path: str, body: bytes = b"") -> Served:
        """As a client of a real service does."""
        self.asked.append(path.partition("?")[0])
        if self.away and "result" in path:
            self.away -= 1
            raise TunerError("The service is away.", kind=ErrorKind.SERVICE)
        answer = self.service.client.request(method, path, content=body)
        if answer.status_code != 200:
            raise RefusedError(answer.json()["error"]["message"], status=answer.status_code)
        return Served(answer.status_code, dict(answer.headers), answer.content)


class Fleet:
    """A service with a queue, and an environment with stand-ins for probes."""

    def __init__(self, folder: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.serving = serving
        self.store = folder / "service.sqlite"
        service = bench(Setting(self.store, **tokens_in(folder), headers=bearing(WRITER)))
        self.direct = Direct(service)
        fleet_stand_in.install(folder, monkeypatch.setattr)
        self.hand_back(*(sample(model, "flag-live") for model in (MIXTRAL, ERNIE, LLAMA)))

        def client_of(_address: str, _environ: Mapping[str, str]) -> Direct:
            return self.direct

        monkeypatch.setattr(client, "client_of", client_of)
        monkeypatch.setattr(worker, "PAUSES", (0.0,))
        monkeypatch.setattr(worker, "POLL_S", 0.01)

    def hand_back(self, *reports: Mapping[str, Any]) -> None:
        """What probes will show."""
        here = [self.serving.probed_here(report) if "sources" in report else report for report in reports]
        fleet_stand_in.hand_back(self.folder, *here)

    def put(self, *launches: dict[str, Any]) -> None:
        """Queue launches."""
        answer = self.direct.service.client.post("/v1/probes", json={"launches": list(launches)})
        assert answer.status_code == 200, answer.text

    def work(self, *options: object, code: int | None = 0) -> Answer:
        """Run a worker."""
        return tuner("worker", "--service", URL, "--python", self.serving.python, *options, code=code)

    def rows(self) -> list[dict[str, Any]]:
        """The queue."""
        rows: list[dict[str, Any]] = self.direct.service.get("/v1/probes")["probes"]
        return rows

    def words(self) -> list[str]:
        """The stored verdicts, by architecture."""
        return [row["verdict"] for row in self.direct.service.get("/v1/verdicts")["verdicts"]]


@pytest.fixture
def fleet(tmp_path: Path, serving: Serving, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Where three models can be probed."""
    return Fleet(tmp_path, serving, monkeypatch)


def launch(folder: Path = MIXTRAL, *args: str, **fields: Any) -> dict[str, Any]:
    """A launch of an example model."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = folder.name.replace("--", "/")
    return {"model": name, "config": config, "vllm": "0.19.1", "platform": "cpu", "arguments": [*args], **fields}


# ---- what is run, and what is sent


def test_every_probe_is_run_and_its_verdict_sent(fleet: Fleet) -> None:
    """Until nothing is left; the verdicts are those of `tuner probe`, and the counts are the result."""
    fleet.put(launch(), launch(ERNIE), launch(LLAMA))
    answer = fleet.work("--until-empty")
    assert answer.out == "3 verdicts sent, 0 probes failed\n"
    assert (fleet.words(), fleet.rows()) == (["conditional", "no_moe", "uniform"], [])
    assert "probing mistralai/Mixtral-8x7B-v0.1 (" in answer.err


def test_a_verdict_of_a_worker_decides_as_one_that_was_probed_here(fleet: Fleet, tmp_path: Path) -> None:
    """The launch that was queued has its proof, and gets the fast value."""
    fleet.put(launch(MIXTRAL, *ARGS))
    fleet.work("--once")
    bundle = tmp_path / "bundle.jsonl"
    tuner("verdicts", "export", "--store", fleet.store, "--output", bundle, code=0)
    own = tmp_path / "own.sqlite"
    tuner("verdicts", "import", bundle, "--store", own, code=0)
    words = ("--python", fleet.serving.python, "--store", own, "--json", MIXTRAL, "--", *ARGS)
    assert tuner("plan", *words, code=0).document["launch"]["compilation_config"] == {"fast_moe_cold_start": True}


def test_what_is_stored_is_not_run_again(fleet: Fleet) -> None:
    """The next launch of a model needs its proof alone, and keeps the proofs of the others."""
    for args in ([], ARGS):
        fleet.put(launch(MIXTRAL, *args))
        assert fleet.work("--once").out == "1 verdict sent, 0 probes failed\n"
    assert fleet_stand_in.probed(fleet.folder) == ["MixtralForCausalLM"]
    (entry,) = VerdictStore(fleet.store).entries()
    assert len(entry.report["proofs"]) == 2


def test_arms_are_tried_where_they_are_asked_for(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their ladder is stored beside the verdict."""
    monkeypatch.setattr(probing, "climbed", lambda _climb: ladders.ladder(fleet.serving))
    fleet.put(launch(question="arms"))
    fleet.work("--once")
    (entry,) = VerdictStore(fleet.store).entries()
    assert (len(entry.report["ladders"]), fleet.rows()) == (1, [])


def test_once_is_one_probe_or_none(fleet: Fleet) -> None:
    """An empty queue is fine."""
    assert fleet.work("--once").out == "0 verdicts sent, 0 probes failed\n"
    fleet.put(launch(), launch(LLAMA))
    assert fleet.work("--once").out == "1 verdict sent, 0 probes failed\n"
    assert len(fleet.rows()) == 1


def test_a_worker_signs_what_it_sends(fleet: Fleet, tmp_path: Path) -> None:
    """A service that demands the signature stores it; without one the worker ends, and the probe is given back."""
    secret, public = make_keys(tmp_path / "team")
    fleet.direct.service = bench(
        Setting(fleet.store, **tokens_in(tmp_path), headers=bearing(WRITER), signed_with=public)
    )
    fleet.put(launch())
    assert "signed" in fleet.work("--once", code=1).err
    assert [(row["state"], row["failures"]) for row in fleet.rows()] == [("waiting", 0)]
    fleet.work("--once", "--sign-with", str(secret))
    assert fleet.words() == ["uniform"]


def test_a_worker_whose_clock_is_behind_replaces_what_its_key_signed(fleet: Fleet, tmp_path: Path) -> None:
    """What it sends states no earlier time than what it builds on, so nobody takes it for an older line."""
    secret, public = make_keys(tmp_path / "team")
    fleet.direct.service = bench(
        Setting(fleet.store, **tokens_in(tmp_path), headers=bearing(WRITER), signed_with=public)
    )
    for ahead, args in ((3600, []), (0, ARGS)):
        now = time.time() + ahead
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tuner.exchange.signing.time.time", lambda now=now: now)
            fleet.put(launch(MIXTRAL, *args))
            fleet.work("--once", "--sign-with", str(secret))
    assert fleet.rows() == []
    (entry,) = VerdictStore(fleet.store).entries()
    assert len(entry.report["proofs"]) == 2


def test_a_worker_signs_nothing_that_the_service_made_up(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It builds on what is stored only if its own key signed that; without a key it takes the service's word."""
    secret, _ = make_keys(tmp_path / "team")
    other, _ = make_keys(tmp_path / "other")
    built_on: list[bool] = []

    def recorded(launch: Launch, stored: str | None, *rest: Any) -> str:
        built_on.append(stored is not None)
        return probing.probed_line(launch, stored, *rest)

    monkeypatch.setattr(worker, "probed_line", recorded)
    fleet.put(launch())
    fleet.work("--once", "--sign-with", str(secret))
    for number, options in enumerate((("--sign-with", str(secret)), ("--sign-with", str(other)), ())):
        fleet.put(launch(MIXTRAL, "--max-model-len", str(4096 + number)))
        fleet.work("--once", *options, code=None)
    assert built_on == [False, True, False, True]


# ---- what fails


def test_a_failure_is_told_to_the_queue(fleet: Fleet) -> None:
    """After three of them the launch rests with its reason, and the others go on."""
    said = "NotImplementedError: no kernel"
    failed = {"result": "failed", "kind": "kernel_missing", "message": said, "where": "x:1"}
    fleet.hand_back({"architecture": "MixtralForCausalLM", **failed}, sample(LLAMA, "flag-live"))
    fleet.put(launch(), launch(LLAMA))
    assert fleet.work("--until-empty").out == "1 verdict sent, 3 probes failed\n"
    ((state, reason),) = [(row["state"], row["reason"]) for row in fleet.rows()]
    assert state == "resting"
    assert "no kernel" in reason
    assert fleet.words() == ["no_moe"]


def test_a_failed_probe_ends_once_with_1(fleet: Fleet) -> None:
    """For scripts that run one probe."""
    fleet.hand_back(
        {"architecture": "MixtralForCausalLM", "result": "failed", "kind": "model", "message": "m", "where": "x"}
    )
    fleet.put(launch())
    fleet.work("--once", code=1)


def test_a_machine_that_cannot_probe_burns_no_launch(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe is given back without a failure, and the worker ends."""

    def broken(*_: object) -> str:
        raise TunerError("vLLM does not import here.", kind=ErrorKind.ENVIRONMENT)

    monkeypatch.setattr(worker, "probed_line", broken)
    fleet.put(launch())
    answer = fleet.work("--until-empty", code=1)
    assert "vLLM does not import here." in answer.err
    assert [(row["state"], row["failures"]) for row in fleet.rows()] == [("waiting", 0)]


def test_a_model_whose_other_files_are_not_here_fails(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never probed without them: its verdict would be of another model."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fleet.put(launch(side_files={"hf_quant_config.json": "a" * 64}))
    fleet.work("--once", code=1)
    assert (fleet.rows()[0]["failures"], fleet_stand_in.probed(fleet.folder)) == (1, [])


def test_a_launch_that_the_release_refuses_fails(fleet: Fleet) -> None:
    """With what the release says, before anything is run."""
    fleet.put(launch(MIXTRAL, "--no-such-option", "1"))
    fleet.work("--once", code=1)
    assert "--no-such-option" in fleet.rows()[0]["reason"]
    assert fleet_stand_in.probed(fleet.folder) == []


def test_a_service_that_is_away_for_a_while_loses_nothing(fleet: Fleet) -> None:
    """The verdict is sent until it gets through, and the wait is said once."""
    fleet.put(launch())
    fleet.direct.away = 3
    answer = fleet.work("--once")
    assert (fleet.words(), answer.err.count("Trying again")) == (["uniform"], 1)


def test_a_verdict_that_the_service_refuses_ends_the_worker(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same would come of the next one; the probe is given back."""
    monkeypatch.setattr(worker, "probed_line", lambda *_: "no line\n")
    fleet.put(launch())
    answer = fleet.work("--until-empty", code=1)
    assert "damaged" in answer.err or "not JSON" in answer.err
    assert [(row["state"], row["failures"]) for row in fleet.rows()] == [("waiting", 0)]


@pytest.mark.parametrize("options", [("--once", "--until-empty"), ()])
def test_a_faulty_use_ends_with_2(options: tuple[str, ...]) -> None:
    """Options that exclude each other; no service."""
    tuner("worker", *options, "--service", URL if options else "", code=2)


# ---- schedulers

SBATCH = """#!/bin/sh
for wrap; do :; done
for task in 0 1; do SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$task sh -c "$wrap"; done
"""
RECORD = """#!/bin/sh
echo "$*" >> {calls}
"""
"""Each call of the worker as a line."""


def test_the_lines_for_schedulers_start_workers(fleet: Fleet, tmp_path: Path) -> None:
    """Those of the page, with a plain loop in the place of Slurm: what they start works the queue off."""
    calls = tmp_path / "calls"
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("tuner", RECORD.format(calls=calls))):
        (programs / name).write_text(text, encoding="utf-8")
        (programs / name).chmod(0o755)
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for block in [block for block in blocks if "sbatch" in block or "wait" in block.split()]:
        variables = {"PATH": f"{programs}:/usr/bin:/bin"}
        subprocess.run(["/bin/sh", "-c", block], env=variables, check=True, timeout=60)
    lines = sorted(calls.read_text(encoding="utf-8").splitlines())
    named = [f"worker --until-empty --name slurm-7-{task}" for task in (0, 1)]
    assert lines == ["worker --until-empty"] * 4 + named
    fleet.put(launch(), launch(LLAMA))
    for line in named:
        variables = {"TUNER_SERVICE": URL, "TUNER_PYTHON": str(fleet.serving.python)}
        tuner(*line.split(), env=variables, code=0)
    assert (fleet.words(), fleet.rows()) == (["no_moe", "uniform"], [])


# ---- leases


def test_an_interrupted_probe_is_given_back(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and without a failure."""

    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "probed_line", interrupted)
    fleet.put(launch())
    answer = fleet.work(code=130)
    assert "giving back" in answer.err
    assert [(row["state"], row["failures"]) for row in fleet.rows()] == [("waiting", 0)]


def test_a_heart_beats_until_it_is_stopped(fleet: Fleet) -> None:
    """Several times in a lease, also while the service is away."""
    described = Launch(model="m", config={}, vllm="0.19.1", platform="cpu")
    claimed = Claimed("a" * 32, "l" * 32, 0.04, described, None)
    heart = Heart(RemoteQueue(fleet.direct), claimed)  # type: ignore[arg-type]
    heart.start()
    until(lambda: len(fleet.direct.asked) > 2, 20)
    heart.stop()
    heart.join(20)
    assert not heart.is_alive()


def test_a_stopped_worker_gives_its_probe_back(serving: Serving, tmp_path: Path) -> None:
    """A real process with a probe under way: its row waits again, no probe is left, and it ends with 130."""
    (tmp_path / "hold").touch()
    fleet_stand_in.hand_back(tmp_path, serving.probed_here(sample(MIXTRAL, "flag-live")))
    token = tokens_in(tmp_path)["write"]
    with live_service(tmp_path, "--store", tmp_path / "s.sqlite", "--write-tokens", token) as live:
        variables = {"TUNER_SERVICE_TOKEN_FILE": str(token), "PATH": "/usr/bin", "HOME": str(tmp_path)}
        remote = RemoteQueue(client.client_of(live.url, variables))
        config = json.loads((MIXTRAL / "config.json").read_text(encoding="utf-8"))
        remote.put([Launch(model="m", config=config, vllm="0.19.1", platform="cpu")], retry=False)
        script = Path(fleet_stand_in.__file__)
        words = [sys.executable, script, tmp_path, "worker", "--service", live.url, "--python", serving.python]
        with subprocess.Popen([*map(str, words)], env=variables, stderr=subprocess.PIPE) as process:
            until(lambda: bool(fleet_stand_in.probed(tmp_path)))
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 130
        assert [row.state for row in remote.rows()] == ["waiting"]


def test_a_lease_is_long_enough_for_a_slow_network() -> None:
    """Of the heartbeats in a lease some may be lost."""
    assert probes.LEASE_S / worker.BEATS * 2 < probes.LEASE_S - 20
