"""Starts a `vllm serve`, waits until it is ready, and stops it, whatever ends this process.

`tuner serve` does not use this: it replaces itself by the server.
"""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.secrets import secret_values
from rules.errors import ErrorKind, TunerError
from tuner.processes.interrupts import uninterrupted
from tuner.processes.log_tail import LastLines, ignored, log_tail
from tuner.processes.worker_process import kept_process

HOST = "127.0.0.1"
POLL_S = 0.25
STOP_LIMIT_S = 60
LOG_TAIL = 15


@contextmanager
def ready_server(
    vector: Sequence[str], environ: Mapping[str, str], log: Path, limit: float, hear: Callable[[str], None] = ignored
) -> Iterator[float]:
    """Start a server on a free port of this machine alone, wait until it answers, and stop it at the end.

    Args:
        vector: the argument vector; `--host` and `--port` are appended, and win.
        environ: its whole environment.
        log: new file for its stdout and stderr.
        limit: seconds that it may take.
        hear: gets the last line of the log, now and then, until it is ready.

    Yields:
        Seconds from the start of the process until `/health` answered 200.

    Raises:
        TunerError: it cannot be started (kind `environment`), ended, or was not ready in time (kind `server`).
    """
    port = _free_port()
    begin = time.monotonic()
    with kept_process() as tell_keeper:
        with uninterrupted():
            process = _start([*vector, "--host", HOST, "--port", str(port)], environ, log)
            tell_keeper(process.pid)
        try:
            _await(process, port, log, begin + limit, hear)
            yield time.monotonic() - begin
        finally:
            _stop(process)


def _start(vector: Sequence[str], environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    try:
        with log.open("wb") as output:
            return subprocess.Popen(
                vector,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise TunerError(
            f"The server cannot be started: {error.filename or vector[0]}: {error.strerror}.",
            hint="Name the interpreter of an environment with vLLM: --python PATH.",
            kind=ErrorKind.ENVIRONMENT,
        ) from None


def _await(process: subprocess.Popen[bytes], port: int, log: Path, end: float, hear: Callable[[str], None]) -> None:
    lines = LastLines(log, secret_values(os.environ))
    while not _healthy(port):
        if (code := process.poll()) is not None:
            raise _failed(f"The server ended before it was ready ({_words(code)}).", log)
        if time.monotonic() > end:
            raise _failed("The server was not ready in time; --time-limit says how long it may take.", log)
        lines.tell(hear)
        time.sleep(POLL_S)


def _healthy(port: int) -> bool:
    client = http.client.HTTPConnection(HOST, port, timeout=5)
    try:
        client.request("GET", "/health")
        return client.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        client.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server as Kubernetes would, and then kill what remains of its session."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _failed(sentence: str, log: Path) -> TunerError:
    tail = "\n  ".join(log_tail(log, LOG_TAIL, secret_values(os.environ)))
    return TunerError(sentence, hint=f"The end of its log:\n  {tail}", kind=ErrorKind.SERVER)


def _words(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
