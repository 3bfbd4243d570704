"""A real `vllm serve`, alone and under `tuner serve`: stopped in the middle of a stream, and given bad arguments."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from real_environment import checkpoint_of
from vllm_server import Server, effective_flag, running_server

pytestmark = pytest.mark.vllm

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".envs" / "current" / "bin" / "python"
TUNER = Path(sys.executable).parent / "tuner"
POSITIONS = 4096
ARGUMENTS = ("--enforce-eager", "--max-model-len", str(POSITIONS))
BAD_ARGUMENTS = (["--no-such-option"], ["-cc", "{"], ["--config", "nowhere.yaml"])
TOKENS = 4000
"""Many seconds of them: the signal must come in mid-stream, not by chance after the end."""
ALL_TOKENS = b'"finish_reason":"length"'
"""In the last piece of an answer that has as many tokens as were asked for."""
STOP_LIMIT_S = 120
CLIENT_PATIENCE_S = 15
"""Without anything new of a stream: vLLM may keep a connection open whose engine is gone, until the client closes it.
A busy machine took more than five seconds to end one."""
LIKE_A_CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")
READ_ONLY = """
mount --bind "$0" "$0" && mount -o remount,ro,bind / && ! touch "$1" 2>/dev/null && cd "$PWD" && shift && exec "$@"
"""
"""Process 1 on a root file system where only the folder given first can be written; `/dev/shm` stays, as in a pod."""


@dataclass(frozen=True)
class Stopped:
    """How a server ended.

    Attributes:
        program: what the process that was started runs once it serves.
        flag: the value of `fast_moe_cold_start` that the engine runs with.
        streamed: the client had received tokens before the signal.
        finished: the client received all the tokens that it asked for. Whether a stream that is cut still gets its
            `[DONE]` is chance: vLLM aborts the request and ends the server at once, and either may come first.
        code: the exit code.
    """

    program: str
    flag: bool | None
    streamed: bool
    finished: bool
    code: int


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A thin model that vLLM serves."""
    return checkpoint_in(tmp_path_factory.mktemp("checkpoint"))


def checkpoint_in(folder: Path) -> Path:
    """A thin model with room for a long stream."""
    model = checkpoint_of("current", folder)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": POSITIONS}))
    return model


def stopped_in_mid_stream(command: tuple[str, ...], folder: Path, number: signal.Signals) -> Stopped:
    """Start a server, stream a completion, send the signal to the process that was started, and read on."""
    with running_server(command, folder) as server, closing(http.client.HTTPConnection(*address(server))) as client:
        program, flag = program_of(server.process.pid), effective_flag(server.log_text())
        assert "fast_moe_cold_start" not in " ".join(server.arguments())
        reply = streamed(client, server.model_name())
        first = [reply.readline() for _ in range(4)]
        assert all(first), (first, server.log_text()[-3000:])
        server.process.send_signal(number)
        rest = rest_of(reply, client)
        client.close()
        code = server.process.wait(STOP_LIMIT_S)
    return Stopped(program, flag, first[0].startswith(b"data: {"), ALL_TOKENS in rest, code)


def rest_of(reply: http.client.HTTPResponse, client: http.client.HTTPConnection) -> bytes:
    """What still comes of a stream, until its end or until nothing has come for a while."""
    parts = []
    if client.sock is not None:
        client.sock.settimeout(CLIENT_PATIENCE_S)
    with suppress(OSError, http.client.HTTPException):
        while part := reply.read1():
            parts.append(part)
    return b"".join(parts)


def stopped_in_a_container(command: tuple[str, ...], folder: Path) -> tuple[str, int, str, int]:
    """What runs in the container, as which PID, what it completes, and its exit code after SIGINT."""
    with running_server(
        (*LIKE_A_CONTAINER, READ_ONLY, str(folder.parent), str(ROOT / "proof"), *command), folder
    ) as up:
        process = inner(up)
        program, pid, text = program_of(process), own_pid(process), up.complete("the river")
        os.kill(process, signal.SIGINT)
        code = up.process.wait(STOP_LIMIT_S)
    return program, pid, text, code


def inner(server: Server) -> int:
    """The process that `unshare` started, by its PID outside."""
    outer = server.process.pid
    (child,) = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    return int(child)


def own_pid(pid: int) -> int:
    """The PID that a process has in its own eyes."""
    line = next(line for line in process_file(pid, "status").splitlines() if line.startswith("NSpid:"))
    return int(line.split()[-1])


def program_of(pid: int) -> str:
    """The first words of a command line, without folders."""
    return " ".join(Path(part).name for part in process_file(pid, "cmdline").split("\0")[:3])


def process_file(pid: int, name: str) -> str:
    """A file that the kernel keeps of a process."""
    return Path(f"/proc/{pid}/{name}").read_text()


def address(server: Server) -> tuple[str, int, int]:
    """Host, port and time limit of a connection."""
    parts = urlsplit(server.url)
    return str(parts.hostname), int(parts.port or 0), STOP_LIMIT_S


def streamed(client: http.client.HTTPConnection, model: str) -> http.client.HTTPResponse:
    """A completion that comes token by token: one line each, and an empty one between."""
    body = {"model": model, "prompt": "the river", "max_tokens": TOKENS, "stream": True}
    text = json.dumps({**body, "ignore_eos": True, "temperature": 0})
    client.request("POST", "/v1/completions", text, {"Content-Type": "application/json"})
    reply = client.getresponse()
    assert reply.status == 200
    return reply


def test_sigterm_in_mid_stream_ends_the_server_as_without_us(checkpoint: Path, tmp_path: Path) -> None:
    """Program, flag, what the client sees and the exit code are those of the plain server; no verdict is needed."""
    alone = (str(PYTHON.with_name("vllm")), "serve", str(checkpoint), *ARGUMENTS)
    ours = ("--python", str(PYTHON), "--store", str(tmp_path / "none.sqlite"))
    under = (str(TUNER), "serve", *ours, str(checkpoint), *ARGUMENTS)
    expected = stopped_in_mid_stream(alone, tmp_path / "alone", signal.SIGTERM)
    found = stopped_in_mid_stream(under, tmp_path / "under", signal.SIGTERM)
    assert expected.streamed
    assert expected.flag is False
    assert found == expected


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for all that a server writes; vLLM puts sockets there, whose paths may have 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


@pytest.mark.thorough
def test_sigint_ends_process_1_of_a_read_only_container_as_without_us(checkpoint: Path, short: Path) -> None:
    """A signal that nobody handles is lost on process 1; and nothing of ours needs to write."""
    possible(*LIKE_A_CONTAINER, READ_ONLY, str(short), str(ROOT / "proof"), sys.executable, "-c", "pass")
    alone = (str(PYTHON.with_name("vllm")), "serve", str(checkpoint), *ARGUMENTS)
    ours = ("--python", str(PYTHON), "--store", str(checkpoint.parent / "none.sqlite"))
    expected = stopped_in_a_container(alone, short / "alone")
    found = stopped_in_a_container((str(TUNER), "serve", *ours, str(checkpoint), *ARGUMENTS), short / "under")
    assert expected[1] == 1
    assert found == expected


def possible(*words: str) -> None:
    """Skip where this machine does not allow such a process."""
    try:
        process = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip(f"no {words[0]} on this machine")
    if process.returncode:
        pytest.skip(f"{' '.join(words[:5])} is not allowed here: {process.stderr.strip()[:200]}")


@pytest.mark.parametrize("args", BAD_ARGUMENTS, ids=str)
def test_a_bad_argument_ends_with_vllms_own_code(tmp_path: Path, args: list[str]) -> None:
    """Whichever of the two refuses it."""
    model = str(ROOT / "examples" / "models" / "mistralai--Mixtral-8x7B-v0.1")
    alone = (PYTHON.with_name("vllm"), "serve", model, *args)
    under = (TUNER, "serve", "--python", PYTHON, "--store", tmp_path / "none.sqlite", model, *args)
    codes = [
        subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False).returncode
        for command in (alone, under)
    ]
    assert codes[0] in {1, 2}
    assert codes[1] == codes[0]
