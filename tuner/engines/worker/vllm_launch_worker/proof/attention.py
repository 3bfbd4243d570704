"""Attention backends that build on every platform and never run.

vLLM gets their paths, and imports them where it asks its platform for a backend.
"""

from typing import Any

from vllm.model_executor.layers.attention.mla_attention import MLACommonBackend


class Unrun:
    """An implementation of attention that takes any arguments and computes nothing."""

    can_return_lse_for_decode = True
    supports_quant_query_input = False
    dcp_world_size = 1
    is_sparse = False

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def process_weights_after_loading(self, *_: Any, **__: Any) -> None:
        """There are no weights."""


class Latent(MLACommonBackend):  # type: ignore[misc]  # its base is Any without vLLM
    """Multi-head latent attention."""

    @staticmethod
    def get_name() -> str:
        """A name that vLLM knows."""
        return "TRITON_MLA"

    @staticmethod
    def get_impl_cls() -> type[Any]:
        """The class of the layer's implementation."""
        return Unrun


class Sparse(Latent):
    """Multi-head latent attention with an indexer."""

    @staticmethod
    def get_name() -> str:
        """A name that vLLM knows."""
        return "FLASHMLA_SPARSE"

    @classmethod
    def is_sparse(cls) -> bool:
        """Whether it reads only the tokens that an indexer chose."""
        return True
