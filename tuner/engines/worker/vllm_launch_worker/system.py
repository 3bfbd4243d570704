"""The compiler, the machine and the places that keys and artifacts depend on."""

import sys
from contextlib import suppress
from pathlib import Path

from shared_worker.installed import version_of


def described() -> dict:
    """Versions, the device, and what Inductor itself puts into its keys, each None where it cannot be told."""
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


def inductor() -> dict:
    """Digests that Inductor hashes: of the system (GPU, CUDA, Triton) and of torch's own sources."""
    import torch
    from torch._inductor.codecache import CacheBase, torch_key

    found = {"system": None, "torch": None}
    with suppress(Exception):
        found["system"] = CacheBase.get_system()["hash"]
    with suppress(Exception):
        found["torch"] = torch_key().hex()
    found["cuda"] = torch.version.cuda
    return found


def paths(given: dict) -> dict:
    """Where things lie: what names places in a key, and the packages, whose paths count in the code of a cache folder.

    Args:
        given: the environment variables as the launch has them.
    """
    import vllm

    return {
        "HOME": given.get("HOME"),
        "XDG_CONFIG_HOME": given.get("XDG_CONFIG_HOME"),
        "XDG_CACHE_HOME": given.get("XDG_CACHE_HOME"),
        "vllm": str(Path(vllm.__file__).parent),
    }
