"""request -> service: whatever is sent, it is answered below 500, in JSON, and nothing is stored.

The service demands signatures, and each bundle that is sent is signed with another key. Requests reach the application
as uvicorn hands them on, so also with bytes in paths, queries and headers that a client's library would not send.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fake_environment import ERNIE, LLAMA, MIXTRAL, MODELS, SETTABLE, serving_in
from hypothesis import strategies as st
from service_bench import READER, WRITER, Bench, Setting, bench, launch_request, named_request, tokens_in
from signing_keys import make_keys

from cache.verdicts.queue import ProbeQueue
from cache.verdicts.store import VerdictStore
from fuzz.limit import limited
from fuzz.mutate import TEXTS, Draw, Places, by_depth, bytes_mutated, json_text, mutated, paths, text_mutated
from tuner.environment.document import environment_document
from tuner.exchange.sent_line import sign_line
from tuner.exchange.signing import Signer
from tuner.exchange.transfer import export
from tuner.manifests.managed import LABEL, MANAGED
from tuner.service.endpoint import Access, Endpoint
from tuner.service.endpoints import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable

BEARERS = (
    None,
    *(f"Bearer {token}" for token in (READER, WRITER, READER[:-1], WRITER + "x", "\xff" * 20, "")),
    "Basic x",
)
"""Values of the header with the token, right ones among them."""
IDS = ("0" * 64, "0" * 64, "abcdef01", "%00", "%ff", "..", "x" * 3000, "a%0ab")
"""Of a verdict or a probe, in a path."""
BODIES_OF = {"decision": ("/decisions", "/probes"), "bundle": ("/verdicts", "/result"), "review": ("/admission",)}
"""Kind of a body -> the ends of the paths that take it; any other path is sent any."""
REVIEW = {
    "apiVersion": "admission.k8s.io/v1",
    "kind": "AdmissionReview",
    "request": {
        "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "object": {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "a", "labels": {LABEL: MANAGED}},
            "spec": {"containers": [{"name": "vllm", "image": "vllm/vllm-openai:v0.19.1", "args": ["m"]}]},
        },
    },
}


@dataclass(frozen=True)
class Body:
    """A body that is whole: its value, and where everything in it stands; of a bundle, its lines."""

    kind: str
    value: Any
    places: Places


@dataclass(frozen=True)
class Ground:
    """A service, the number of its latest change, and bodies that mean something to it."""

    service: Bench
    change: int
    bodies: tuple[Body, ...]


def ground(folder: Path) -> Ground:
    """A service with three verdicts, of which one more line is known elsewhere."""
    serving = serving_in(folder / "env", SETTABLE)
    store = serving.store_of(folder / "verdicts.sqlite", MIXTRAL, LLAMA)
    _, public = make_keys(folder / "team")
    other, _ = make_keys(folder / "other")
    tokens = tokens_in(folder)
    service = bench(Setting(store, MODELS, public, **tokens, rate=10**9, loopback_only=False))
    elsewhere = serving.store_of(folder / "elsewhere.sqlite", ERNIE)
    (line,) = export(VerdictStore(elsewhere), [], None).text.splitlines(keepends=True)
    environment = environment_document(serving.read())
    values: list[tuple[str, Any]] = [
        ("decision", launch_request(serving, "--max-model-len", "4096", variables={"VLLM_USE_V1": "1"})),
        ("decision", named_request(serving, ["mistralai/Mixtral-8x7B-v0.1"])),
        ("decision", {"launches": [launch_request(serving)]}),
        ("decision", {"worker": "w", "environment": environment}),
        ("bundle", json.loads(line)),
        ("bundle", json.loads(sign_line(line, Signer(other, str)))),
        ("review", REVIEW),
        ("other", {"lease": "0" * 32, "message": "it failed"}),
    ]
    bodies = tuple(Body(kind, value, by_depth(paths(value))) for kind, value in values)
    return Ground(service, VerdictStore(store).newest_change(), bodies)


def case(draw: Draw, ground: Ground, endpoint: Endpoint | None = None) -> str:
    """Send one request, to this endpoint or any, and hold the answer against the promises."""
    endpoint = endpoint or draw(st.sampled_from(ENDPOINTS))
    headers = drawn_headers(draw)
    body = drawn_body(draw, ground, endpoint)
    method = draw(st.sampled_from([endpoint.method] * 30 + ["HEAD", "PUT", "DELETE", "\xff"]))
    ground.service.log.clear()
    with limited():
        answer = sent(ground.service, method, drawn_target(draw, endpoint), headers, body)
    require_answer(answer, ground)
    writes = endpoint.access is Access.WRITE or any(name in endpoint.writing for name in endpoint.query)
    require_nothing_stored(ground, may_queue=writes)
    return f"{endpoint.method} {endpoint.path.split('/')[-1]} {answer.status}"


def drawn_headers(draw: Draw) -> list[tuple[bytes, bytes]]:
    """Headers with a token of any kind, and others that the service looks at."""
    bearer = draw(st.sampled_from(BEARERS[1:3] * 8 + BEARERS))
    odd = st.sampled_from([None] * 6 + [b"0", b"-1", b"9" * 40, b"*", b'W/"x", ,', b"\xff"])
    drawn = {
        b"host": draw(st.sampled_from([b"127.0.0.1"] * 4 + [b"[", b"a:b:c", b"", b"\xff"])),
        b"authorization": None if bearer is None else bearer.encode("latin-1"),
        **{name: draw(odd) for name in (b"content-length", b"if-none-match", b"accept-encoding")},
    }
    return [(name, value) for name, value in drawn.items() if value is not None]


def drawn_target(draw: Draw, endpoint: Endpoint) -> bytes:
    """A path with values for its variables, and a query."""
    path = endpoint.path
    for name in ("{key}", "{id}"):
        path = path.replace(name, draw(st.sampled_from(IDS)))
    names = st.sampled_from([*endpoint.query] * 8 + ["no_such", "%ff"])
    values = st.sampled_from(["0", "1", "-1", "9" * 30, "true", "verdict", "%00", "%ff", "&", "x" * 3000, "%2e%2e"])
    query = "&".join(f"{draw(names)}={draw(values)}" for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2]))))
    if draw(st.sampled_from([True] + [False] * 9)):
        path = draw(st.sampled_from(["/", "//", "/v1", path + "/", "/%2e%2e/etc/passwd", "/\xff"]))
    return f"{path}?{query}".encode("latin-1")


def drawn_body(draw: Draw, ground: Ground, endpoint: Endpoint) -> bytes:
    """A body of the kind that the endpoint takes, damaged or not; sometimes of another."""
    if not endpoint.limit and draw(st.sampled_from([True, True, True, False])):
        return b""
    fitting = [body for body in ground.bodies if endpoint.path.endswith(BODIES_OF.get(body.kind, ()))]
    body = draw(st.sampled_from(fitting * 4 + list(ground.bodies)))
    way = draw(st.sampled_from(["whole", "value", "value", "value", "text", "bytes", "none", "hostile"]))
    if way in {"none", "hostile"}:
        return b"" if way == "none" else draw(st.sampled_from(HOSTILE_BODIES))
    if way == "value":
        return json_text(mutated(draw, body.value, body.places)).encode()
    text = json_text(body.value)
    if way == "text":
        return text_mutated(draw, text).encode("utf-8", "surrogatepass")
    return bytes_mutated(draw, text.encode()) if way == "bytes" else text.encode() + b"\n"


HOSTILE_BODIES = [
    b"[" * 100_000,
    b'{"a":' * 1000 + b"1" + b"}" * 1000,
    b'{"arguments": ["a"], "arguments": ["b"]}',
    b"\n" * 1000,
    b"\xff\xfe",
    b"1e999",
    *(json.dumps(text).encode() for text in TEXTS[:3]),
]


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


def sent(service: Bench, method: str, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Answered:
    """Send a request to the application as uvicorn does, in two parts."""
    raw_path, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8707),
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "method": method,
        "root_path": "",
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": query,
        "headers": headers,
    }
    parts = [
        {"type": "http.request", "body": body[: len(body) // 2], "more_body": True},
        {"type": "http.request", "body": body[len(body) // 2 :], "more_body": False},
    ]
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    app: Callable[..., Any] = service.client.app
    asyncio.run(app(scope, receive, send))
    whole = b"".join(message.get("body", b"") for message in messages[1:])
    return Answered(messages[0]["status"], dict(messages[0]["headers"]), whole)


def require_answer(answer: Answered, ground: Ground) -> None:
    """A status below 500, a JSON document with a sentence for each failure, and no path, token or traceback."""
    assert answer.status < 500, (answer.status, answer.body[:300], ground.service.log)
    if answer.status >= 400 and answer.body:
        error = json.loads(answer.body)["error"]
        assert error["message"].strip()
        assert error["kind"]
    for secret in (str(ground.service.state.store.path), "Traceback", READER, WRITER):
        assert secret.encode() not in answer.body
    log = ground.service.log
    assert all(line.isprintable() for line in log), log
    assert not any(READER in line or WRITER in line or " failed: " in line for line in log), log


def require_nothing_stored(ground: Ground, *, may_queue: bool) -> None:
    """No verdict came in; a launch may have been queued by who may write, and is taken out again."""
    store = ground.service.state.store
    assert store.newest_change() == ground.change
    queue = ProbeQueue(store.path)
    if rows := queue.rows():
        assert may_queue
        queue.remove([row.id for row in rows])
