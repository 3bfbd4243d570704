"""`tuner service run`: what it refuses to start with, and a real one over TCP and TLS."""

import json
import signal
import sys
from contextlib import closing, suppress
from datetime import datetime, timedelta, tzinfo
from http.client import HTTPException
from pathlib import Path
from threading import Timer

import pytest
from fake_environment import MIXTRAL, Serving, tuner
from live_service import live_service, served_number, until, write_pair
from service_bench import READER, WRITER, bearing, launch_request, tokens_in

from cache.verdicts.store import VerdictStore
from tuner.service.certificate import Certificate

CATALOGUE = Path(__file__).parents[1] / "docs" / "catalogue" / "vllm-0.19.1-cpu.jsonl"


def refused(*options: object, code: int) -> str:
    """What the command says when it does not start."""
    answer = tuner("service", "run", *options, code=code)
    assert answer.out == ""
    return answer.err


def test_without_a_certificate_only_this_machine_is_served(store: Path) -> None:
    """Another address is refused, and so is half a certificate."""
    assert "listens on this machine alone" in refused("--store", store, "--host", "0.0.0.0", code=2)  # noqa: S104
    assert "belong together" in refused("--store", store, "--certificate", "x.crt", code=2)


def test_a_certificate_without_tokens_is_refused(store: Path, tmp_path: Path) -> None:
    """Whoever opens a service to others says who may read."""
    crt, key = write_pair(tmp_path / "a")
    assert "need tokens" in refused("--store", store, "--certificate", crt, "--key", key, code=2)


def test_a_certificate_that_does_not_fit_is_refused(store: Path, tmp_path: Path) -> None:
    """The key of another one, one that has expired or is not valid yet, and no certificate at all."""
    crt, key = write_pair(tmp_path / "a")
    other, _ = write_pair(tmp_path / "b")
    old, old_key = write_pair(tmp_path / "old", days=-1, begun=2)
    new, new_key = write_pair(tmp_path / "new", days=2, begun=-1)
    text = tmp_path / "text"
    text.write_text("no certificate", encoding="utf-8")
    common = ("--store", store, "--read-tokens", tokens_in(tmp_path)["read"])
    for pair in ((other, key), (old, old_key), (new, new_key), (text, key), (crt, text), (tmp_path / "none", key)):
        said = refused(*common, "--certificate", pair[0], "--key", pair[1], code=1)
        assert "certificate" in said
        assert "Traceback" not in said


def test_a_missing_file_is_named(store: Path, tmp_path: Path) -> None:
    """Tokens and the folder of models are looked at before anything is served."""
    assert "cannot be read" in refused("--store", store, "--write-tokens", tmp_path / "none", code=1)
    assert "is no folder" in refused("--store", store, "--configs", tmp_path / "none", code=2)


def test_a_store_that_is_none_is_refused(store: Path) -> None:
    """At the start, and not at the first request."""
    store.write_bytes(b"no database, of more than sixteen bytes")
    assert "is damaged" in refused("--store", store, code=1)


def test_a_laptops_service_decides_by_the_local_store(serving: Serving, store: Path, tmp_path: Path) -> None:
    """One command and no token; a taken port is named; it ends when it is told to."""
    serving.store_of(store, MIXTRAL)
    with live_service(tmp_path, "--store", store) as live, closing(live.connection()) as connection:
        connection.request("POST", "/v1/decisions", json.dumps(launch_request(serving)))
        answer = json.loads(connection.getresponse().read())
        assert answer["launch"]["compilation_config"] == {"fast_moe_cold_start": True}
        assert "cannot listen" in refused("--store", store, "--port", live.port, code=1)
        assert live.stop() == -signal.SIGTERM
        assert "POST /v1/decisions 200" in live.log.read_text(encoding="utf-8")


def test_a_certificate_is_exchanged_while_it_serves(serving: Serving, store: Path, tmp_path: Path) -> None:
    """New connections see the new one, old ones go on; a pair that does not fit is left alone."""
    serving.store_of(store, MIXTRAL)
    crt, key = write_pair(tmp_path / "served", number=11)
    trusted = tmp_path / "trusted.crt"
    trusted.write_bytes(crt.read_bytes())
    options = ("--store", store, "--certificate", crt, "--key", key, "--read-tokens", tokens_in(tmp_path)["read"])
    with live_service(tmp_path, *options, certificate=trusted) as live, closing(live.connection()) as old:
        assert (live.get("/v1/changes")[0], live.get("/v1/changes", READER)[0]) == (401, 200)
        old.request("GET", "/healthz")
        assert old.getresponse().read()
        write_pair(tmp_path / "served", number=12)
        until(lambda: served_number(live.port) == 12)
        old.request("GET", "/healthz")
        assert old.getresponse().status == 200
        trusted.write_bytes(crt.read_bytes())
        assert b"tuner_certificate_expires_timestamp_seconds 1" in live.get("/metrics")[1]


def test_no_acknowledged_verdict_is_lost_when_the_service_is_killed(store: Path, tmp_path: Path) -> None:
    """What a client read as stored is stored, whenever the process is killed; the next start finds a whole store."""
    lines = CATALOGUE.read_bytes().splitlines(keepends=True)
    options = ("--store", store, "--write-tokens", tokens_in(tmp_path)["write"])
    acknowledged: list[str] = []
    with live_service(tmp_path, *options) as live, closing(live.connection()) as connection:
        killer = Timer(0.05, live.process.kill)
        with suppress(OSError, HTTPException):
            for line in lines:
                connection.request("POST", "/v1/verdicts", line, bearing(WRITER))
                answer = connection.getresponse()
                assert (answer.status, json.loads(answer.read())["imported"]["new"]) == (200, 1)
                acknowledged.append(json.loads(line)["digest"])
                if len(acknowledged) == 3:
                    killer.start()
        killer.join()
    stored = {entry.digest for entry in VerdictStore(store).entries()}
    assert acknowledged
    assert set(acknowledged) <= stored
    assert len(stored) <= len(acknowledged) + 1


def test_a_certificate_whose_time_has_not_come_is_taken_when_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the system's clock was wrong while the files were exchanged. The log says so once."""
    crt, key = write_pair(tmp_path / "served", number=1)
    log: list[str] = []
    certificate = Certificate(crt, key, log.append)
    before = certificate.expires
    write_pair(tmp_path / "served", days=3, begun=-1, number=2)
    certificate.refresh()
    certificate.refresh()
    assert certificate.expires == before
    assert [line for line in log if "is not valid now" in line] == log
    assert len(log) == 1

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr("tuner.service.certificate.datetime", Tomorrow)
    certificate.refresh()
    assert certificate.expires > before
    assert "read again" in log[-1]


def test_a_pair_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    """Whatever is wrong with the new files, and the log says so once."""
    crt, key = write_pair(tmp_path / "served")
    log: list[str] = []
    certificate = Certificate(crt, key, log.append)
    expires = certificate.expires
    other, _ = write_pair(tmp_path / "other")
    for damage in (other.read_bytes(), b"", b"no certificate"):
        crt.write_bytes(damage)
        certificate.refresh()
        certificate.refresh()
        assert certificate.expires == expires
    assert len(log) == 3
    assert all("stays in use" in line for line in log)
    write_pair(tmp_path / "served", days=3)
    certificate.refresh()
    assert certificate.expires > expires
    assert certificate.valid


def test_the_extra_is_named_where_it_is_missing(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says what to install."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "tuner.service.server", raising=False)
    assert "vllm-moe-tuner[service]" in refused("--store", store, code=1)
