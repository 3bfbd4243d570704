"""The versions, the device and the folders on which keys and artifacts depend."""

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared_worker.installed import version_of


def versions() -> dict[str, Any]:
    """The versions, the device, and Inductor's own digests. A value is None if it is unknown."""
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
    """The values that Inductor puts into its keys.

    Returns:
        `system`: a digest of GPU, CUDA and Triton. `torch`: a digest of torch's own sources. `cuda`: CUDA's version.
    """
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
    """Folders whose paths may change a key.

    Args:
        environ: the environment variables of the launch.

    Returns:
        Three folders from `environ`, each None if it is not set, and `vllm`: the folder of the package. vLLM hashes the
        paths of traced files into the name of the graph folder.
    """
    import vllm

    return {
        "HOME": environ.get("HOME"),
        "XDG_CONFIG_HOME": environ.get("XDG_CONFIG_HOME"),
        "XDG_CACHE_HOME": environ.get("XDG_CACHE_HOME"),
        "vllm": str(Path(vllm.__file__).parent),
    }
