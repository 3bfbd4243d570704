"""Small classes that vLLM compiles, each with one condition planted in its `forward`: each makes one kind of guard."""
# ruff: noqa: ANN001, ANN201, ANN202, D101, D102, D103  the classes are the data

import os

import torch
from proof_order_cases import WIDTH, moe
from torch import nn
from vllm import envs
from vllm.compilation.decorators import support_torch_compile
from vllm.config import VllmConfig

SCALE = 2
PLANTED = "PLANTED_GUARD"
"""A variable that is set while these are traced."""


class Asking(nn.Module):
    """What the conditions ask for."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:  # noqa: ARG002  vLLM's signature
        super().__init__()
        self.asked_number = 1
        self.asked_table = {"asked_key": 1}
        self.asked_list = [1]
        self.asked_part = nn.Identity()
        self.scheduler = vllm_config.scheduler_config


@support_torch_compile
class Plain(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden + 1


@support_torch_compile
class OfSize(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if hidden.shape[0] == 30 else hidden + 1


@support_torch_compile
class OfAttribute(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if self.asked_number > 1 else hidden + 1


@support_torch_compile
class OfGlobal(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if SCALE > 2 else hidden + 1


@support_torch_compile
class OfField(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if self.scheduler.max_num_seqs > 5 else hidden + 1


@support_torch_compile
class OfAbsence(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:
        return hidden + 1 if absent is None else hidden


@support_torch_compile
class OfKey(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden + 1 if "asked_key" in self.asked_table else hidden


@support_torch_compile
class OfLength(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden + len(self.asked_list)


@support_torch_compile
class OfType(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if isinstance(self.asked_part, nn.ReLU) else hidden + 1


@support_torch_compile
class OfLateAttribute(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if hasattr(self, "asked_late") else hidden + 1


@support_torch_compile
class OfVariable(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if os.environ.get("PLANTED_GUARD") == "other" else hidden + 1


@support_torch_compile
class OfUnsetVariable(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if os.getenv("PLANTED_UNSET") else hidden + 1


@support_torch_compile
class OfVllmVariable(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return hidden if envs.VLLM_USE_FUSED_MOE_GROUPED_TOPK else hidden + 1


def enclosed() -> type[nn.Module]:
    asked_outside = 1

    @support_torch_compile
    class OfEnclosed(Asking):
        def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
            return hidden if asked_outside > 1 else hidden + 1

    return OfEnclosed


def scaled(asked_inside: int):
    def scale(hidden):
        return hidden if asked_inside > 1 else hidden + 1

    return scale


SCALED = scaled(1)


@support_torch_compile
class OfInnerEnclosed(Asking):
    def forward(self, hidden: torch.Tensor, absent: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return SCALED(hidden)


@support_torch_compile
class Whole(nn.Module):
    """A whole model with two MoE layers, the second behind the first."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:  # noqa: ARG002  vLLM's signature
        super().__init__()
        self.embed = nn.Embedding(8, WIDTH, device="meta")

    def forward(
        self,
        input_ids: torch.Tensor,
        positions: torch.Tensor,  # noqa: ARG002
        intermediate_tensors: None = None,  # noqa: ARG002
        inputs_embeds: None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        hidden = self.embed(input_ids)
        for name in ("a", "b"):
            hidden = hidden + moe(hidden, name)
        return hidden
