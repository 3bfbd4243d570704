"""Who may ask the service, how much, and what its answers and its log never hold."""

import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from fake_environment import MIXTRAL, Serving
from service_bench import READER, WRITER, Bench, Setting, bearing, bench, launch_request, tokens_in
from starlette.requests import Request

from cache.verdicts.store import VerdictStore
from rules.errors import TunerError
from tuner.service.endpoints import ENDPOINTS, MAX_REQUEST
from tuner.service.limits import BURST_S, BodyMemory, RateLimit, body_of
from tuner.service.refusal import ServiceError
from tuner.service.tokens import TokenFile

OPEN = ("/healthz", "/readyz", "/metrics", "/openapi.json")
KEY = "0" * 64
READ = (
    *("/v1/verdicts", "/v1/changes", "/v1/probes", "/"),
    *(f"/v1/verdicts/{KEY}{end}" for end in ("", "/line", ".html")),
)
WRITE = ("/v1/verdicts", "/v1/probes", "/v1/probes/claim", "/v1/probes/{id}/heartbeat", "/v1/probes/{id}/result")


@pytest.fixture
def guarded(serving: Serving, store: Path, tmp_path: Path) -> Bench:
    """A service with tokens, as it runs with a certificate."""
    serving.store_of(store, MIXTRAL)
    return bench(Setting(store, **tokens_in(tmp_path), loopback_only=False))


def test_every_endpoint_is_covered_here() -> None:
    """Each path is open or needs a token."""
    read = {*READ[:4], *(path.replace(KEY, "{key}") for path in READ[4:]), "/v1/decisions"}
    assert {endpoint.path for endpoint in ENDPOINTS} == {*OPEN, *read, *WRITE, "/v1/admission"}


@pytest.mark.parametrize("path", OPEN)
def test_what_a_cluster_asks_needs_no_token(path: str, guarded: Bench) -> None:
    """Probes of the kubelet, scrapes and the description."""
    assert guarded.client.get(path).status_code == 200


HEADERS = ("", "Bearer", "Bearer ", f"Basic {READER}", f"Bearer {READER}x", f"Bearer {READER[:-1]}")


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("path", READ)
def test_reading_needs_the_right_token(path: str, header: str, guarded: Bench) -> None:
    """Any other header is refused, and the answer says which header to send."""
    answer = guarded.client.get(path, headers={"Authorization": header} if header else {})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("token", [READER, WRITER])
def test_both_tokens_let_read(token: str, guarded: Bench, serving: Serving) -> None:
    """Who may write may also read."""
    statuses = [guarded.client.get(path, headers=bearing(token)).status_code for path in READ]
    assert statuses == [200, 200, 200, 200, 404, 404, 404]
    answer = guarded.client.post("/v1/decisions", json=launch_request(serving), headers=bearing(token))
    assert answer.status_code == 200


@pytest.mark.parametrize("path", WRITE)
def test_writing_needs_the_token_of_a_writer(path: str, guarded: Bench) -> None:
    """A reader's token does not let write; the body is not even looked at."""
    path = path.format(id="0" * 32)
    answers = [guarded.client.post(path, content=b"x", headers=bearing(token)) for token in (READER, WRITER)]
    assert answers[0].status_code == 401
    assert answers[1].status_code in {400, 422}


def test_without_tokens_reading_is_free_and_nobody_writes(serving: Serving, store: Path) -> None:
    """As on a laptop."""
    service = bench(Setting(serving.store_of(store, MIXTRAL)))
    assert service.client.get("/v1/verdicts").status_code == 200
    assert service.client.post("/v1/verdicts", content=b"x").status_code == 403


def test_a_web_page_cannot_lead_a_browser_to_a_laptops_service(serving: Serving, store: Path) -> None:
    """A request that names another host than this machine is refused, although it arrives here."""
    service = bench(Setting(serving.store_of(store, MIXTRAL)))
    answer = service.client.get("/v1/verdicts", headers={"Host": "evil.example:8707"})
    assert answer.status_code == 403
    assert service.client.get("/v1/verdicts", headers={"Host": "localhost:8707"}).status_code == 200


def test_a_token_file_is_read_again_when_it_changes(guarded: Bench, tmp_path: Path) -> None:
    """The old token ends and the new one begins at once; a file that cannot be used lets nobody in."""
    file, new = tmp_path / "read.tokens", "another-token-of-the-team"

    def status(token: str) -> int:
        return guarded.client.get("/v1/changes", headers=bearing(token)).status_code

    assert (status(READER), status(new)) == (200, 401)
    fresh = tmp_path / "fresh"
    fresh.write_text(new, encoding="utf-8")
    os.replace(fresh, file)  # noqa: PTH105  as a rotation does it
    assert (status(READER), status(new)) == (401, 200)
    file.unlink()
    assert (status(new), status(WRITER)) == (401, 200)
    file.write_text(f"{READER}\n", encoding="utf-8")
    assert status(READER) == 200
    assert not [line for line in guarded.log if new in line or READER in line]


@pytest.mark.parametrize(
    ("text", "problem"),
    [("", "no token"), ("# only a comment\n", "no token"), ("short\n", "fewer than 20"), ("ü" * 30, "ASCII")],
)
def test_a_token_file_that_protects_nothing_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    """Before the service starts, without a word of its content."""
    file = tmp_path / "tokens"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TunerError, match=problem) as error:
        TokenFile(file, print)
    assert "short" not in error.value.message.replace("shortest", "")


def test_a_body_is_read_up_to_its_limit(guarded: Bench) -> None:
    """By its stated length before it is sent, and by counting where none is stated; a GET has none at all."""
    content = b"x" * (MAX_REQUEST + 1)
    headers = bearing(READER)
    assert guarded.client.post("/v1/decisions", content=content, headers=headers).status_code == 413
    streamed = guarded.client.post("/v1/decisions", content=iter([content[:-1], b"xx"]), headers=headers)
    assert streamed.status_code == 413
    assert guarded.client.request("GET", "/v1/changes", content=b"x", headers=headers).status_code == 413


def test_an_address_may_ask_so_often(serving: Serving, store: Path) -> None:
    """More gets 429 and when to come again, and the log has it."""
    service = bench(Setting(serving.store_of(store, MIXTRAL), rate=1))
    statuses = [service.client.get("/healthz").status_code for _ in range(5)]
    assert statuses[:2] == [200, 200]
    assert 429 in statuses
    assert [line for line in service.log if " 429 " in line]


def test_the_rate_is_of_each_address_and_comes_back() -> None:
    """A burst, then so many a second; another address is not held up."""
    now = [0.0]
    limit = RateLimit(2, clock=lambda: now[0])
    for _ in range(int(2 * BURST_S)):
        limit.require("a")
    with pytest.raises(ServiceError, match="2 requests a second"):
        limit.require("a")
    limit.require("b")
    now[0] = 0.5
    limit.require("a")
    with pytest.raises(ServiceError):
        limit.require("a")


def test_the_log_has_no_secret(guarded: Bench, serving: Serving) -> None:
    """Neither tokens nor queries nor bodies; what a client put into a path steers no terminal."""
    secret = "sk-secret-of-somebody-here"  # noqa: S105  made up
    request = launch_request(serving, "--api-key", secret, variables={"HF_TOKEN": secret})
    guarded.client.post("/v1/decisions", json=request, headers=bearing(READER))
    guarded.client.get(f"/v1/changes?since={secret}", headers=bearing(secret))
    guarded.client.get("/%1b%5b2J%0aforged", headers=bearing(READER))
    text = "\n".join(guarded.log)
    assert len(guarded.log) == 3
    assert secret not in text
    assert READER not in text
    assert "\x1b" not in text


def test_a_fault_of_the_service_is_no_traceback(
    guarded: Bench, monkeypatch: pytest.MonkeyPatch, serving: Serving
) -> None:
    """The client gets 500 and a sentence; the log names the place, without what the client sent."""

    def broken(*_: object) -> None:
        raise ValueError("with the client's words")

    monkeypatch.setattr("tuner.service.endpoints.decide_launch", broken)
    answer = guarded.client.post("/v1/decisions", json=launch_request(serving), headers=bearing(READER))
    assert (answer.status_code, answer.json()["error"]["kind"]) == (500, "service")
    assert "client's words" not in answer.text + "".join(guarded.log)
    assert "ValueError at" in guarded.log[0]


def test_a_store_that_cannot_be_used_is_said_to_the_log_alone(guarded: Bench, store: Path) -> None:
    """The client gets 503 without a path of this machine; the service is alive and not ready."""
    store.write_bytes(b"no database, of more than sixteen bytes")
    answer = guarded.client.get("/v1/verdicts", headers=bearing(READER))
    assert answer.status_code == 503
    assert str(store) not in answer.text
    assert str(store) in "".join(guarded.log)
    assert [guarded.client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]


def test_a_service_begins_without_a_store(store: Path) -> None:
    """A missing file is an empty store, which is ready, and is not made by reading."""
    service = bench(Setting(store))
    assert service.client.get("/readyz").status_code == 200
    assert service.get("/v1/verdicts")["verdicts"] == []
    assert not VerdictStore(store).path.exists()


def test_half_a_surrogate_pair_is_the_clients_fault(guarded: Bench, serving: Serving) -> None:
    """JSON can spell it, and UTF-8 cannot; it may stand in any word of a request."""
    request = launch_request(serving)
    environment = request["environment"]["environment"]
    words = [name for name, value in environment.items() if isinstance(value, str)]
    bad = [{**request, "environment": {"environment": {**environment, name: "\ud800"}}} for name in words]
    bad += [{**request, "cache_dir_in": "\ud800"}, {**request, "arguments": ["\ud800"]}, {"\ud800": 1}]
    answers = [
        guarded.client.post("/v1/decisions", content=json.dumps(body), headers=bearing(READER)).status_code
        for body in bad
    ]
    assert len(words) > 5
    assert set(answers) <= {200, 404, 422}
    assert answers[-3] == answers[-1] == 422


def test_no_answer_leads_elsewhere(guarded: Bench) -> None:
    """A path with a slash too many is not there; a redirection would name whatever host the client named."""
    headers = {**bearing(READER), "Host": "evil.example"}
    assert guarded.client.get("/v1/verdicts/", headers=headers, follow_redirects=False).status_code == 404


@pytest.mark.parametrize("host", ["[", "[::1", "a]b"])
def test_a_host_that_is_none_breaks_nothing(host: str, serving: Serving, store: Path) -> None:
    """It is refused, or stands for none; Starlette's releases differ there."""
    service = bench(Setting(serving.store_of(store, MIXTRAL)))
    assert service.client.get("/v1/verdicts", headers={"Host": host}).status_code in {200, 403}


def test_what_is_not_there_counts_against_the_rate(serving: Serving, store: Path) -> None:
    """So that nobody asks for it without an end."""
    service = bench(Setting(serving.store_of(store, MIXTRAL), rate=1))
    statuses = [service.client.get("/no-such").status_code for _ in range(5)]
    assert statuses[0] == 404
    assert 429 in statuses


def test_all_bodies_together_are_bounded() -> None:
    """What is beyond it is refused, whatever one request may send; an answer makes room, and so does a failure."""
    memory = BodyMemory(most=100)

    async def read(*sizes: int, limit: int = 1000) -> int:
        parts = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]
        parts.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive() -> dict[str, Any]:
            return parts.pop(0)

        async with body_of(Request({"type": "http", "method": "POST", "headers": []}, receive), limit, memory) as body:
            assert memory.held == len(body)
            return len(body)

    async def refused(*sizes: int, limit: int = 1000) -> int:
        try:
            return await read(*sizes, limit=limit)
        except ServiceError as error:
            return error.status

    async def all_of_them() -> list[int]:
        return [await read(60), await refused(60, 60), await refused(60, 60, limit=70), await read(40, 60)]

    assert anyio.run(all_of_them) == [60, 503, 413, 100]
    assert memory.held == 0
