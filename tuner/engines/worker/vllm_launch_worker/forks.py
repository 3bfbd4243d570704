"""The engines of one launch, one after another, each in a process of its own that is forked once vLLM is imported.

Importing vLLM takes 8 to 28 s, an engine of a thin model a few; as a server forks its engine, so does this, and before
anything touches the device.
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
"""Variable -> folder of each engine alone: no server may ever load a graph with stamps in it, nor the next engine."""


def prepare(args: list, control: Path) -> None:
    """Import what an engine of this launch needs, and read its arguments, as the server does before it forks."""
    imported(control)
    launch.engine_args(args)


def imported(control: Path) -> None:
    """Import what an engine needs, with caches of this process alone."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine runs where its workers can be asked
    own_caches(control)
    from vllm.v1.engine import llm_engine  # noqa: F401  the import is what is wanted


def forked(answer: Callable[[Path], None], folder: Path) -> str:
    """Run this in a child process, told its folder, and wait for it.

    Args:
        answer: writes its own result.
        folder: made here; holds the child's caches.

    Returns:
        How the child ended, in words; empty if as it should.
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
            traceback.print_exc()  # else lost: the next line leaves no time for it
        finally:
            flush()
            os._exit(code)  # nothing of the parent's may run at the child's end
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}" if code else ""


def own_caches(folder: Path) -> None:
    """Give this process caches of its own below a folder."""
    for name, inner in CACHES.items():
        os.environ[name] = str(folder / inner)
    (folder / CACHES["TMPDIR"]).mkdir(exist_ok=True)
    tempfile.tempdir = None  # it is kept once asked for


def flush() -> None:
    """What is not written yet would be written by both processes."""
    sys.stdout.flush()
    sys.stderr.flush()
