"""The NVIDIA GPUs of this machine, read from the driver's files.

Reading files takes microseconds. NVML takes far longer, and is asked only if there is a driver whose files do not tell:
WSL 2 and gVisor have no `/proc/driver/nvidia`, and after a boot a device node may appear only with its first use.
"""

import re
from collections.abc import Iterator
from pathlib import Path

_SIGNS = ("proc/driver/nvidia/version", "dev/nvidiactl", "dev/dxg")  # dxg: the GPU of WSL 2
_JETSON = ("etc/nv_tegra_release", "sys/class/tegra-firmware")  # as vLLM's cuda_is_jetson looks for it


def nvidia_gpus(root: str = "/") -> tuple[str, ...]:
    """Names of the GPUs that a process here can use, in the driver's order; empty without a driver.

    `CUDA_VISIBLE_DEVICES` does not count: vLLM chooses its platform without it.

    Args:
        root: the folder that holds `proc` and `dev`.
    """
    base = Path(root)
    if not any((base / sign).exists() for sign in _SIGNS):
        return ()
    names = tuple(_from_files(base))
    if names:
        return names
    from tuner.environment.nvml import nvml_names  # noqa: PLC0415  needed on few machines

    return tuple(nvml_names())


def is_jetson(root: str = "/") -> bool:
    """Whether this is an NVIDIA Jetson, whose GPU is not a PCI device and may be missing in NVML."""
    return any((Path(root) / sign).exists() for sign in _JETSON)


def parse_information(text: str) -> tuple[str, str] | None:
    """Model and device minor of a GPU's `information` file; None if either is missing."""
    model = re.search(r"^Model:[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE)
    minor = re.search(r"^Device Minor:[ \t]*(\d+)[ \t]*$", text, re.MULTILINE)
    return (model[1], minor[1]) if model and minor else None


def _from_files(base: Path) -> Iterator[str]:
    """The GPUs in the driver's list that have a device node: a container sees the host's list and its own nodes."""
    for path in sorted(base.glob("proc/driver/nvidia/gpus/*/information")):
        information = parse_information(path.read_text(errors="replace"))
        if information is None:
            continue
        model, minor = information
        if (base / f"dev/nvidia{minor}").exists():
            yield model
