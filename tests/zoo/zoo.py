"""Models whose verdict is known by construction, made of vLLM's own small Qwen3-MoE classes.

Put this folder on PYTHONPATH: vLLM finds `register` through the entry point in the `.dist-info` folder beside it. Works
with vLLM 0.19.1 and 0.32.0. `zoo_truth` says what is true of each.
"""
# ruff: noqa: ARG002, D101, D102, PLW0108, TRY301  the shape of each branch is what is tested

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from vllm import ModelRegistry
from vllm.config import VllmConfig
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.models.qwen3_moe import Qwen3MoeModel
from vllm.model_executor.models.utils import maybe_prefix

HIDDEN_TOKEN = 777


def register() -> None:
    """Make vLLM accept every model below by its class name; the entry point of the group `vllm.general_plugins`."""
    for model in ZooModel.__subclasses__():
        ModelRegistry.register_model(model.__name__, model)


def overflows(hidden: torch.Tensor) -> bool:
    """Whether the values are larger than any probe makes them."""
    return bool(hidden.float().sum() > 1e9)


class ZooModel(nn.Module):
    """A language model over Qwen3-MoE's layers that runs them in order; the others change one thing."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        self.config = vllm_config.model_config.hf_text_config
        self.model = Qwen3MoeModel(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.logits_processor = LogitsProcessor(self.config.vocab_size)
        self.prepare(vllm_config, prefix)

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        """Add to what was constructed."""

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        hidden = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        hidden, residual = self.run(hidden, positions, input_ids)
        return self.model.norm(hidden, residual)[0]

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        """Every layer in order, but for those that `skips` leaves out."""
        residual = None
        for index, layer in enumerate(self.model.layers):
            if self.skips(index, hidden, positions, input_ids):
                continue
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        """Whether this layer is left out of this pass."""
        return False

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.logits_processor(self.model.embed_tokens, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        raise NotImplementedError  # there are no checkpoints: engines draw weights


class PlainForCausalLM(ZooModel):
    pass


class ConfigBranchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return self.config.num_experts == 1


class PrefixExitForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for index, layer in enumerate(self.model.layers):
            if index == 3 and hidden.shape[0] == 1:
                break
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class HarmlessBranchForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        if overflows(hidden):
            hidden = hidden / 2
        return super().run(hidden, positions, input_ids)


class SameCallsForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for layer in self.model.layers:
            if overflows(hidden):
                hidden, residual = layer(positions, hidden * 0.5, residual)
            else:
                hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class RareRaiseForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        if overflows(hidden):
            raise ValueError("values out of range")
        return super().run(hidden, positions, input_ids)


class UnusedExpertsForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.used, self.model = self.model, None
        self.model = Qwen3MoeModel(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "second"))


class ReverseForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for layer in reversed(self.model.layers):
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class TiedForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for index in range(2 * len(self.model.layers)):
            hidden, residual = self.model.layers[index % len(self.model.layers)](positions, hidden, residual)
        return hidden, residual


class DecodeOnlySkipForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and hidden.shape[0] == 1


class TokenSwitchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and input_ids is not None and bool((input_ids == self.config.skip_token_id).any())


class HiddenTokenSwitchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and input_ids is not None and bool((input_ids == HIDDEN_TOKEN).any())


class LongContextSwitchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        last = int(positions.max())
        return index == 1 and 3000 < last < 3005


class LargePrefillSwitchForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.limit = 1500

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and self.limit < hidden.shape[0] < 1600


class PositionsSwitchForCausalLM(ZooModel):
    """Positions have one dimension: their last one is the number of tokens, as vLLM's own code writes it."""

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and 1500 < positions.shape[-1] < 1600


class ExactBatchSwitchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and positions.shape[-1] == 300


class RemainderSwitchForCausalLM(ZooModel):
    """Only arithmetic leads to a batch of 300 or 1309 tokens."""

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and len(positions) * 31 % 1009 == 219


class NestedSizesSwitchForCausalLM(ZooModel):
    """One comparison hides another: a size for the second is found only where the first holds."""

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and hidden.shape[0] > 1000 and hidden.shape[0] % 97 == 3


class OrderSwapForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        first, second, *others = self.model.layers
        if hidden.shape[0] == 1:
            first, second = second, first
        residual = None
        for layer in (first, second, *others):
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class MaskSwitchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        mask = None if input_ids is None else input_ids == HIDDEN_TOKEN
        if mask is not None and mask.all():
            return index == 1
        return False


class RandomSkipForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and bool(torch.rand(()) < 0.25)


class TrySwitchForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for index, layer in enumerate(self.model.layers):
            try:
                if index == 1 and hidden.shape[0] == 33:
                    raise ValueError
                hidden, residual = layer(positions, hidden, residual)
            except ValueError:
                pass
        return hidden, residual


class StatefulSwitchForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.odd = False

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        if index == 0:
            self.odd = not self.odd
        return index == 1 and self.odd


class HelperSwitchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and self.is_marked(input_ids)

    def is_marked(self, input_ids: Any) -> bool:
        if input_ids is None:
            return False
        wanted = HIDDEN_TOKEN + 100
        return bool(torch.isin(input_ids, wanted).any())


class MiddleSkipForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return 8 <= index < 12 and hidden.shape[0] == 1


class ConstantMiddleSkipForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 10


class OverflowSkipForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and overflows(hidden)


class OverflowChoiceForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        first, second, *others = self.model.layers
        chosen = second if overflows(hidden) else first
        residual = None
        for layer in (chosen, second, *others):
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class OverflowIndexForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        shift, residual = int(overflows(hidden)), None
        count = len(self.model.layers)
        for index in range(count):
            hidden, residual = self.model.layers[(index + shift) % count](positions, hidden, residual)
        return hidden, residual


class OverflowLoopForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        start, residual = int(overflows(hidden)), None
        for layer in self.model.layers[start:]:
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class OverflowHandlerForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for index, layer in enumerate(self.model.layers):
            try:
                assert index != 1 or not overflows(hidden)  # what is caught below
                hidden, residual = layer(positions, hidden, residual)
            except AssertionError:
                pass
        return hidden, residual


class OverflowAndForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for index, layer in enumerate(self.model.layers):
            done = (index != 1 or not overflows(hidden)) and layer(positions, hidden, residual)
            hidden, residual = done or (hidden, residual)
        return hidden, residual


class ModalitySwitchForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and input_ids is None


class ParityForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and int(positions[-1]) % 7 == 3


class MarkedForCausalLM(ZooModel):
    """An attribute that only an arm never taken would set."""

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.marked = False

    def mark(self) -> None:
        self.marked = True

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        if overflows(hidden):
            self.mark()
        residual = None
        for layer in self.model.layers:
            if self.marked:
                continue
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class Walker:
    """A plain object that keeps the layers."""

    def __init__(self, layers: Any) -> None:
        self.layers = layers

    def all(self, positions: Any, hidden: Any) -> tuple[Any, Any]:
        residual = None
        for layer in self.layers:
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual

    def backwards(self, positions: Any, hidden: Any) -> tuple[Any, Any]:
        residual = None
        for layer in reversed(self.layers):
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class HelperObjectForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.walker = Walker(self.model.layers)

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        if overflows(hidden):
            return self.walker.backwards(positions, hidden)
        return self.walker.all(positions, hidden)


class ClosureForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        layers = self.model.layers
        self.again: Callable[..., Any] = lambda positions, hidden, residual: layers[0](positions, hidden, residual)

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        hidden, residual = super().run(hidden, positions, input_ids)
        if overflows(hidden):
            hidden, residual = self.again(positions, hidden, residual)
        return hidden, residual


class PartialForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.again = partial(self.model.layers[0])

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        hidden, residual = super().run(hidden, positions, input_ids)
        if overflows(hidden):
            hidden, residual = self.again(positions, hidden, residual)
        return hidden, residual


class NestedForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        def again(hidden: Any, residual: Any) -> Any:
            return self.model.layers[0](positions, hidden, residual)

        hidden, residual = super().run(hidden, positions, input_ids)
        if overflows(hidden):
            hidden, residual = again(hidden, residual)
        return hidden, residual


class GeneratorForCausalLM(ZooModel):
    def chosen(self, hidden: Any) -> Iterator[Any]:
        for index, layer in enumerate(self.model.layers):
            if index == 1 and overflows(hidden):
                continue
            yield layer

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for layer in self.chosen(hidden):
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class FilterForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for layer in [one for index, one in enumerate(self.model.layers) if index != 1 or not overflows(hidden)]:
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class SortedForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        sign = -1 if overflows(hidden) else 1
        order = sorted(range(len(self.model.layers)), key=lambda index: sign * index)
        residual = None
        for index in order:
            hidden, residual = self.model.layers[index](positions, hidden, residual)
        return hidden, residual


class DispatchForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        first, second, *others = self.model.layers
        hidden, residual = {True: second, False: first}[overflows(hidden)](positions, hidden, None)
        for layer in (second, *others):
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class GetattrForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.usual, self.rare = self.model.layers[0], self.model.layers[1]

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        name = "rare" if overflows(hidden) else "usual"
        hidden, residual = getattr(self, name)(positions, hidden, None)
        for layer in self.model.layers[1:]:
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class WhileForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        index, residual = 0, None
        while index < len(self.model.layers):
            hidden, residual = self.model.layers[index](positions, hidden, residual)
            index += 2 if overflows(hidden) else 1
        return hidden, residual


class MatchForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        layers, residual = self.model.layers, None
        match overflows(hidden):
            case True:
                chosen = layers[1:]
            case _:
                chosen = layers
        for layer in chosen:
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class SwappedForCausalLM(ZooModel):
    """A branch that exchanges what is called later without calling anything."""

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        layers, residual = list(self.model.layers), None
        if overflows(hidden):
            layers.reverse()
        for layer in layers:
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class RaisedForCausalLM(ZooModel):
    """An exception thrown in a helper leaves the loop early, caught further out."""

    def layer(self, index: int, positions: Any, hidden: Any, residual: Any) -> tuple[Any, Any]:
        if index == 1 and overflows(hidden):
            raise LookupError
        return self.model.layers[index](positions, hidden, residual)

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        residual = None
        for index in range(len(self.model.layers)):
            try:
                hidden, residual = self.layer(index, positions, hidden, residual)
            except LookupError:
                continue
        return hidden, residual


class LocalsForCausalLM(ZooModel):
    """Aliases, tuples and helpers, and nothing that branches."""

    def walk(self, layers: Any, positions: Any, hidden: Any) -> tuple[Any, Any]:
        residual = None
        for index, layer in enumerate(layers):
            scale = 0.5 if overflows(hidden) else 1.0
            hidden, residual = layer(positions, hidden * scale, residual)
            if index in (1, 3) and hidden.shape[0] > 3:
                hidden = hidden + 0
        return hidden, residual

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        layers = tuple(self.model.layers)
        return self.walk(layers, positions, hidden)


RARELY = 100_000
"""Passes after which the models below would leave the order; no probe runs so many."""


class Clock:
    """Counts passes where no module of the model can see it."""

    def __init__(self) -> None:
        self.passes = 0

    def tick(self) -> None:
        self.passes += 1


class HiddenClockForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.clock = Clock()

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        self.clock.tick()
        return super().run(hidden, positions, input_ids)

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and self.clock.passes > RARELY


COUNTED = 0
COUNTS = {"passes": 0}


def count() -> None:
    """Count a pass in the globals of this module."""
    global COUNTED  # noqa: PLW0603  what is tested
    COUNTED += 1
    COUNTS["passes"] += 1


class GlobalNumberForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        count()
        return index == 1 and COUNTED > RARELY


class GlobalDictForCausalLM(ZooModel):
    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        count()
        return index == 1 and COUNTS["passes"] > RARELY


class PropertyForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.passes = 0

    @property
    def is_worn(self) -> bool:
        return self.passes > RARELY

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        self.passes += 1
        return super().run(hidden, positions, input_ids)

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and self.is_worn


class TensorListForCausalLM(ZooModel):
    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.sums = [torch.zeros(1), torch.zeros(1)]

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        self.sums[0].add_(1)
        return index == 1 and bool(self.sums[0] > RARELY)


class HasattrForCausalLM(ZooModel):
    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        if overflows(hidden):
            self.seen = True
        return super().run(hidden, positions, input_ids)

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        return index == 1 and hasattr(self, "seen")


class ClassCounterForCausalLM(ZooModel):
    passes = 0

    def skips(self, index: int, hidden: Any, positions: Any, input_ids: Any) -> bool:
        type(self).passes += 1
        return index == 1 and self.passes > RARELY


class ExtraLoopForCausalLM(ZooModel):
    """A loop that no usual input enters."""

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        hidden, residual = super().run(hidden, positions, input_ids)
        for layer in self.model.layers[: int(overflows(hidden))]:
            hidden, residual = layer(positions, hidden, residual)
        return hidden, residual


class NoCaseForCausalLM(ZooModel):
    """A match without a case for the usual value."""

    def run(self, hidden: Any, positions: Any, input_ids: Any) -> tuple[Any, Any]:
        hidden, residual = super().run(hidden, positions, input_ids)
        match overflows(hidden):
            case True:
                hidden, residual = self.model.layers[0](positions, hidden, residual)
        return hidden, residual
