"""Runs the engines of one launch one after another, each in a fork of this process.

vLLM is imported once, before the forks, because the import takes 8 to 28 s. An engine of a thin model takes only a few
seconds. A server also forks its engine. This process does not use the device before the fork.
"""

import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from vllm_launch_worker import launch

CACHES = {"VLLM_CACHE_ROOT": "cache", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TMPDIR": "tmp"}
"""Environment variable -> the name of the engine's own folder. With other folders, a server or the next engine could
load a graph that holds stamps."""


def prepare(args: list[str], control: Path) -> None:
    """Import what an engine of this launch needs, and parse its arguments, as the server does before it forks."""
    import_engine(control)
    launch.engine_args(args)


def import_engine(control: Path) -> None:
    """Import what an engine needs, with caches that only this process uses."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine runs in this process and calls its workers
    own_caches(control)
    from vllm.v1.engine import llm_engine  # noqa: F401  imported for the fork


def run_in_fork(answer: Callable[[Path], None], folder: Path) -> str:
    """Run a function in a child process, and wait for the process to end.

    Args:
        answer: the function. It gets the folder, and writes its own result.
        folder: the folder for the caches of the child. This function makes it.

    Returns:
        How the child failed, such as `exit code 1` or `killed by SIGKILL`. Empty if it did not fail.
    """
    folder.mkdir()
    flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own_caches(folder)
            answer(folder)
            code = 0
        except BaseException:
            traceback.print_exc()  # `os._exit` does not print it
        finally:
            flush()
            os._exit(code)  # `sys.exit` would run the exit handlers of the parent
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""


def own_caches(folder: Path) -> None:
    """Let this process use caches and temporary files below a folder."""
    for name, inner in CACHES.items():
        os.environ[name] = str(folder / inner)
    (folder / CACHES["TMPDIR"]).mkdir(exist_ok=True)
    tempfile.tempdir = None  # so that Python reads TMPDIR again


def flush() -> None:
    """Write the buffered output. Without this, both processes would write it after a fork."""
    sys.stdout.flush()
    sys.stderr.flush()
