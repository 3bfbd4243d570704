"""What an arm needs in each process of its engine. vLLM adds `ArmRank` to the bases of its worker class.

Each process imports this module, and the import installs the weights, the clocks and the measuring of inputs.
"""

from typing import Any

from shared_worker.vllm_types import VllmConfig
from vllm_arm_worker import backends, timing
from vllm_arm_worker.inputs import Tap
from vllm_launch_worker.dummy_weights import DummyWeights


class ArmRank(DummyWeights):
    """The methods that an engine may call on its workers by name.

    Attributes:
        vllm_config: the launch. vLLM's worker sets this attribute, and the next one.
        model_runner: it holds the loaded model.
    """

    vllm_config: VllmConfig
    model_runner: Any

    def weight_bytes(self) -> int:
        """The bytes of this process's weights, as kernels use them."""
        return sum(weight.numel() * weight.element_size() for weight in self.model_runner.model.parameters())

    def inputs_clear(self) -> None:
        """Delete all measured inputs."""
        for tap in _taps:
            tap.clear()

    def inputs(self) -> list[dict[str, Any]]:
        """The inputs of the MoE calls since the last `inputs_clear` (see `Tap.read`)."""
        calls: list[dict[str, Any]] = []
        for tap in _taps:
            calls += tap.read()
        return calls

    def phases(self) -> dict[str, float]:
        """Seconds of the phases of this process's start."""
        return timing.phase_seconds()

    def moe_backends(self) -> dict[str, Any]:
        """See `backends.model_backends`."""
        return backends.model_backends(self.vllm_config)


_taps: list[Tap] = []


def measure(vllm_config: VllmConfig) -> None:
    """Measure the inputs of all MoE layers of a loaded model."""
    names = list(getattr(vllm_config.compilation_config, "static_all_moe_layers", []))
    layers = vllm_config.compilation_config.static_forward_context
    for name in names:
        if not _taps:
            _taps.append(Tap(next(layers[name].parameters()).device))
        if name not in _taps[0].names:
            _taps[0].attach(name, layers[name])


def begin_pass(tokens: int) -> None:
    """Record that a pass with this number of real tokens starts."""
    for tap in _taps:
        tap.begin_pass(tokens)


timing.install(loaded=measure, pass_begins=begin_pass)
backends.install()
