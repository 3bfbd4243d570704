"""What a failure of the worker means for the user: the worker's own words, and one way out."""

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import TunerError
from tuner.probe.answers import FAILED, require

HINTS = {
    "kernel_missing": "This vLLM has no kernel for it on this machine; probe on the GPU type that will serve.",
    "unknown_architecture": "Another vLLM release may have it; see its list of supported models.",
    "plugin": "Correct the plugin for this vLLM release, or probe with a release that it was written for.",
    "remote_code": "Run again with --trust-remote-code if you trust the code in the model's folder.",
}
"""Kind of failure -> what to do."""
ROOM = 64 * 1024
"""Bytes; more than most reports take."""


def failed(report: Mapping[str, Any]) -> TunerError:
    """The failure that a report describes.

    Raises:
        TunerError: kind `report`: it does not describe any.
    """
    require("report", report, {"result": str, "kind": str, "message": str})
    where = report.get("where", "")
    hint = HINTS.get(report["kind"]) or f"vLLM could not build or run the model on this machine, at {where}."
    return TunerError(report["message"], hint=hint, kind=report["kind"])


def no_vllm(facts: Mapping[str, Any]) -> TunerError:
    """An import of vLLM that raised, or a plugin of it."""
    require("environment.json", facts, FAILED)
    if isinstance(facts.get("plugin"), str) and facts["plugin"]:
        return TunerError(
            f"The vLLM plugin {facts['plugin']} fails in this environment: {facts['message']}",
            hint=f"Raised at {facts['where']}; correct or uninstall it, or name the others alone in VLLM_PLUGINS.",
            kind="environment",
        )
    return TunerError(
        f"vLLM does not import in this environment: {facts['message']}",
        hint=f"Raised at {facts['where']}; check the environment with its own `python -c 'import vllm'`.",
        kind="environment",
    )


def no_control_folder(error: OSError) -> TunerError:
    """The folder through which host and worker speak cannot be written."""
    return TunerError(
        f"The probe cannot write its control folder under {tempfile.gettempdir()}: {error.strerror}.",
        hint="Free some space there or point TMPDIR at another folder.",
        kind="control_folder",
    )


def disk_full() -> TunerError:
    """As `no_control_folder`, for want of space."""
    return no_control_folder(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def out_of_memory(used: int, limit: int) -> TunerError:
    """A worker that took more memory than it may."""
    return TunerError(
        f"The worker was stopped: it used {_gib(used)} of memory, and its limit is {_gib(limit)}.",
        hint="Raise `tuner probe --memory-limit` where there is more, or take a machine with more memory.",
        kind="memory",
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def is_full(folder: Path) -> bool:
    """Whether a report could not be written there, for want of space or, where the file system counts them, inodes."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize < ROOM or (state.f_files > 0 and state.f_favail == 0)


def not_listed(said: str, hint: str) -> TunerError:
    """The registry of the environment's vLLM could not be read."""
    return TunerError(f"vLLM's registry of models could not be listed: {said}.", hint=hint, kind="environment")


def log_hint(tail: str) -> str:
    """The end of the worker's log, introduced."""
    return f"The end of its log:\n{tail}" if tail else "Its log is empty."
