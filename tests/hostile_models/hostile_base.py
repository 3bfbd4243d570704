"""What every hostile model is made of: a region that vLLM compiles, the model around it, and kinds of branches.

A kind says how a branch is written. `inside` puts it into the compiled region, where one trace decides for good;
`outside` puts it into the `forward` around the region, which is plain Python in every pass.
"""
# ruff: noqa: ARG002, D102  methods that a subclass replaces; vLLM says what each of its interface is

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

import torch
from hostile_functions import copy_of
from torch import nn
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig
from vllm.distributed import get_pp_group
from vllm.model_executor.layers.layernorm import RMSNorm
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.models.interfaces import SupportsPP
from vllm.model_executor.models.qwen3_moe import Qwen3MoeDecoderLayer
from vllm.model_executor.models.utils import (
    make_empty_intermediate_tensors_factory,
    make_layers,
    maybe_prefix,
)
from vllm.sequence import IntermediateTensors

RARE = 300
"""Tokens of the batch in which most kinds leave out a layer."""
LEFT_OUT = 1
"""The layer that is left out."""
Steps = Callable[[], Any]


class Batch(NamedTuple):
    """What the code around the layers knows of a pass.

    Attributes:
        ids: tokens.
        positions: of the tokens.
        size: number of tokens, in vLLM's own idiom.
    """

    ids: Any
    positions: Any
    size: Any


class Kind:
    """How a branch is written, and how a layer is called. This one has no branch."""

    def prepare(self, vllm_config: VllmConfig, layers: Any) -> None:
        """Keep what the branch reads; once, when the model was constructed."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        """Run every layer in order by `whole`, or without one of them by `parts`."""
        return whole()

    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        """Call one layer."""
        return layer(positions, hidden, residual)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Look at a checkpoint's tensors."""


class RareBatch(Kind):
    """A batch of 300 tokens, by vLLM's own idiom for the number of tokens."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        if batch.positions.shape[-1] == RARE:
            return parts()
        return whole()


class Layers(nn.Module):
    """Embedding, layers and norm of a small Qwen3-MoE. A region is a subclass that vLLM's decorator is put on.

    Attributes:
        kind_type: how its branch is written.
        regions: how many share the layers of the config.
    """

    kind_type: type[Kind] = Kind
    regions = 1

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_text_config
        self.config = config
        self.embed_tokens = VocabParallelEmbedding(config.vocab_size, config.hidden_size)
        self.start_layer, self.end_layer, self.layers = make_layers(
            config.num_hidden_layers // self.regions,
            lambda prefix: Qwen3MoeDecoderLayer(vllm_config=vllm_config, prefix=prefix),
            prefix=maybe_prefix(prefix, "layers"),
        )
        self.norm = RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.make_empty_intermediate_tensors = make_empty_intermediate_tensors_factory(
            ["hidden_states", "residual"], config.hidden_size
        )
        self.kind = self.kind_type()
        self.kind.prepare(vllm_config, self.layers)
        self.prepare(vllm_config, prefix)

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        """Add to what was constructed."""

    def run(self, ids: Any, positions: Any, intermediate: Any, embeds: Any, kind: Kind) -> Any:
        """A pass, with the branch of this kind."""
        if get_pp_group().is_first_rank:
            hidden = self.embed_tokens(ids) if embeds is None else embeds
            residual = None
        else:
            hidden, residual = intermediate["hidden_states"], intermediate["residual"]
        hidden, residual = kind.choose(
            Batch(ids, positions, positions.shape[-1]),
            lambda: self.walk(kind, positions, hidden, residual),
            lambda: self.walk(kind, positions, hidden, residual, left_out=LEFT_OUT),
        )
        if not get_pp_group().is_last_rank:
            return IntermediateTensors({"hidden_states": hidden, "residual": residual})
        return self.norm(hidden, residual)[0]

    def walk(self, kind: Kind, positions: Any, hidden: Any, residual: Any, left_out: int = -1) -> tuple[Any, Any]:
        """The layers in order, but for one of them."""
        for index, layer in enumerate(islice(self.layers, self.start_layer, self.end_layer), self.start_layer):
            if index != left_out:
                hidden, residual = kind.call(index, layer, positions, hidden, residual)
        return hidden, residual


def forward(
    self: Any,
    input_ids: torch.Tensor | None,
    positions: torch.Tensor,
    intermediate_tensors: IntermediateTensors | None = None,
    inputs_embeds: torch.Tensor | None = None,
) -> torch.Tensor | IntermediateTensors:
    """The `forward` of every region."""
    return self.run(input_ids, positions, intermediate_tensors, inputs_embeds, self.kind)


def region(name: str, base: type[Layers] = Layers, kind: type[Kind] = Kind, **options: Any) -> type[Layers]:
    """A class that vLLM compiles.

    Args:
        name: of the class.
        base: what it extends.
        kind: of the branch in it.
        options: of vLLM's decorator.
    """
    own = copy_of(forward, f"{name}.forward", base.__module__)
    made = type(name, (base,), {"forward": own, "kind_type": kind, "__module__": base.__module__})
    return support_torch_compile(**options)(made) if options else support_torch_compile(made)


PlainRegion = region("PlainRegion")


class Outer(nn.Module, SupportsPP):
    """The model that vLLM constructs. It calls its region, and nothing else."""

    region_type: type[Any] = PlainRegion

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__()
        config = vllm_config.model_config.hf_text_config
        self.config = config
        self.model = self.region_type(vllm_config=vllm_config, prefix=maybe_prefix(prefix, "model"))
        self.lm_head = ParallelLMHead(config.vocab_size, config.hidden_size, prefix=maybe_prefix(prefix, "lm_head"))
        self.logits_processor = LogitsProcessor(config.vocab_size)
        self.make_empty_intermediate_tensors = self.model.make_empty_intermediate_tensors
        self.prepare(vllm_config, prefix)

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        """Add to what was constructed."""

    def embed_input_ids(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.model.embed_tokens(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        return self.model(input_ids, positions, intermediate_tensors, inputs_embeds)

    def compute_logits(self, hidden_states: torch.Tensor) -> torch.Tensor | None:
        return self.logits_processor(self.lm_head, hidden_states)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """There are no checkpoints: engines draw weights. A kind may look at what a checkpoint would hold."""
        tensors = list(weights)
        self.model.kind.load_weights(tensors)
        return {name for name, _ in self.named_parameters()}


class Chooser(Outer):
    """The model around the region, which calls the region or its layers, by a kind."""

    kind_type: type[Kind] = RareBatch

    def prepare(self, vllm_config: VllmConfig, prefix: str) -> None:
        self.kind = self.kind_type()
        self.kind.prepare(vllm_config, self.model.layers)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        positions: torch.Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: torch.Tensor | None = None,
    ) -> torch.Tensor | IntermediateTensors:
        return self.kind.choose(
            Batch(input_ids, positions, positions.shape[-1]),
            lambda: self.model(input_ids, positions, intermediate_tensors, inputs_embeds),
            lambda: self.parts(input_ids, positions, intermediate_tensors, inputs_embeds),
        )

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        tensors = list(weights)
        self.kind.load_weights(tensors)
        return super().load_weights(tensors)

    def parts(self, ids: Any, positions: Any, intermediate: Any, embeds: Any) -> Any:
        """Go round the region: call its layers without one of them."""
        return self.model.run(ids, positions, intermediate, embeds, Parts(self.kind))


class Parts(Kind):
    """Without one layer in every pass; the layers are called as another kind calls them."""

    def __init__(self, kind: Kind) -> None:
        self.call = kind.call

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts()


def inside(kind: type[Kind]) -> type[Outer]:
    """The compiled twin: the branch stands in the region."""
    name = f"{kind.__name__}InsideForCausalLM"
    return type(name, (Outer,), {"region_type": region(f"{kind.__name__}Region", kind=kind)})


def outside(kind: type[Kind]) -> type[Outer]:
    """The outer twin: the branch stands around the region."""
    return type(f"{kind.__name__}OutsideForCausalLM", (Chooser,), {"kind_type": kind})
