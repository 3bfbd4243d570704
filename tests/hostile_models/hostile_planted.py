"""Planted faults: regions whose calls nothing orders, wrappers that go round a region, and safe models beside them."""
# ruff: noqa: ARG002, D101, D102  the shape of each model is what is tested

from typing import Any

import torch
from hostile_base import RARE, Chooser, Kind, Layers, Outer, Parts, PlainRegion, RareBatch, region
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.forward_context import get_forward_context, override_forward_context, set_forward_context
from vllm.model_executor.model_loader.utils import process_weights_after_loading
from vllm.model_executor.models.qwen3_moe import Qwen3MoeDecoderLayer, Qwen3MoeModel
from vllm.model_executor.models.utils import maybe_prefix
from vllm.utils.torch_utils import direct_register_custom_op

PLANTED: dict[str, type[nn.Module]] = {}
"""Name -> model, without the ending of a class that vLLM serves."""


def planted(base: type[Layers], outer: type[Outer] = Outer, **options: Any) -> type[Layers]:
    """Put vLLM's decorator on a region, and plant the model around it under the same name."""
    compiled = region(f"{base.__name__}Region", base, base.kind_type, **options)
    PLANTED[base.__name__] = type(f"{base.__name__}ForCausalLM", (outer,), {"region_type": compiled})
    return base


def around(model: type[Outer]) -> type[Outer]:
    """Plant a model whose fault lies around its region."""
    PLANTED[model.__name__.removesuffix("ForCausalLM")] = model
    return model


# ---- safe: `true` is right for these


@planted
class Plain(Layers):
    """No branch."""


@planted
class ConstantBranch(Layers):
    """What decides was fixed by the config."""

    def walk(self, kind: Kind, positions: Any, hidden: Any, residual: Any, left_out: int = -1) -> tuple[Any, Any]:
        taken = 0 if self.config.num_experts == 1 else left_out
        return super().walk(kind, positions, hidden, residual, taken)


@planted
class Frozen(Layers):
    """The number of tokens decides in the region: one trace decides for good."""

    kind_type = RareBatch


@support_torch_compile
class DecoratedTwiceModel(Qwen3MoeModel):
    kind = Kind()

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: Any = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor:
        hidden = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        residual = None
        for layer in self.layers:
            hidden, residual = layer(positions, hidden, residual)
        return self.norm(hidden, residual)[0]


@around
class DecoratedTwiceForCausalLM(Outer):
    """A subclass of vLLM's own region, decorated once more."""

    region_type = DecoratedTwiceModel


# ---- the order inside the region


class Sets(Layers):
    """Sets of experts called by themselves, with attention left out."""

    def walk(self, kind: Kind, positions: Any, hidden: Any, residual: Any, left_out: int = -1) -> tuple[Any, Any]:
        return self.experts(hidden), torch.zeros_like(hidden)

    def experts(self, hidden: Any) -> Any:
        """All sets of experts."""
        raise NotImplementedError

    def chain(self, hidden: Any, *indices: int) -> Any:
        """Sets of experts, one behind the other."""
        for index in indices:
            hidden = hidden + self.layers[index].mlp(hidden)
        return hidden


@planted
class Chain(Sets):
    """Safe: each set reads the sum of what the others gave."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden, 0, 1, 2, 3)


@planted
class DeadResult(Sets):
    """Nobody reads what the first set gives."""

    def experts(self, hidden: Any) -> Any:
        self.layers[0].mlp(hidden * 0.5)
        return self.chain(hidden, 1, 2, 3)


@planted
class DeadTail(Sets):
    """Nobody reads what the last set gives."""

    def experts(self, hidden: Any) -> Any:
        hidden = self.chain(hidden, 0, 1, 2)
        self.layers[3].mlp(hidden)
        return hidden


@planted
class TimesZero(Sets):
    """The first result counts for nothing."""

    def experts(self, hidden: Any) -> Any:
        nothing = self.layers[0].mlp(hidden * 0.5) * 0
        return self.chain(hidden + nothing, 1, 2, 3)


@planted
class TimesZeroAlpha(Sets):
    """As `TimesZero`, with the zero as a keyword of a sum."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(torch.add(hidden, self.layers[0].mlp(hidden * 0.5), alpha=0), 1, 2, 3)


@planted
class TimesZeroBuffer(Sets):
    """As `TimesZero`, with the zero in a buffer, of which no compiler knows: `true` may be given."""

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.register_buffer("nothing", torch.zeros(1), persistent=False)

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden + self.layers[0].mlp(hidden * 0.5) * self.nothing.to(hidden.dtype), 1, 2, 3)


@planted
class EmptySlice(Sets):
    """An empty slice of the first result."""

    def experts(self, hidden: Any) -> Any:
        out = self.layers[0].mlp(hidden * 0.5)
        return self.chain(hidden + out[:, :0].sum(), 1, 2, 3)


@planted
class ZerosLike(Sets):
    """The shape of the first result alone."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden + torch.zeros_like(self.layers[0].mlp(hidden * 0.5)), 1, 2, 3)


@planted
class ZeroedInPlace(Sets):
    """The first result is overwritten with zeros."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden + self.layers[0].mlp(hidden * 0.5).zero_(), 1, 2, 3)


@planted
class PowerZero(Sets):
    """The first result to the power of zero."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden + self.layers[0].mlp(hidden * 0.5) ** 0, 1, 2, 3)


@planted
class Dropped(Sets):
    """Dropout of everything."""

    def experts(self, hidden: Any) -> Any:
        out = torch.nn.functional.dropout(self.layers[0].mlp(hidden * 0.5), p=1.0, training=True)
        return self.chain(hidden + out, 1, 2, 3)


@planted
class SideBySide(Sets):
    """Two sets on the same input: nothing orders them."""

    def experts(self, hidden: Any) -> Any:
        both = self.layers[0].mlp(hidden) + self.layers[1].mlp(hidden)
        return self.chain(both, 2, 3)


@planted
class SideBySideSwapped(Sets):
    """As `SideBySide`, written in the other order."""

    def experts(self, hidden: Any) -> Any:
        both = self.layers[1].mlp(hidden) + self.layers[0].mlp(hidden)
        return self.chain(both, 2, 3)


@planted
class SwappedPair(Sets):
    """Two sets in the other order, in every pass."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden, 1, 0, 2, 3)


@planted
class CalledTwice(Sets):
    """One set twice, and another one never."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden, 0, 0, 2, 3)


@planted
class OnceTooOften(Sets):
    """The first set once more at the end."""

    def experts(self, hidden: Any) -> Any:
        return self.chain(hidden, 0, 1, 2, 3, 0)


def rewind(hidden: torch.Tensor) -> torch.Tensor:
    """Set the counter of the pass back by one."""
    context = get_forward_context()
    context.moe_layer_index = max(0, context.moe_layer_index - 1)
    return hidden.clone()


direct_register_custom_op("hostile_rewind", rewind, fake_impl=torch.empty_like)


@planted
class RewindingOperator(Sets):
    """An operator of the model's own writes the counter of the pass."""

    def experts(self, hidden: Any) -> Any:
        hidden = torch.ops.vllm.hostile_rewind(self.chain(hidden, 0))
        return self.chain(hidden, 1, 2, 3)


@planted
class HiddenName(Sets):
    """A part of the region runs without a context, so that its call does not count."""

    def experts(self, hidden: Any) -> Any:
        with override_forward_context(None):
            hidden = self.chain(hidden, 0)
        return self.chain(hidden, 1, 2, 3)


@planted
class BakedName(Sets):
    """The first set is called by its name, past what counts."""

    def experts(self, hidden: Any) -> Any:
        experts = self.layers[0].mlp.experts
        logits = self.layers[0].mlp.gate(hidden)[0]
        out = torch.ops.vllm.moe_forward(hidden, logits, None, experts.layer_name)
        return self.chain(hidden + out, 1, 2, 3)


# ---- two regions


class Half(Layers):
    """One half of the layers."""

    regions = 2

    def run(self, ids: Any, positions: Any, intermediate: Any, embeds: Any, kind: Kind) -> Any:
        residual = torch.zeros_like(embeds)
        for layer in self.layers:
            embeds, residual = layer(positions, embeds, residual)
        return embeds + residual


HalfRegion = region("HalfRegion", Half)


@around
class SecondRegionForCausalLM(Outer):
    """Two compiled regions, of which the second comes first in a batch of 300 tokens."""

    region_type = HalfRegion

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.second = HalfRegion(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "second"))

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        hidden = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        first, second = self.model, self.second
        if positions.shape[-1] == RARE:
            first, second = second, first
        return second(input_ids, positions, None, first(input_ids, positions, None, hidden))


# ---- a wrapper that goes round its region


@around
class EnteredTwiceForCausalLM(Outer):
    """A second entry into the region: it runs past the end of the counter."""

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        hidden = self.model(input_ids, positions, intermediate_tensors, inputs_embeds)
        if positions.shape[-1] == RARE:
            hidden = hidden + self.model(input_ids, positions, intermediate_tensors, inputs_embeds)
        return hidden


@around
class CaughtOverrunForCausalLM(Outer):
    """A call before the region shifts each call by one, and the overrun at the end is caught."""

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        hidden = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        if positions.shape[-1] == RARE:
            hidden = hidden + self.model.layers[2].mlp(hidden)
        try:
            return self.model(None, positions, intermediate_tensors, hidden)
        except AssertionError:
            return hidden


@around
class AlwaysCaughtForCausalLM(Outer):
    """As `CaughtOverrun`, without a branch: the handler alone tells that it is not safe."""

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        hidden = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        try:
            hidden = self.model(None, positions, intermediate_tensors, hidden)
            return self.model(None, positions, intermediate_tensors, hidden)
        except AssertionError:
            return hidden


@around
class OneLayerForCausalLM(Outer):
    """One layer of the region in place of all, in a batch of 300 tokens."""

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        if positions.shape[-1] == RARE:
            return self.model.layers[2].mlp(self.embed_input_ids(input_ids))
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)


@around
class ForwardPastCallForCausalLM(Outer):
    """The region's `forward`, past the `__call__` that is compiled: its branch is alive again."""

    region_type = region("ForwardPastCallRegion", kind=RareBatch)

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        called = self.model.forward
        return called(input_ids, positions, intermediate_tensors, inputs_embeds)


class OverridingRegion(region("OverriddenRegion", kind=RareBatch)):  # type: ignore[misc]
    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if arguments[1].shape[-1] == RARE:
            return self.forward(*arguments, **named)
        return super().__call__(*arguments, **named)


@around
class OverridesCallForCausalLM(Outer):
    """A subclass of the region with a `__call__` of its own."""

    region_type = OverridingRegion


@around
class DoNotCompileForCausalLM(Outer):
    """`do_not_compile` set while the model is constructed."""

    region_type = region("DoNotCompileRegion", kind=RareBatch)

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.model.do_not_compile = True


@around
class EnableIfForCausalLM(Outer):
    """`enable_if` says no."""

    region_type = region("EnableIfRegion", kind=RareBatch, enable_if=lambda _config: False)


@around
class NotDecoratedForCausalLM(Outer):
    """A class that vLLM does not compile."""

    region_type = type("NotDecoratedRegion", (Layers,), {"kind_type": RareBatch, "forward": PlainRegion.forward})


@around
class SkipCompiledForCausalLM(Outer):
    """The model tells vLLM to skip the compiled code in a batch of 300 tokens."""

    region_type = region("SkipCompiledRegion", kind=RareBatch)

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        get_forward_context().skip_compiled = positions.shape[-1] == RARE
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)


@around
class LateDoNotCompileForCausalLM(Outer):
    """`do_not_compile` set in a pass."""

    region_type = region("LateDoNotCompileRegion", kind=RareBatch)

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        self.model.do_not_compile = positions.shape[-1] == RARE
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)


@around
class LogitsContextForCausalLM(Outer):
    """`compute_logits` opens a context of its own and calls a layer."""

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.launch = vllm_config

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        with set_forward_context(None, self.launch, num_tokens=hidden_states.shape[0]):
            hidden_states = hidden_states + self.model.layers[2].mlp(hidden_states)
        return super().compute_logits(hidden_states)


@around
class LazyLayerForCausalLM(Outer):
    """A layer that is built in the first batch of 300 tokens, and called before the region."""

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.launch, self.first = vllm_config, None

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        hidden = self.embed_input_ids(input_ids) if inputs_embeds is None else inputs_embeds
        if positions.shape[-1] == RARE:
            hidden = hidden + self.lazy(hidden)(hidden)
        return self.model(None, positions, intermediate_tensors, hidden)

    def lazy(self, hidden: torch.Tensor) -> nn.Module:
        """The layer's experts, built once."""
        if self.first is None:
            with set_current_vllm_config(self.launch), torch.device(hidden.device):
                layer = Qwen3MoeDecoderLayer(vllm_config=self.launch, prefix="lazy.layers.0").to(hidden.dtype)
            for parameter in layer.parameters():
                parameter.data.fill_(0.01)
            process_weights_after_loading(layer, self.launch.model_config, hidden.device)
            object.__setattr__(self, "first", layer.mlp)
            self.first.experts.runner.moe_forward = self.model.layers[0].mlp.experts.runner.moe_forward
        return self.first


@around
class SwitchedWrapperForCausalLM(Chooser):
    """Goes round the region by a flag that a method of vLLM's interface sets, not by the pass."""

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        super().prepare(vllm_config, prefix)
        self.rounds = 0

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        self.rounds = 1
        return super().compute_logits(hidden_states)

    def forward(
        self, input_ids: Any, positions: Any, intermediate_tensors: Any = None, inputs_embeds: Any = None
    ) -> torch.Tensor:
        if self.rounds:
            return self.model.run(input_ids, positions, intermediate_tensors, inputs_embeds, Parts(self.kind))
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)
