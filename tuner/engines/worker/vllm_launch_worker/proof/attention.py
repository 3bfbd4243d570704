"""Attention backends that build on every platform and are never run.

Named by path to vLLM, which imports them where it asks its platform for a backend.
"""

from vllm.model_executor.layers.attention.mla_attention import MLACommonBackend


class Unrun:
    """An implementation of attention that takes every argument and computes nothing."""

    can_return_lse_for_decode = True
    supports_quant_query_input = False
    dcp_world_size = 1
    is_sparse = False

    def __init__(self, *_, **__) -> None:
        pass

    def process_weights_after_loading(self, *_, **__) -> None:
        """There are no weights."""


class Latent(MLACommonBackend):
    """Multi-head latent attention."""

    @staticmethod
    def get_name() -> str:
        """A name that vLLM knows."""
        return "TRITON_MLA"

    @staticmethod
    def get_impl_cls():
        """The class of the layer's implementation."""
        return Unrun


class Sparse(Latent):
    """The same with an indexer."""

    @staticmethod
    def get_name() -> str:
        """A name that vLLM knows."""
        return "FLASHMLA_SPARSE"

    @classmethod
    def is_sparse(cls) -> bool:
        """It reads the tokens that an indexer chose."""
        return True
