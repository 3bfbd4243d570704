"""One real server, from start to SIGTERM: used by the demo, the evidence and the tests."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

START_LIMIT_S = 600  # 50 s on an idle machine, up to 220 s on a busy one
STOP_LIMIT_S = 60
REQUEST_LIMIT_S = 120  # the first MoE call of a fresh environment compiles a kernel
SERVER_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}


@dataclass(frozen=True)
class Server:
    """A server that answers on `url` and writes its output to `log`."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def complete(self, prompt: str, *, max_tokens: int = 24) -> str:
        """Greedy continuation of `prompt`, always `max_tokens` long."""
        body = {
            "model": self.model_name(),
            "prompt": prompt,
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
        }
        request = Request(  # noqa: S310  a server of our own on this machine
            f"{self.url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        return str(_answer(request)["choices"][0]["text"])

    def model_name(self) -> str:
        """Name under which the server offers its one model."""
        return str(_answer(Request(f"{self.url}/v1/models"))["data"][0]["id"])  # noqa: S310  as above

    def arguments(self) -> tuple[str, ...]:
        """The argument vector of the running process. After an exec it is the vector of the new program."""
        return tuple(Path(f"/proc/{self.process.pid}/cmdline").read_text().rstrip("\0").split("\0"))

    def log_text(self) -> str:
        """What the server printed so far, stdout and stderr together."""
        return self.log.read_text(errors="replace")


@contextmanager
def running_server(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    *,
    workplace: Path | None = None,
) -> Iterator[Server]:
    """Start `command` as a server on a free port, wait until it is healthy, and stop it at the end.

    Args:
        command: argument list; `--host` and `--port` are appended.
        folder: new folder for the log, the compile cache and the working directory.
        environment: variables added to those of this process.
        workplace: the working directory in place of an empty one. vLLM's helper processes import from it, so it
            holds no Python module.

    Raises:
        RuntimeError: the server ended, or was not healthy in time; the end of its log is quoted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if workplace is None:
        workplace = folder / "cwd"
        workplace.mkdir()
    port = free_port()
    caches = {"VLLM_CACHE_ROOT": str(folder / "cache")}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=workplace,
            env={**os.environ, **SERVER_ENVIRONMENT, **caches, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", folder / "server.log", process)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        _stop(process)


def effective_flag(log_text: str) -> bool | None:
    """Value of `fast_moe_cold_start` that the engine runs with; None when the log does not say.

    vLLM prints the compilation config after all its own adjustments, in the line
    "Initializing a V1 LLM engine" (v1/engine/core.py, 0.19.1 and 0.32.0).
    """
    match = re.search(r"Initializing a V1 LLM engine.*'fast_moe_cold_start': (True|False)", log_text)
    return None if match is None else match[1] == "True"


def failure(log_text: str) -> str:
    """The first lines of a log that name an exception, and the end of the log.

    vLLM's engine is a process of its own. The exception that ended it stands far above the last lines.
    """
    exceptions = re.findall(r"^.*\b\w+(?:Error|Exception): .*$", log_text, re.MULTILINE)
    return "\n".join([*(line[:400] for line in exceptions[:5]), "...", log_text[-4000:]])


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise RuntimeError(f"the server ended with {server.process.returncode}:\n{failure(server.log_text())}")
        with suppress(URLError, ConnectionError, TimeoutError), urlopen(f"{server.url}/health", timeout=5):  # noqa: S310
            return
        time.sleep(0.5)
    raise RuntimeError(f"the server was not healthy after {START_LIMIT_S} s:\n{failure(server.log_text())}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    with suppress(ProcessLookupError):  # usual: the whole group is gone
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answer(request: Request) -> dict[str, list[dict[str, str]]]:
    with urlopen(request, timeout=REQUEST_LIMIT_S) as reply:  # noqa: S310  a server of our own on this machine
        document: dict[str, list[dict[str, str]]] = json.load(reply)
        return document
