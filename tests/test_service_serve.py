"""`tuner serve --service URL`: the service decides, then the store here, then the rules of the release."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_environment import ERNIE, LLAMA, MIXTRAL, SETTABLE, Serving, also_proved, sample, serving_in, tuner
from live_service import Live, live_service, write_pair
from service_bench import READER, tokens_in

from tuner.arguments.serve_arguments import parse
from tuner.model.model import identify
from tuner.service.asking import launch_words, sent_variables
from tuner.verdicts.identity import Subject

PROVED = ["--max-model-len", "4096"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[Serving, Path]:
    """An environment, and a store of a service that knows two models; the first one also in another launch."""
    folder = tmp_path_factory.mktemp("service")
    serving = serving_in(folder / "env", SETTABLE)
    store = folder / "verdicts.sqlite"
    serving.remember(store, MIXTRAL, also_proved(sample(MIXTRAL, "flag-live"), PROVED))
    serving.store_of(store, ERNIE)
    return serving, store


@pytest.fixture(scope="module")
def live(place: tuple[Serving, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The service, which runs."""
    with live_service(tmp_path_factory.mktemp("log"), "--store", place[1]) as live:
        yield live


class Stub:
    """A server that answers every request with the same."""

    def __init__(self, answer: bytes, seconds: float = 0) -> None:
        self.asked: list[tuple[str, bytes]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                stub.asked.append((self.path, body))
                time.sleep(seconds)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def serve(place: tuple[Serving, Path], *args: object, service: str, store: Path | None = None, **env: str) -> Any:
    """What a node would start, with a store of its own or none."""
    own = ("--python", place[0].python, "--store", store or "/nowhere/store", "--dry-run")
    return tuner("serve", *own, *args, env={"TUNER_SERVICE": service, "TUNER_CACHE_ROOT": "", **env}, code=0)


@pytest.mark.parametrize(("model", "args"), [(MIXTRAL, []), (MIXTRAL, PROVED), (ERNIE, [])])
def test_the_service_decides_as_the_store_would(
    model: Path, args: list[str], live: Live, place: tuple[Serving, Path]
) -> None:
    """The same command, by the option as by the variable, and stderr names the service."""
    words = [model, *args, "--port", "8001"]
    by_store = tuner("serve", "--python", place[0].python, "--store", place[1], "--dry-run", *words, code=0)
    asked = serve(place, *words, service=live.url)
    by_option = tuner(
        "serve", "--service", live.url, "--python", place[0].python, "--store", "/nowhere", "--dry-run", *words, code=0
    )
    assert asked.out.split("vllm")[-1] == by_store.out.split("vllm")[-1]
    assert by_option.out == by_store.out
    assert f"tuner: the service {live.url} decides\n" in asked.err


def test_what_the_service_does_not_know_the_store_here_decides(
    live: Live, place: tuple[Serving, Path], tmp_path: Path
) -> None:
    """And each step is named."""
    store = place[0].store_of(tmp_path / "own.sqlite", LLAMA)
    answer = serve(place, LLAMA, service=live.url, store=store)
    assert "has no verdict; the store here is asked" in answer.err
    assert "the model has no MoE layers" in answer.err
    assert "the rules of this vLLM release decide" not in answer.err


def test_without_any_verdict_the_rules_decide(live: Live, place: tuple[Serving, Path]) -> None:
    """The safe value, and three steps on stderr."""
    answer = serve(place, LLAMA, service=live.url)
    assert '"fast_moe_cold_start": false' in answer.out
    steps = ["has no verdict", "the rules of this vLLM release decide", "fast_moe_cold_start=false"]
    assert [next(at for at, line in enumerate(answer.err.splitlines()) if step in line) for step in steps] == [0, 1, 2]


@pytest.mark.parametrize("service", ["http://127.0.0.1:1", "nonsense", "http://elsewhere.example.com", "https://u:p@h"])
def test_a_service_that_cannot_be_asked_holds_nothing_up(service: str, place: tuple[Serving, Path]) -> None:
    """The server starts by the store here, and the reason is said without a password."""
    answer = serve(place, MIXTRAL, service=service, store=place[1])
    assert '"fast_moe_cold_start": true' in answer.out
    assert "the store here is asked" in answer.err
    assert "u:p" not in answer.err


def test_a_service_that_hangs_is_waited_for_three_seconds(place: tuple[Serving, Path]) -> None:
    """Then the store here decides."""
    stub = Stub(b"{}", seconds=20)
    begin = time.monotonic()
    answer = serve(place, MIXTRAL, service=stub.url, store=place[1])
    assert 2.5 < time.monotonic() - begin < 5.5
    assert "no whole answer within 3.0 s" in answer.err
    assert '"fast_moe_cold_start": true' in answer.out


def decision(place: tuple[Serving, Path], model: Path = MIXTRAL, *args: str) -> dict[str, Any]:
    """A right answer."""
    where = ("--python", place[0].python, "--store", place[1])
    document: dict[str, Any] = tuner("export", model, *where, "--", *args, code=0).document
    return document


def forged(place: tuple[Serving, Path], what: str) -> bytes:
    """An answer that must not be believed."""
    document = decision(place)
    if what == "no JSON":
        return b"<html>"
    if what == "a list":
        return b"[]"
    if what == "another model":
        document["model"]["fingerprint"] = "0" * 64
    elif what == "another launch":
        document = decision(place, MIXTRAL, *PROVED)
    elif what == "no proof":
        document["launch"]["env"] = {}
    elif what == "no evidence":
        document["evidence"] = None
    return json.dumps(document).encode()


@pytest.mark.parametrize("what", ["no JSON", "a list", "another model", "another launch", "no proof", "no evidence"])
def test_a_wrong_answer_is_not_believed(what: str, place: tuple[Serving, Path]) -> None:
    """The flag stays off: the answer decides another launch, or nothing behind it can be compared with what is here."""
    stub = Stub(forged(place, what))
    answer = serve(place, MIXTRAL, service=stub.url)
    assert '"fast_moe_cold_start": false' in answer.out
    assert "the store here is asked" in answer.err


def test_a_verdict_on_other_files_does_not_decide(live: Live, place: tuple[Serving, Path], tmp_path: Path) -> None:
    """A vLLM of the same version whose files were changed is another one."""
    other = serving_in(tmp_path / "other", SETTABLE)
    other.remember(tmp_path / "other.sqlite", MIXTRAL)
    file = next(name for name in sample(MIXTRAL, "flag-live")["sources"])
    other.write(file, "# changed\n")
    answer = serve((other, place[1]), MIXTRAL, service=live.url)
    assert "files behind its verdict" in answer.err
    assert '"fast_moe_cold_start": false' in answer.out


def test_no_secret_is_sent(place: tuple[Serving, Path]) -> None:
    """Neither in arguments nor in variables; what tells the launch is."""
    stub = Stub(b"{}")
    secret = "hf_" + "s" * 30
    args = ["--api-key", secret, "--max-model-len", "4096"]
    serve(place, MIXTRAL, *args, service=stub.url, HF_TOKEN=secret, VLLM_API_KEY=secret, VLLM_USE_V1="1")
    ((path, body),) = stub.asked
    request = json.loads(body)
    assert path == "/v1/decisions"
    assert secret.encode() not in body
    assert request["arguments"] == [str(MIXTRAL), "--max-model-len", "4096"]
    assert request["variables"]["VLLM_USE_V1"] == "1"
    unasked = serve(place, MIXTRAL, "--some-option", f"Bearer {secret}", service=stub.url)
    assert "looks like a secret" in unasked.err
    assert len(stub.asked) == 1


def test_what_is_sent_tells_the_launch(place: tuple[Serving, Path]) -> None:
    """The identity and the compilation config, whatever their spelling."""
    args = ["m", "-cc.mode=0", "--model-impl=vllm", "--port", "1", "--revision", "r", "--enforce-eager"]
    subject = Subject(identify(str(MIXTRAL)), place[0].read(), "vllm", trust_remote_code=True)
    words = launch_words(subject, parse(args))
    assert words[1:] == [
        "--model-impl", "vllm", "--trust-remote-code", "--enforce-eager", "--compilation-config", '{"mode": 0}',
    ]  # fmt: skip
    assert sent_variables({"PATH": "/bin", "HOME": "/h", "VLLM_X": "1", "VLLM_API_KEY": "secret-word"}) == {
        "HOME": "/h",
        "VLLM_X": "1",
    }


def test_a_service_with_a_certificate_is_asked_with_a_token(place: tuple[Serving, Path], tmp_path: Path) -> None:
    """Two variables name the token and the certificate that is trusted; without one of them the store decides."""
    crt, key = write_pair(tmp_path / "served")
    tokens = tokens_in(tmp_path)
    options = ("--store", place[1], "--certificate", crt, "--key", key, "--read-tokens", tokens["read"])
    token = tmp_path / "token"
    token.write_text(READER, encoding="utf-8")
    names = {"TUNER_SERVICE_TOKEN_FILE": str(token), "TUNER_SERVICE_CA": str(crt)}
    with live_service(tmp_path, *options, certificate=crt) as live:
        right = serve(place, MIXTRAL, service=live.url, **names)
        assert f"the service {live.url} decides" in right.err
        for missing, problem in (("TUNER_SERVICE_TOKEN_FILE", "answers 401"), ("TUNER_SERVICE_CA", "CERTIFICATE")):
            left = {name: value for name, value in names.items() if name != missing}
            assert problem in serve(place, MIXTRAL, service=live.url, **left).err
