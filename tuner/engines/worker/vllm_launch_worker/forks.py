"""The engines of one launch, one after another, each in its own process. vLLM is imported once, before the forks.

Importing vLLM takes 8 to 28 s, an engine of a thin model a few seconds. A server forks its engine, too. The fork
happens before anything touches the device.
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
"""Variable -> the engine's own folder: neither a server nor the next engine may load a graph with stamps in it."""


def prepare(args: list[str], control: Path) -> None:
    """Import what an engine of this launch needs, and read its arguments, as the server does before it forks."""
    imported(control)
    launch.engine_args(args)


def imported(control: Path) -> None:
    """Import what an engine needs, with caches that only this process uses."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine then runs in this process, which calls its workers
    own_caches(control)
    from vllm.v1.engine import llm_engine  # noqa: F401  imported for the fork


def forked(answer: Callable[[Path], None], folder: Path) -> str:
    """Run a function in a child process, with a folder as its argument, and wait for it.

    Args:
        answer: writes its own result.
        folder: is made; holds the child's caches.

    Returns:
        How the child failed, in words; empty if it did not.
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
            traceback.print_exc()  # `os._exit` would drop it
        finally:
            flush()
            os._exit(code)  # the parent's exit handlers must not run in the child
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""


def own_caches(folder: Path) -> None:
    """Give this process its own caches below a folder."""
    for name, inner in CACHES.items():
        os.environ[name] = str(folder / inner)
    (folder / CACHES["TMPDIR"]).mkdir(exist_ok=True)
    tempfile.tempdir = None  # Python remembers the first answer


def flush() -> None:
    """Write what is buffered: after a fork both processes would write it."""
    sys.stdout.flush()
    sys.stderr.flush()
