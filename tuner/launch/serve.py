"""Becomes the server: `tuner serve` ends by replacing itself with `vllm serve`."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from rules.errors import ErrorKind, TunerError

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores for itself; ignoring outlives an exec, and the server need not be Python."""


def command(python: Path, args: Sequence[str]) -> list[str]:
    """The argument vector that serves with the environment of `python`.

    Args:
        python: the environment's interpreter, as a path; a link is not followed, because `vllm` stands beside it.
        args: the arguments behind `vllm serve`.
    """
    script = python.parent / "vllm"
    start = [str(script)] if script.is_file() else [str(python), "-m", "vllm.entrypoints.cli.main"]
    return [*start, "serve", *args]


def execute(python: Path, args: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Replace this process by the server: same PID, standard streams and working directory.

    Args:
        python: as in `command`.
        args: as in `command`.
        env: the variables to set beside those this process was given.

    Raises:
        TunerError: the server cannot be started.
    """
    vector = command(python, args)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the server starts although our own words cannot be written
            if stream is not None:
                stream.flush()
    ignored = {number: signal.signal(number, signal.SIG_DFL) for number in _IGNORED_BY_PYTHON}
    try:
        os.execve(vector[0], vector, {**os.environ, **env})  # noqa: S606  no shell is the point
    except OSError as error:
        for number, handler in ignored.items():
            signal.signal(number, handler)
        raise TunerError(
            f"The server cannot be started: {vector[0]}: {error.strerror}.",
            hint="Name the interpreter of an environment with vLLM: --python PATH.",
            kind=ErrorKind.ENVIRONMENT,
        ) from None
