"""What NVML, the library of NVIDIA's driver, tells of the GPUs. It takes far longer than reading files."""

import ctypes
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE
_OK = 0
Ask = Callable[[Any, Any], Any]
"""From the library and the handle of a GPU to an answer; None if there is none."""


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def nvml_names() -> Iterator[str]:
    """The names of the GPUs; none if the library is missing or refuses."""
    yield from _answers(_name)


def gpu_memory(root: str = "/") -> int | None:
    """Bytes of memory of the smallest GPU; None if neither NVML nor the files of AMD's driver tell.

    Args:
        root: the folder that holds `sys`.
    """
    sizes: list[int] = list(_answers(_total))
    for path in Path(root).glob("sys/class/drm/card*/device/mem_info_vram_total"):
        text = path.read_text(errors="replace").strip()
        sizes += [int(text)] if text.isdecimal() else []
    return min((size for size in sizes if size > 0), default=None)


def _name(nvml: Any, device: Any) -> str | None:
    name = ctypes.create_string_buffer(_NAME_BYTES)
    return name.value.decode(errors="replace") if nvml.nvmlDeviceGetName(device, name, _NAME_BYTES) == _OK else None


def _total(nvml: Any, device: Any) -> int | None:
    memory = _Memory()
    return int(memory.total) if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == _OK else None


def _answers(ask: Ask) -> Iterator[Any]:
    """The answer of each GPU that has one."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return
    if nvml.nvmlInit_v2() != _OK:
        return
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        device = ctypes.c_void_p()
        nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
        answer = ask(nvml, device)
        if answer is not None:
            yield answer
    nvml.nvmlShutdown()
