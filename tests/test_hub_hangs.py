"""A hub that hangs: `tuner serve` starts all the same, within 3 seconds; other commands say that they wait, and end.

The hub is a real socket that answers too slowly or not at all.
"""

import gzip
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import huggingface_hub.constants
import pytest
from fake_environment import OURS, QWEN, Serving
from stand_in_server import CODE, config_in, facts_of, with_server

from rules.errors import TunerError
from tuner.model import patience
from tuner.model.hub import snapshot
from tuner.model.hub_answer import Question, TooLargeError, UnusableAnswerError
from tuner.model.patience import NoAnswerInTimeError, answer_of, at_most, telling

ROOT = Path(__file__).parents[1]
HEADERS = f'X-Repo-Commit: {"a" * 40}\r\nETag: "0123"\r\n'
SAFE = {"fast_moe_cold_start": False}


def silent(connection: socket.socket, ended: Event) -> None:
    """Reads the question and never answers."""
    connection.recv(65536)
    ended.wait()


def endless_headers(connection: socket.socket, ended: Event) -> None:
    """Begins an answer, and sends one more letter of a header now and then."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-A: ")
    while not ended.wait(0.2):
        connection.sendall(b"a")


def trickling_body(connection: socket.socket, ended: Event) -> None:
    """Promises a small file, and sends a byte of it now and then."""
    while request := connection.recv(65536):
        connection.sendall(f"HTTP/1.1 200 OK\r\n{HEADERS}Content-Length: 1000\r\n\r\n".encode())
        while request.startswith(b"GET") and not ended.wait(0.2):
            connection.sendall(b" ")


def endless_body(connection: socket.socket, ended: Event) -> None:
    """Says nothing of the size, and never ends."""
    while request := connection.recv(65536):
        connection.sendall(f"HTTP/1.1 200 OK\r\n{HEADERS}Transfer-Encoding: chunked\r\n\r\n".encode())
        while request.startswith(b"GET") and not ended.is_set():
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


Hub = Callable[[Callable[[socket.socket, Event], None]], str]
HANGS = [silent, endless_headers, trickling_body]


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Starts a hub that treats each connection in one way; its address."""
    ended = Event()
    listeners: list[socket.socket] = []

    def start(behave: Callable[[socket.socket, Event], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def treat(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                behave(connection, ended)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    Thread(target=treat, args=(listener.accept()[0],), daemon=True).start()

        Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    ended.set()
    for listener in listeners:
        listener.close()


@pytest.fixture
def serving(serving: Serving) -> Serving:
    """It has a stand-in for `vllm`."""
    return with_server(serving)


def variables(tmp_path: Path, **more: str) -> dict[str, str]:
    """The variables of a command that may ask the hub, and has an empty cache of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "TRANSFORMERS_"))}
    return {**clean, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path / "hub"), "LC_ALL": "C.UTF-8", **more}


def run(words: list[object], env: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], float]:
    """A process to its end, and the seconds that it took."""
    begin = time.monotonic()
    process = subprocess.run(list(map(str, words)), env=env, capture_output=True, text=True, timeout=90, check=False)
    return process, time.monotonic() - begin


def served(serving: Serving, store: Path, env: dict[str, str], *args: object) -> tuple[dict[str, Any], str, float]:
    """What the server was given, what was said, and the seconds until it ended."""
    words = [sys.executable, "-m", "tuner", "serve", "--python", serving.python, "--store", store, *args]
    done, seconds = run(words, env)
    assert done.returncode == CODE, done.stderr
    return facts_of(done.stdout), done.stderr, seconds


@pytest.mark.parametrize("behave", HANGS)
def test_serve_starts_within_three_seconds(
    hub: Hub, serving: Serving, store: Path, tmp_path: Path, behave: Callable[[socket.socket, Event], None]
) -> None:
    """The safe value, and a sentence that says why; compared with a start that asks nobody."""
    _, _, offline = served(serving, store, variables(tmp_path, HF_HUB_OFFLINE="1"), "org/name")
    facts, said, seconds = served(serving, store, variables(tmp_path, HF_ENDPOINT=hub(behave)), "org/name")
    assert config_in(facts) == SAFE
    assert "no verdict (The config.json of org/name could not be fetched from 127.0.0.1: no whole answer" in said
    assert len(said.splitlines()) == 1
    assert seconds - offline < 3


def test_a_draft_and_a_model_share_the_time(hub: Hub, serving: Serving, store: Path, tmp_path: Path) -> None:
    """Two questions take no longer than one."""
    draft = json.dumps({"model": "org/draft", "num_speculative_tokens": 1})
    env = variables(tmp_path, HF_ENDPOINT=hub(silent))
    _, _, offline = served(serving, store, variables(tmp_path, HF_HUB_OFFLINE="1"), "org/name")
    facts, _, seconds = served(serving, store, env, "org/name", "--speculative-config", draft)
    assert config_in(facts) == SAFE
    assert seconds - offline < 3
    facts, _, seconds = served(serving, store, env, QWEN, "--speculative-config", draft)
    assert config_in(facts) == SAFE
    assert seconds - offline < 3


def test_what_lies_beside_a_cached_config_is_waited_for_no_longer(
    hub: Hub, serving: Serving, store: Path, tmp_path: Path
) -> None:
    """The config.json is in the cache, and the hub does not say which other files the model has."""
    snapshot_folder = tmp_path / "hub" / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    snapshot_folder.mkdir(parents=True)
    (snapshot_folder / "config.json").write_bytes((QWEN / "config.json").read_bytes())
    refs = snapshot_folder.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("a" * 40, encoding="utf-8")
    _, said, offline = served(serving, store, variables(tmp_path, HF_HUB_OFFLINE="1"), "org/name")
    assert "could not be learned" not in said
    facts, said, seconds = served(serving, store, variables(tmp_path, HF_ENDPOINT=hub(silent)), "org/name")
    assert config_in(facts) == SAFE
    assert "could not be learned from 127.0.0.1: no whole answer within 2.0 s" in said
    assert seconds - offline < 3


@pytest.mark.parametrize("endpoint", ["http://[", "http://127.0.0.1:99999", "hub.example.org", "http://127.0.0.1:9"])
def test_an_address_that_cannot_be_asked(serving: Serving, store: Path, tmp_path: Path, endpoint: str) -> None:
    """It costs the verdict, and the server starts."""
    facts, said, _ = served(serving, store, variables(tmp_path, HF_ENDPOINT=endpoint), "org/name")
    assert config_in(facts) == SAFE
    assert "could not be fetched" in said


def test_a_name_server_that_hangs(serving: Serving, store: Path, tmp_path: Path) -> None:
    """Looking the hub's name up is part of the wait.

    A function that sleeps stands in for the system's resolver: a name server of ours would need the whole machine's
    settings changed.
    """
    sleeping = (
        "import socket, sys, time; socket.getaddrinfo = lambda *_, **__: time.sleep(60);"
        "from tuner.__main__ import main; main()"
    )
    words = [sys.executable, "-c", sleeping, "serve", "--python", serving.python, "--store", store, "org/name"]
    done, seconds = run(words, variables(tmp_path, HF_ENDPOINT="http://hub.invalid"))
    assert done.returncode == CODE, done.stderr
    assert config_in(facts_of(done.stdout)) == SAFE
    assert "fetched from hub.invalid: no whole answer" in done.stderr
    assert seconds < 20


@pytest.mark.parametrize("command", ["verdict", "plan"])
def test_other_commands_say_that_they_wait(
    hub: Hub, serving: Serving, store: Path, tmp_path: Path, command: str
) -> None:
    """After 2 seconds, and give up after 20; shortened here, for the test's time."""
    shorter = (
        "import tuner.model.patience as p; p.QUESTION_S, p.NOTICE_S = 3.0, 0.5;from tuner.__main__ import main; main()"
    )
    words = [sys.executable, "-c", shorter, command, "--python", serving.python, "--store", store, "org/name"]
    done, seconds = run(words, variables(tmp_path, HF_ENDPOINT=hub(trickling_body)))
    assert done.returncode == 1
    waiting, failed, hint = done.stderr.splitlines()
    assert waiting == "tuner: waiting for an answer of 127.0.0.1 (at most 3 s)"
    assert "org/name could not be fetched from 127.0.0.1: no whole answer within 3.0 s" in failed
    assert "HF_ENDPOINT" in hint
    assert 3 < seconds < 30


def test_the_wait_is_bounded_everywhere() -> None:
    """What was shortened above."""
    assert (patience.QUESTION_S, patience.NOTICE_S, patience.SERVE_S) == (20, 2, 2)


@pytest.fixture
def asking(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Starts a hub that this process may ask, with an empty cache."""

    def start(behave: Callable[[socket.socket, Event], None]) -> str:
        endpoint = hub(behave)
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        return endpoint

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    return start


def long_body(connection: socket.socket, ended: Event) -> None:
    """Says that it is larger than any disk."""
    while connection.recv(65536) and not ended.is_set():
        connection.sendall(f"HTTP/1.1 200 OK\r\n{HEADERS}Content-Length: {10**12}\r\n\r\n".encode())
        connection.sendall(b" " * 1000)


def compressed_body(connection: socket.socket, ended: Event) -> None:
    """A megabyte that becomes a gigabyte; nobody asked for a compressed answer."""
    while connection.recv(65536) and not ended.is_set():
        bomb = gzip.compress(bytes(2**20))
        head = f"HTTP/1.1 200 OK\r\n{HEADERS}Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
        connection.sendall(head.encode() + bomb)


def endless_refusal(connection: socket.socket, ended: Event) -> None:
    """Refuses with a body that never ends."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not ended.is_set():
        connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")


def endless_redirects(connection: socket.socket, ended: Event) -> None:
    """Each answer names another address."""
    while (request := connection.recv(65536)) and not ended.is_set():
        address = request.split(b" ", 2)[1].decode() + "x"
        connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {address}\r\nContent-Length: 0\r\n\r\n".encode())


def redirect_to_a_file(connection: socket.socket, ended: Event) -> None:
    """Names a file of this machine."""
    while connection.recv(65536) and not ended.is_set():
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n")


def commit_that_leads_out(connection: socket.socket, ended: Event) -> None:
    """States a path in place of a commit."""
    while connection.recv(65536) and not ended.is_set():
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Repo-Commit: ../../../out\r\nContent-Length: 2\r\n\r\n{}")


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (endless_body, r"The config\.json of org/name on the hub is larger than 16 MiB"),
        (long_body, r"The config\.json of org/name on the hub is larger than 16 MiB"),
        (compressed_body, "it answers in a compressed form that was not asked for"),
        (endless_refusal, "it answered 500"),
        (endless_redirects, "it redirects more than 5 times"),
        (redirect_to_a_file, r"no answer \(UnsupportedProtocol\)"),
        (commit_that_leads_out, "it names no commit"),
    ],
)
def test_an_answer_beyond_the_bounds_is_an_error(
    asking: Hub, tmp_path: Path, behave: Callable[[socket.socket, Event], None], why: str
) -> None:
    """A sentence says what the hub did, soon, and nothing stays on the disk."""
    asking(behave)
    begin = time.monotonic()
    with pytest.raises(TunerError, match=why):
        snapshot("org/name")
    assert time.monotonic() - begin < 15
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_the_files_of_a_question_share_a_bound(asking: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many files of a size that each may have are no way around the limit."""
    body = b" " * 1000

    def answer(connection: socket.socket, ended: Event) -> None:
        while connection.recv(65536) and not ended.is_set():
            connection.sendall(f"HTTP/1.1 200 OK\r\n{HEADERS}Content-Length: 1000\r\n\r\n".encode() + body)

    asking(answer)
    monkeypatch.setattr("tuner.model.hub_answer.QUESTION_BYTES", 2500)
    question = Question()
    assert [len(question.file("org/name", name, None).data) for name in ("a", "b")] == [1000, 1000]
    with pytest.raises(TooLargeError):
        question.file("org/name", "c", None)


def test_an_answer_that_nobody_waits_for_ends(asking: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that was left behind does not read for ever."""
    asking(trickling_body)
    monkeypatch.setattr("tuner.model.hub_answer.QUESTION_S", 0.5)
    with pytest.raises(UnusableAnswerError, match="no whole answer"):
        Question().file("org/name", "config.json", None)


def test_answers_and_errors_in_time_arrive() -> None:
    """A question's own value and its own error; a notice only for a wait that goes on."""
    notices: list[str] = []
    with telling(notices.append):
        assert answer_of(lambda: 3, "nobody") == 3
        with pytest.raises(ZeroDivisionError):
            answer_of(lambda: 1 // 0, "nobody")
    assert notices == []


def test_several_questions_share_a_bound() -> None:
    """What the first took the second lacks; behind the bound nobody is asked."""
    asked: list[int] = []
    with at_most(0.4):
        answer_of(lambda: time.sleep(0.2), "slow")
        with pytest.raises(NoAnswerInTimeError) as caught:
            answer_of(lambda: time.sleep(5), "slower")
        assert 0 < caught.value.seconds < 0.25
        with pytest.raises(NoAnswerInTimeError):
            answer_of(lambda: asked.append(1), "too late")
    assert asked == []
    answer_of(lambda: asked.append(1), "later")
    assert asked == [1]
