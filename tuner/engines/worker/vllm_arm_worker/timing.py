"""Clocks: the phases of an engine's start, and the steps of its answers."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from shared_worker.vllm_types import VllmConfig
from vllm_arm_worker.prompts import Answer

PHASES = {
    "load_model": "weights",
    "determine_available_memory": "profile",
    "initialize_from_config": "kv_cache",
    "compile_or_warm_up_model": "warm_up",
}
"""Method of vLLM's worker -> its phase (v1/worker/gpu_worker.py and cpu_worker.py, 0.16.0 to 0.33.0)."""
CACHES = ("cache", "inductor")
"""The folders of an engine in which it writes what it compiled (see `forks.CACHES`)."""
STEPS = {"long_answer": "step", "of_11_0": "step_of_11"}
"""Prompt -> the name of its median decode step."""

_seconds: dict[str, float] = {}
_open: list[str] = []


class Clock:
    """Measures the start of an engine from the moment in which it is made."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()

    def phases(self, control: Path, of_worker: dict[str, float], config: VllmConfig) -> dict[str, float]:
        """Seconds of each phase of the start, once the engine is ready.

        Args:
            control: the folder of the engine. The folder above it holds the request, and the file that was written when
                vLLM was imported.
            of_worker: the phases of the first worker process (see `phase_seconds`).
            config: the launch.

        Returns:
            `import`: vLLM's import, which all engines of a process share. `weights`: build the model and fill its
            weights. `compile`: compile it. `profile`: the rest of the profile run. `kv_cache`: make the KV cache.
            `autotune`: FlashInfer's autotune. `kernels`: the rest of the warm-up of kernels. `graphs`: capture the CUDA
            graphs. `warm_up`: the rest of the warm-up. `ready`: the whole start without the import.
        """
        ready = time.perf_counter() - self._begin
        request_time = (control.parent / "request.json").stat().st_mtime
        import_time = (control.parent / "ready.json").stat().st_mtime
        seconds = {
            "import": import_time - request_time,
            "compile": float(getattr(config.compilation_config, "compilation_time", 0.0) or 0.0),
            **of_worker,
            "ready": ready,
        }
        parts_of = {"profile": ["compile"], "kernels": ["autotune"], "warm_up": ["kernels", "graphs"]}
        whole = dict(seconds)
        for outer, parts in parts_of.items():
            if outer in seconds:
                rest = whole[outer] - sum(whole.get(part, 0.0) for part in parts)
                seconds[outer] = max(0.0, rest)
        return {name: round(value, 3) for name, value in seconds.items()}


def phase_seconds() -> dict[str, float]:
    """Phase -> seconds that this process spent in it."""
    return dict(_seconds)


def of_steps(answers: dict[str, Answer]) -> dict[str, float]:
    """Seconds of a decode step: `step` with one prompt, and `step_of_11` with eleven."""
    medians: dict[str, float] = {}
    for prompt, name in STEPS.items():
        if prompt in answers and answers[prompt].seconds:
            medians[name] = round(median(answers[prompt].seconds), 6)
    return medians


def cache_size(control: Path) -> int:
    """The bytes of all files in the caches of an engine."""
    size = 0
    for name in CACHES:
        for file in (control / name).rglob("*"):
            if file.is_file() and not file.is_symlink():
                size += file.stat().st_size
    return size


def install(loaded: Callable[[VllmConfig], None], pass_begins: Callable[[int], None]) -> None:
    """Time the methods of vLLM's workers.

    Args:
        loaded: called with the config after the model is loaded, and before it is compiled.
        pass_begins: called before each pass of requests, with the number of its tokens without padding.
    """
    from vllm.v1.worker import gpu_worker

    for owner in worker_classes():
        for method, phase in PHASES.items():
            if method in vars(owner):
                after = loaded if method == "load_model" else None
                setattr(owner, method, with_timing(phase, vars(owner)[method], after))
    for module, name, phase in inner_functions():
        setattr(module, name, with_timing(phase, getattr(module, name)))
    execute = gpu_worker.Worker.execute_model

    def note_and_execute(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        pass_begins(scheduler_output.total_num_scheduled_tokens)
        return execute(self, scheduler_output, *args, **kwargs)

    gpu_worker.Worker.execute_model = note_and_execute


def worker_classes() -> list[Any]:
    """The classes of vLLM's workers that serve this platform. That of a CPU extends that of a GPU.

    The module of the CPU's worker is imported on a CPU alone: its import changes how tensors reach a device.
    """
    from vllm.platforms import current_platform
    from vllm.v1.worker import gpu_worker

    if current_platform.device_type != "cpu":
        return [gpu_worker.Worker]
    from vllm.v1.worker import cpu_worker

    return [gpu_worker.Worker, cpu_worker.CPUWorker]


def inner_functions() -> list[tuple[Any, str, str]]:
    """The parts of a warm-up that this release has: a module or class, the name of its function, and the phase."""
    from vllm.model_executor.warmup import kernel_warmup
    from vllm.v1.worker import gpu_model_runner, gpu_worker

    functions = [
        (gpu_worker, "kernel_warmup", "kernels"),
        (kernel_warmup, "flashinfer_autotune", "autotune"),
        (gpu_model_runner.GPUModelRunner, "capture_model", "graphs"),
    ]
    return [(owner, name, phase) for owner, name, phase in functions if hasattr(owner, name)]


def with_timing(phase: str, function: Callable[..., Any], after: Callable[[VllmConfig], None] | None = None) -> Any:
    """A function that adds its seconds to a phase. A call within a call of the same phase is not counted again."""

    def call_and_time(*args: Any, **kwargs: Any) -> Any:
        inside = phase in _open
        _open.append(phase)
        begin = time.perf_counter()
        try:
            result = function(*args, **kwargs)
        finally:
            _open.remove(phase)
        if not inside:
            _seconds[phase] = _seconds.get(phase, 0.0) + time.perf_counter() - begin
        if after is not None and not inside:
            after(args[0].vllm_config)
        return result

    return call_and_time
