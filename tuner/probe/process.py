"""A worker process and the control folder through which it is spoken to. Only this module starts a process."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event
from typing import Any

from tuner.errors import TunerError
from tuner.probe.failures import no_control_folder

POLL = 0.1
"""Seconds between two looks for a file."""
LOG_TAIL = 12
"""Lines of a log that a failure quotes."""


class Stopped(Exception):  # noqa: N818  no fault: somebody asked for it
    """The worker was asked to stop, and is gone."""


class WorkerProcess:
    """One process, started by path with another environment's Python; `close` ends it and its folder.

    Attributes:
        control: the folder: `request.json`, the worker's answers, `log` with its output, `work` where it runs.
    """

    def __init__(self, stop: Event | None = None) -> None:
        self._stop, self._ends = stop or Event(), contextlib.ExitStack()

    def begin(
        self, python: str, worker: Path, request: Mapping[str, Any], variables: Callable[[Path], Mapping[str, str]]
    ) -> None:
        """Make the control folder and start the process.

        Args:
            python: interpreter of the serving environment.
            worker: the folder that it runs.
            request: what it reads first.
            variables: all its environment variables, told the control folder.

        Raises:
            TunerError: kind `control_folder` or `environment`: the folder or the interpreter cannot be used.
        """
        self.control = _control_folder()
        self._ends.callback(shutil.rmtree, self.control, ignore_errors=True)
        try:
            (self.control / "request.json").write_text(json.dumps(request), encoding="utf-8")
            (self.control / "work").mkdir()
            (self.control / "log").touch()
        except OSError as error:
            raise no_control_folder(error) from None
        self._process = _started(python, worker, self.control, variables(self.control))
        self._ends.callback(self._kill)

    def close(self) -> None:
        """End the process with all that it started, and remove the folder."""
        self._ends.close()

    def awaited(self, name: str, limit: float) -> dict[str, Any] | None:
        """The JSON of an answer as soon as it is there; None if the worker ended or `limit` seconds passed.

        Raises:
            Stopped: it was asked to stop meanwhile.
        """
        path, end = self.control / name, time.monotonic() + limit
        while not path.exists():
            if self._stop.is_set():
                raise Stopped
            if not self.runs() and not path.exists():
                return None
            if time.monotonic() > end:
                return None
            time.sleep(POLL)
        return dict(json.loads(path.read_text(encoding="utf-8")))

    def runs(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def exit_words(self) -> str:
        """How the process ended."""
        code = self._process.poll() or 0
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def log_tail(self) -> str:
        """The end of what it printed."""
        lines = (self.control / "log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(line for line in lines[-LOG_TAIL:] if line.strip())

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _control_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="tuner-probe-"))
    except OSError as error:
        raise no_control_folder(error) from None


def _started(python: str, worker: Path, control: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        with (control / "log").open("wb") as log:
            return subprocess.Popen(
                [python, str(worker), str(control)],
                cwd=control / "work",  # vLLM's helpers import from their working directory: keep it clean
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise TunerError(
            f"{python} does not start: {error.strerror}.",
            hint="Name the interpreter of the serving environment with --python.",
            kind="environment",
        ) from None
