"""A vLLM plugin that plants one fault, or its sound twin, into the MoE layers of every model.

`PLANTED` names it, one of `FAULTS`. The faults copy the shape of known ones: an input of the experts that a CUDA graph
freezes (vllm 52308), a graph of one token that is wrong (57720), a fusion that is wrong (48330), a kernel that adds
noise, numbers that are not finite, a start that hangs, and one that crashes. A judge of engines must find each fault,
and must not find a twin.
"""

import os
import time
from collections.abc import Callable
from typing import Any

LAYER = 1
"""The place of the layer that is changed, in construction order."""
SCALE = 1.5
NOISE = 0.2
"""Standard deviations of an input."""
PASS = os.environ.get("PLANTED_PASS", "eliminate_noops")
"""The compiler pass whose switch decides over the wrong fusion. This one is on in every launch that runs passes."""

Values = Any
"""A `torch.Tensor`."""


def register() -> None:
    """Plant what `PLANTED` names. vLLM calls this in each of its processes."""
    name = os.environ.get("PLANTED", "")
    if not name or _planted:
        return
    _planted.append(name)
    FAULTS[name](name)


_planted: list[str] = []


def of_inputs(name: str) -> None:
    """Send the input of a layer through our operator, which compiled code keeps as it is."""
    import torch

    library = torch.library.Library("planted", "FRAGMENT")
    library.define("pass_on(Tensor values) -> Tensor")
    library.impl("pass_on", INPUTS[name], "CompositeExplicitAutograd")
    torch.library.register_fake("planted::pass_on", lambda values: values.new_empty(values.shape), lib=library)
    _library.append(library)
    in_forward(lambda runner, values: torch.ops.planted.pass_on(values) if runner.planted else values)


_library: list[Any] = []


def captured(values: Values) -> bool:
    """Whether a CUDA graph is being captured."""
    import torch

    return bool(values.is_cuda and torch.cuda.is_current_stream_capturing())


def frozen(values: Values) -> Values:
    """Zeros in place of the input, in every CUDA graph."""
    return values.new_zeros(values.shape) if captured(values) else values.clone()


def frozen_one_token(values: Values) -> Values:
    """The same in graphs of one token only."""
    return frozen(values) if values.shape[0] == 1 else values.clone()


def frozen_full(values: Values) -> Values:
    """The same in full graphs only, which hold a whole pass."""
    from vllm.forward_context import get_forward_context

    is_full = getattr(get_forward_context().cudagraph_runtime_mode, "name", "") == "FULL"
    return frozen(values) if is_full else values.clone()


def stale(values: Values) -> Values:
    """The input of the capture, kept for ever: it was copied once, and not in the graph."""
    if not captured(values):
        _kept[values.shape[0]] = values.clone()
        return values.clone()
    before = _kept.get(values.shape[0])
    return before * 1.0 if before is not None else values.new_zeros(values.shape)


_kept: dict[int, Any] = {}


def copied(values: Values) -> Values:
    """The sound twin of the frozen inputs: the input is copied, in the graph as well."""
    return values.clone()


def noisy(values: Values) -> Values:
    """The input with noise."""
    import torch

    return values + torch.randn_like(values) * values.float().std().to(values.dtype) * NOISE


def quiet(values: Values) -> Values:
    """The sound twin: the noise is multiplied by zero."""
    import torch

    return values + torch.randn_like(values) * 0.0


def not_a_number(values: Values) -> Values:
    """NaN in every CUDA graph."""
    return values * float("nan") if captured(values) else values.clone()


INPUTS: dict[str, Callable[[Values], Values]] = {
    "frozen": frozen,
    "frozen_full": frozen_full,
    "frozen_one_token": frozen_one_token,
    "stale": stale,
    "copied": copied,
    "noisy": noisy,
    "quiet": quiet,
    "nan": not_a_number,
}


def of_compiling(name: str) -> None:
    """Scale the input of a layer in compiled code alone; the twin scales it by one."""
    import torch

    factor = SCALE if name == "compiled" else 1.0
    in_forward(lambda runner, values: values * factor if runner.planted and torch.compiler.is_compiling() else values)


def of_fusion(name: str) -> None:
    """Scale the input of a layer in compiled code if a compiler pass is on; the twin scales it by one."""
    import torch

    factor = SCALE if name == "fusion" else 1.0

    def fused(runner: Any, values: Values) -> Values:
        if runner.planted and runner.pass_is_on and torch.compiler.is_compiling():
            return values * factor
        return values

    in_forward(fused)


def in_forward(change: Callable[[Any, Values], Values]) -> None:
    """Change the hidden states before `forward` of each MoE runner."""
    from vllm.config import get_current_vllm_config

    count = [0]
    for runner in runner_classes():
        begin, forward = runner.__init__, runner.forward

        def beginning(self: Any, *args: Any, begin: Any = begin, **kwargs: Any) -> None:
            begin(self, *args, **kwargs)
            passes = get_current_vllm_config().compilation_config.pass_config
            self.planted = count[0] == LAYER
            self.pass_is_on = bool(getattr(passes, PASS, False))
            count[0] += 1

        def forwarding(self: Any, hidden_states: Values, *args: Any, forward: Any = forward, **kwargs: Any) -> Any:
            return forward(self, change(self, hidden_states), *args, **kwargs)

        runner.__init__, runner.forward = beginning, forwarding


def runner_classes() -> list[Any]:
    """The classes of vLLM's MoE runners that define `forward` (fused_moe/runner, 0.19.1 to 0.33.0)."""
    from importlib import import_module

    classes = []
    for module, name in (("moe_runner", "MoERunner"), ("default_moe_runner", "DefaultMoERunner")):
        try:
            runner = getattr(import_module(f"vllm.model_executor.layers.fused_moe.runner.{module}"), name)
        except ImportError:
            continue
        if not getattr(runner.forward, "__isabstractmethod__", False) and "_forward_impl" in dir(runner):
            classes.append(runner)
    return classes


def inside(_: str) -> None:
    """Zeros in place of the input within the operator of the MoE layer, in every CUDA graph."""
    in_forward(lambda _runner, values: values)
    for runner in runner_classes():
        run = runner._forward_impl

        def running(self: Any, *args: Any, run: Any = run, **kwargs: Any) -> Any:
            if not self.planted:
                return run(self, *args, **kwargs)
            changed = [frozen(value) if is_numbers(value) else value for value in args]
            named = {name: frozen(value) if is_numbers(value) else value for name, value in kwargs.items()}
            return run(self, *changed, **named)

        runner._forward_impl = running


def is_numbers(value: object) -> bool:
    """Whether an argument is a tensor of floating-point numbers."""
    return bool(getattr(value, "is_floating_point", bool)())


def at_start(name: str) -> None:
    """Hang or crash where full CUDA graphs are captured; on a CPU, where the model is compiled."""
    from vllm.platforms import current_platform
    from vllm.v1.worker import gpu_worker

    def stop() -> None:
        if name == "crash":
            os.abort()
        time.sleep(10_000)

    def planted(method: Callable[..., Any], is_hit: Callable[[Any], bool]) -> Callable[..., Any]:
        def starting(self: Any, *args: Any, **kwargs: Any) -> Any:
            if is_hit(self.vllm_config.compilation_config):
                stop()
            return method(self, *args, **kwargs)

        return starting

    worker = gpu_worker.Worker
    worker.compile_or_warm_up_model = planted(
        worker.compile_or_warm_up_model, lambda config: "FULL" in str(config.cudagraph_mode)
    )
    if current_platform.device_type == "cpu":  # on a GPU, the import of this module changes how tensors reach it
        from vllm.v1.worker import cpu_worker

        on_cpu = cpu_worker.CPUWorker
        on_cpu.compile_or_warm_up_model = planted(
            on_cpu.compile_or_warm_up_model, lambda config: getattr(config.mode, "value", config.mode) != 0
        )


FAULTS: dict[str, Callable[[str], None]] = {
    **dict.fromkeys(INPUTS, of_inputs),
    "compiled": of_compiling,
    "compiled_twin": of_compiling,
    "fusion": of_fusion,
    "fusion_twin": of_fusion,
    "inside": inside,
    "hang": at_start,
    "crash": at_start,
}
