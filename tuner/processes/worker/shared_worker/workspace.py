"""The scratch memory that some layers of vLLM need."""

from contextlib import suppress
from typing import Any


def make_workspace(device: Any) -> None:
    """Make the scratch memory on a torch device. In a server, vLLM's GPU worker makes it.

    Layers need it while they are built, and expert kernels while they run. Older releases do not have it.
    """
    with suppress(ImportError):  # older releases have no vllm/v1/worker/workspace.py
        from vllm.v1.worker.workspace import init_workspace_manager

        init_workspace_manager(device)
