"""The NVIDIA GPUs of a machine, read from the driver's files."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tuner.environment.gpu import is_jetson, nvidia_gpus, parse_information
from tuner.environment.nvml import gpu_memory

INFORMATION = """Model: \t\t NVIDIA H100 80GB HBM3
IRQ:   \t\t 92
GPU UUID: \t GPU-00000000-0000-0000-0000-000000000000
Bus Type: \t PCIe
Device Minor: \t {minor}
GPU Excluded:\t No
"""


def write(root: Path, name: str, text: str = "") -> None:
    """Write a file below a root."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def add_gpu(root: Path, minor: int, *, node: bool = True) -> None:
    """Let the driver list a GPU, with its device node or without."""
    write(root, f"proc/driver/nvidia/gpus/0000:0{minor}:00.0/information", INFORMATION.format(minor=minor))
    if node:
        write(root, f"dev/nvidia{minor}")


def test_no_driver_means_no_gpu(tmp_path: Path) -> None:
    """A machine without the driver is told at once."""
    assert nvidia_gpus(str(tmp_path)) == ()


def test_the_driver_lists_its_gpus(tmp_path: Path) -> None:
    """Names come from the driver's information files, one for each GPU."""
    write(tmp_path, "dev/nvidiactl")
    add_gpu(tmp_path, 0)
    add_gpu(tmp_path, 1)
    assert nvidia_gpus(str(tmp_path)) == ("NVIDIA H100 80GB HBM3",) * 2


def test_a_container_counts_only_the_gpus_it_was_given(tmp_path: Path) -> None:
    """The host's list is visible in every container; a device node is only where the GPU may be used."""
    write(tmp_path, "dev/nvidiactl")
    add_gpu(tmp_path, 0, node=False)
    add_gpu(tmp_path, 1)
    assert len(nvidia_gpus(str(tmp_path))) == 1


def test_an_information_file_without_a_model_is_no_gpu() -> None:
    """A format that is not known gives nothing rather than a wrong name."""
    assert parse_information(INFORMATION.format(minor=3)) == ("NVIDIA H100 80GB HBM3", "3")
    assert parse_information("Model: \nDevice Minor: 0\n") is None
    assert parse_information("") is None


def test_a_jetson_is_known_by_its_files(tmp_path: Path) -> None:
    """The two files that vLLM looks for."""
    assert not is_jetson(str(tmp_path))
    write(tmp_path, "etc/nv_tegra_release")
    assert is_jetson(str(tmp_path))


def test_the_memory_is_that_of_the_smallest_gpu(tmp_path: Path) -> None:
    """Files of AMD's driver; what is no number is not counted. NVML is asked as well, where it is there."""
    write(tmp_path, "sys/class/drm/card0/device/mem_info_vram_total", "2048\n")
    write(tmp_path, "sys/class/drm/card1/device/mem_info_vram_total", "1024\n")
    write(tmp_path, "sys/class/drm/card2/device/mem_info_vram_total", "none\n")
    assert gpu_memory(str(tmp_path)) == 1024


@pytest.mark.skipif(
    shutil.which("nvidia-smi") is None, reason="no nvidia-smi here: a machine with an NVIDIA GPU has it"
)
def test_the_memory_is_what_nvidia_smi_says(tmp_path: Path) -> None:
    """In MiB, of the smallest GPU."""
    words = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    memory = gpu_memory(str(tmp_path))
    assert memory is not None
    assert abs(memory / 2**20 - min(map(int, listed))) <= 1


def test_nvml_is_asked_where_the_files_do_not_tell(tmp_path: Path) -> None:
    """A driver without /proc/driver/nvidia, as under gVisor and WSL 2, gives what nvidia-smi lists; else nothing."""
    write(tmp_path, "dev/nvidiactl")
    smi = shutil.which("nvidia-smi")
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, check=False).stdout if smi else ""
    names = tuple(line.partition(": ")[2].partition(" (UUID")[0] for line in listed.splitlines())
    assert nvidia_gpus(str(tmp_path)) == names


@pytest.mark.skipif(not Path("/dev/nvidiactl").exists(), reason="no NVIDIA driver here")
def test_this_machines_gpus_are_found() -> None:
    """On a real GPU machine at least one GPU has a name."""
    assert all(name.strip() for name in nvidia_gpus())
    assert nvidia_gpus()
