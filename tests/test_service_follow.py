"""`tuner service run --follow URL`: a replica has what its source has, whatever happens in between."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, Serving, sample, tuner
from live_service import live_service, until
from service_bench import Bench, Setting, bench

from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from tuner.service.client import Answer
from tuner.service.follow import Follower


def unchanged(answer: Answer) -> Answer:
    """The answer of a source that is well."""
    return answer


class Source:
    """Stands for the client of a service that runs in this process."""

    name = "writer:8707"

    def __init__(self, service: Bench) -> None:
        self.service = service
        self.change = unchanged

    def ask(self, method: str, path: str) -> Answer:
        """As `Client.ask`."""
        answer = self.service.client.request(method, path)
        return self.change(Answer(answer.status_code, dict(answer.headers), answer.content))


@pytest.fixture
def source(serving: Serving, store: Path) -> Source:
    """A service with three verdicts."""
    serving.store_of(store, MIXTRAL, LLAMA, ERNIE)
    return Source(bench(Setting(store)))


@pytest.fixture
def copy(tmp_path: Path) -> VerdictStore:
    """The store of the replica, empty."""
    return VerdictStore(tmp_path / "copy.sqlite")


def caught_up(follower: Follower) -> None:
    """Take every change that there is."""
    while follower.step():
        pass


def digests(store: VerdictStore) -> set[str]:
    """The keys of a store."""
    return {entry.digest for entry in store.entries()}


def reports(store: VerdictStore) -> list[Any]:
    """What a store holds, but for where it came from."""
    return [entry.report for entry in store.entries()]


def test_a_replica_gets_every_verdict(source: Source, copy: VerdictStore, store: Path) -> None:
    """The same reports under the same keys, marked as imported from the source, and then it is ready."""
    follower = Follower(source, copy, print)  # type: ignore[arg-type]
    assert not follower.followed_at
    caught_up(follower)
    assert follower.followed_at
    assert digests(copy) == digests(VerdictStore(store))
    assert {entry.provenance["imported_from"] for entry in copy.entries() if entry.provenance} == {
        "the service writer:8707"
    }


def test_a_change_replaces_what_the_replica_had(
    source: Source, copy: VerdictStore, store: Path, serving: Serving
) -> None:
    """A verdict that the source stores anew is the one that the replica answers with."""
    follower = Follower(source, copy, print)  # type: ignore[arg-type]
    caught_up(follower)
    report = sample(MIXTRAL, "flag-live")
    serving.remember(store, MIXTRAL, {**report, "seconds": {**report["seconds"], "total": 1.5}})
    caught_up(follower)
    assert reports(copy) == reports(VerdictStore(store))


def test_what_was_probed_beside_the_replica_stays(source: Source, copy: VerdictStore, serving: Serving) -> None:
    """As with `tuner verdicts import`."""
    own, _ = serving.remember(copy.path, MIXTRAL)
    caught_up(Follower(source, copy, print))  # type: ignore[arg-type]
    kept = copy.get(own.key)
    assert kept is not None
    assert kept.provenance is None


def test_a_source_that_is_away_is_waited_for(source: Source, copy: VerdictStore) -> None:
    """It is said once, and nothing is lost when it is back."""
    log: list[str] = []
    follower = Follower(source, copy, log.append)  # type: ignore[arg-type]

    def away(_: Answer) -> Answer:
        raise TunerError("It is away.", kind=ErrorKind.SERVICE)

    source.change = away
    assert [follower.step() for _ in range(3)] == [False] * 3
    source.change = unchanged
    caught_up(follower)
    assert log == ["following stops: It is away.", "following writer:8707 again"]
    assert len(digests(copy)) == 3


def test_another_feed_is_read_from_its_beginning(source: Source, copy: VerdictStore) -> None:
    """A source that started again may have another store, whose numbers mean other changes."""
    follower = Follower(source, copy, print)  # type: ignore[arg-type]
    caught_up(follower)
    for digest in digests(copy):
        copy.forget(digest)
    caught_up(follower)
    assert digests(copy) == set()
    source.change = lambda answer: Answer(answer.status, {**answer.headers, "tuner-feed": "another"}, answer.body)
    caught_up(follower)
    assert len(digests(copy)) == 3


def test_a_damaged_change_does_not_hold_up_the_others(source: Source, copy: VerdictStore) -> None:
    """It is named in the log, and left out."""
    log: list[str] = []

    def damage(answer: Answer) -> Answer:
        lines = answer.body.splitlines()
        if not lines:
            return answer
        item = json.loads(lines[1])
        item["line"] = item["line"].replace("MoE", "MOE").replace('"rules":"', '"rules":"0')
        return Answer(answer.status, answer.headers, b"\n".join([lines[0], json.dumps(item).encode(), *lines[2:]]))

    source.change = damage
    caught_up(Follower(source, copy, log.append))  # type: ignore[arg-type]
    assert len(digests(copy)) == 2
    assert len(log) == 1
    assert "is left out" in log[0]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"no JSON\n", {"tuner-next": "1"}),
        (b"[]\n", {"tuner-next": "1"}),
        (b'{"sequence": "1", "line": ""}\n', {"tuner-next": "1"}),
        (b"", {}),
        (b"", {"tuner-next": "-1"}),
        (b"", {"tuner-next": "9" * 5000}),
    ],
)
def test_what_is_no_feed_stores_nothing(
    body: bytes, headers: dict[str, str], source: Source, copy: VerdictStore
) -> None:
    """It is said, and the replica asks again later."""
    log: list[str] = []
    source.change = lambda _: Answer(200, headers, body)
    follower = Follower(source, copy, log.append)  # type: ignore[arg-type]
    assert not follower.step()
    assert "is no feed" in log[0]
    assert not follower.followed_at
    assert digests(copy) == set()


def test_a_real_replica_follows_a_real_service(serving: Serving, store: Path, tmp_path: Path) -> None:
    """It answers as its source does, goes on when that is killed, and catches up with one that starts again."""
    serving.store_of(store, MIXTRAL)
    copy = tmp_path / "copy.sqlite"
    with (
        live_service(tmp_path, "--store", store) as writer,
        live_service(tmp_path, "--store", copy, "--follow", writer.url) as replica,
    ):
        until(lambda: replica.get("/readyz")[0] == 200)
        writer.process.kill()
        writer.process.wait()
        rows = json.loads(replica.get("/v1/verdicts")[1])["verdicts"]
        assert [row["factors"]["architecture"] for row in rows] == ["MixtralForCausalLM"]
        serving.store_of(store, LLAMA)
        with live_service(tmp_path, "--store", store, port=writer.port):
            until(lambda: len(json.loads(replica.get("/v1/verdicts")[1])["verdicts"]) == 2)
        assert b"tuner_followed_timestamp_seconds 1" in replica.get("/metrics")[1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--follow", "http://writer.example.com"], "without encryption"),
        (["--follow", "ftp://writer"], "is no address"),
        (["--follow", "https://user:word@writer"], "is no address"),
        (["--follow", "https://writer", "--write-tokens", "x"], "takes no bundles"),
    ],
)
def test_a_replica_that_cannot_be_is_refused(options: list[str], problem: str, store: Path) -> None:
    """Before it starts, and without a password in the sentence."""
    said = tuner("service", "run", "--store", store, *options, code=2).err
    assert problem in said
    assert "word" not in said
