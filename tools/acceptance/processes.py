"""Servers of the run, each a process of its own with a log in the run's folder, and commands of the tool."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fake_environment import OURS

from tools.acceptance.progress import BrokenPromiseError
from tools.evidence.page import TUNER

START_S = 120
"""Seconds that a busy machine may take to start a server."""
STOP_S = 30


class Server:
    """A server that runs from here to `stop`.

    Args:
        words: its command.
        log: the file for its output.
        ready: whether it answers.
        folder: where it runs; default: here.
        environment: its variables; default: those of this process.

    Raises:
        BrokenPromiseError: it did not start.
    """

    def __init__(
        self,
        words: Sequence[object],
        log: Path,
        ready: Callable[[], bool],
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self._log = log
        with log.open("ab") as stream:
            self.process = subprocess.Popen(
                [str(word) for word in words],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        try:
            until(lambda: self._answers(ready), f"{words[0]} answers")
        except BaseException:
            self.stop()
            raise

    def _answers(self, ready: Callable[[], bool]) -> bool:
        if self.process.poll() is not None:
            log = self._log.read_text(errors="replace")
            raise BrokenPromiseError(f"{self.process.args!r:.200} ended:\n{log[-2000:]}")
        try:
            return ready()
        except OSError:
            return False

    def hang(self) -> None:
        """Pause the process, so that requests get no answer."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, as a cluster does."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(condition: Callable[[], bool], what: str, seconds: float = START_S) -> None:
    """Wait until a condition holds.

    Raises:
        BrokenPromiseError: it does not hold in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BrokenPromiseError(f"This did not happen within {seconds:.0f} s: {what}.")
        time.sleep(0.1)


def tuner(
    *words: object, ends: tuple[int, ...] = (0,), stdin: str = "", variables: Mapping[str, str] | None = None
) -> str:
    """What a command of the tool prints on stdout.

    Args:
        words: of the command.
        ends: exit codes that it may end with.
        stdin: text for its standard input.
        variables: added to those of this process that do not change what the tool does.

    Raises:
        BrokenPromiseError: it ended with another code.
    """
    command = [TUNER, *map(str, words)]
    environment = {**clean_variables(), **(variables or {})}
    process = subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)
    if process.returncode not in ends:
        raise BrokenPromiseError(f"{' '.join(command)} ended with {process.returncode}:\n{process.stderr[-2000:]}")
    return process.stdout


def clean_variables() -> dict[str, str]:
    """This process's variables without those that change what the tool does."""
    return {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
