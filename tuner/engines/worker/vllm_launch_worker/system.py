"""The compiler, the machine and the places on which keys and artifacts depend."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared_worker.installed import version_of


def described() -> dict[str, Any]:
    """Versions, the device, and what Inductor itself puts into its keys; each is None where it is unknown."""
    import torch
    import vllm
    from vllm.platforms import current_platform

    return {
        "vllm": vllm.__version__,
        "torch": torch.__version__,
        "triton": version_of("triton"),
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "platform": current_platform.device_type,
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "inductor": inductor(),
    }


def inductor() -> dict[str, Any]:
    """Digests that Inductor hashes: of the system (GPU, CUDA, Triton) and of torch's own sources."""
    import torch
    from torch._inductor.codecache import CacheBase, torch_key

    digests: dict[str, Any] = {"system": None, "torch": None}
    with suppress(Exception):
        digests["system"] = CacheBase.get_system()["hash"]
    with suppress(Exception):
        digests["torch"] = torch_key().hex()
    digests["cuda"] = torch.version.cuda
    return digests


def paths(environ: dict[str, str]) -> dict[str, str | None]:
    """Folders whose paths are part of a key, and those of packages, whose paths count in the code of a cache folder.

    Args:
        environ: the environment variables of the launch.
    """
    import vllm

    return {
        "HOME": environ.get("HOME"),
        "XDG_CONFIG_HOME": environ.get("XDG_CONFIG_HOME"),
        "XDG_CACHE_HOME": environ.get("XDG_CACHE_HOME"),
        "vllm": str(Path(vllm.__file__).parent),
    }
