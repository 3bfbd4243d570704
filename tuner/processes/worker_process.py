"""A worker process, and the control folder through which the host and the worker exchange files.

Only this module starts workers.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from cache.secrets import secret_values
from rules.errors import ErrorKind, TunerError
from tuner.processes import keeper
from tuner.processes.answers import read_answer
from tuner.processes.control_folder import new_folder, remove_abandoned
from tuner.processes.failures import no_control_folder, out_of_memory
from tuner.processes.limits import default_memory, restrict
from tuner.processes.log_tail import LastLines, ignored, log_tail

POLL = 0.1
"""Seconds between two looks for a file."""
MEASURING = 20
"""The pause after a measurement of memory, as a multiple of its time: a machine may run thousands of processes."""
START_LIMIT = 600.0
"""Seconds allowed for importing vLLM; 8 to 28 s were measured, on a busy machine a minute."""
WORN = 0.5
"""Part of the memory limit: a worker that uses more after a model does not get the next one."""
LOG_TAIL = 12
"""Lines of a log that a failure quotes."""


class Stopped(Exception):  # noqa: N818  not an error: the caller asked for it
    """The worker was told to stop, and has ended."""


class WorkerProcess:
    """One process, started by path with another environment's Python; `close` ends it and its folder.

    It leads its own session. A second process, the keeper, ends that session and removes the folder if this process
    dies without doing so.

    Args:
        stop: ends a wait once another thread sets it.
        memory_limit: bytes that the worker and its children may use; None: `default_memory`.

    Attributes:
        control: the folder. It holds `request.json`, the worker's answers, `log` with the worker's output, `work`,
            where the worker runs, and `tmp` for files that the worker does not remove.
    """

    def __init__(self, stop: Event | None = None, memory_limit: int | None = None) -> None:
        self._stop, self._ends = stop or Event(), contextlib.ExitStack()
        self._memory_limit = memory_limit or default_memory()
        self._next_measure = 0.0

    def begin(
        self, python: str, worker: Path, request: Mapping[str, Any], variables: Callable[[Path], Mapping[str, str]]
    ) -> None:
        """Create the control folder and start the process.

        Args:
            python: interpreter of the serving environment.
            worker: the folder that the interpreter runs.
            request: what the worker reads first.
            variables: makes all environment variables of the worker from the control folder.

        Raises:
            TunerError: kind `control_folder` or `environment`: the folder or the interpreter cannot be used.
        """
        remove_abandoned()
        self.control, lock = new_folder()
        self._ends.callback(os.close, lock)
        self._ends.callback(shutil.rmtree, self.control, ignore_errors=True)
        guard = _keeper(self.control)  # first: without it a folder would stay until the next probe
        self._ends.callback(_dismiss, guard, self.control)
        try:
            (self.control / "request.json").write_text(json.dumps(request), encoding="utf-8")
            for folder in ("work", "tmp"):
                (self.control / folder).mkdir()
            (self.control / "log").touch()
        except OSError as error:
            raise no_control_folder(error) from None
        environment = {**variables(self.control), keeper.MARK: str(self.control)}
        self._process = _started(python, worker, self.control, environment)
        self._ends.callback(self._kill)
        _tell(guard, self._process.pid)
        restrict(self._process.pid)

    def close(self) -> None:
        """End the process with all that it started, and remove the folder."""
        self._ends.close()

    def awaited(self, name: str, limit: float, hear: Callable[[str], None] = ignored) -> dict[str, Any] | None:
        """The JSON of an answer as soon as it is there; None if the worker ended or `limit` seconds passed.

        Args:
            name: of the answer's file.
            limit: seconds.
            hear: gets the last line of the worker's log, now and then.

        Raises:
            Stopped: the worker was told to stop meanwhile.
            TunerError: kind `memory`: the worker took more than it may, and was ended; kind `report`: the answer cannot
                be used.
        """
        path, end = self.control / name, time.monotonic() + limit
        lines = LastLines(self.control / "log", secret_values(os.environ))
        while not path.exists():
            if self._stop.is_set():
                raise Stopped
            if not self.runs() and not path.exists():
                return None
            if time.monotonic() > end:
                return None
            self._watch_memory()
            lines.tell(hear)
            time.sleep(POLL)
        return read_answer(path, secret_values(os.environ))

    def runs(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def is_worn(self) -> bool:
        """Whether so much memory is in use between two models that the next one may not have enough."""
        return keeper.used_memory(self._process.pid) > WORN * self._memory_limit

    def exit_words(self) -> str:
        """How the process ended."""
        code = self._process.poll() or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def log_tail(self) -> str:
        """The end of what it printed, without secrets."""
        return "\n".join(log_tail(self.control / "log", LOG_TAIL, secret_values(os.environ)))

    def _watch_memory(self) -> None:
        begin = time.monotonic()
        if begin < self._next_measure:
            return
        used = keeper.used_memory(self._process.pid)
        if used > self._memory_limit:
            self._kill()
            raise out_of_memory(used, self._memory_limit)
        self._next_measure = time.monotonic() + MEASURING * (time.monotonic() - begin)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        keeper.end(self.control, self._process.pid)
        self._process.wait()


@contextlib.contextmanager
def kept_process() -> Iterator[Callable[[int], None]]:
    """A keeper for a process that is started inside the block and leads a session.

    The keeper ends that session if this process dies: a server that starts vLLM does not react to SIGTERM until its
    engine is up, which may take minutes.

    Yields:
        A function that tells the keeper the process ID.
    """
    with tempfile.TemporaryDirectory(prefix="tuner-kept-") as folder:
        guard = _keeper(Path(folder))
        try:
            yield lambda pid: _tell(guard, pid)
        finally:
            _dismiss(guard, Path(folder))


def _keeper(control: Path) -> subprocess.Popen[bytes]:
    return _popen(
        [sys.executable, "-I", "-S", keeper.__file__, str(control)],
        cwd="/",
        env=os.environ,
        stdin=subprocess.PIPE,
        output=subprocess.DEVNULL,
    )


def _tell(guard: subprocess.Popen[bytes], worker: int) -> None:
    """Tell the keeper whose session to end; its stdin stays open as long as this process lives."""
    if guard.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # the keeper was killed
            guard.stdin.write(f"{worker}\n".encode())
            guard.stdin.flush()


def _dismiss(guard: subprocess.Popen[bytes], control: Path) -> None:
    """Remove what the keeper would remove, and end the keeper."""
    shutil.rmtree(control, ignore_errors=True)
    guard.kill()
    with contextlib.suppress(BrokenPipeError):
        guard.communicate()


def _started(python: str, worker: Path, control: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with (control / "log").open("wb") as log:
        # vLLM's helpers import from their working directory: keep it clean
        return _popen(
            [python, str(worker), str(control)],
            cwd=control / "work",
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            output=log,
        )


def _popen(
    vector: Sequence[str], *, cwd: Path | str, env: Mapping[str, str], stdin: int, output: Any
) -> subprocess.Popen[bytes]:
    """A process that leads its own session: no signal of this terminal reaches it."""
    try:
        return subprocess.Popen(
            vector, cwd=cwd, env=env, stdin=stdin, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise TunerError(
            f"{vector[0]} does not start: {error.strerror}.",
            hint="Name the interpreter of the serving environment with --python.",
            kind=ErrorKind.ENVIRONMENT,
        ) from None
