"""Attention backends that can be built on every platform. They never run.

`building.py` gives vLLM the paths of these classes in place of the platform's backend, and vLLM imports them.
"""

from typing import Any

from vllm.model_executor.layers.attention.mla_attention import MLACommonBackend


class Unrun:
    """An implementation of attention that accepts any arguments and does not compute. vLLM reads these attributes."""

    can_return_lse_for_decode = True
    supports_quant_query_input = False
    dcp_world_size = 1
    is_sparse = False

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def process_weights_after_loading(self, *_: Any, **__: Any) -> None:
        """Do nothing, because there are no weights."""


class Latent(MLACommonBackend):  # type: ignore[misc]  # its base is Any without vLLM
    """Multi-head latent attention."""

    @staticmethod
    def get_name() -> str:
        """A name that vLLM knows."""
        return "TRITON_MLA"

    @staticmethod
    def get_impl_cls() -> type[Any]:
        """The class of the implementation."""
        return Unrun


class Sparse(Latent):
    """Multi-head latent attention with an indexer, which chooses the tokens to read."""

    @staticmethod
    def get_name() -> str:
        """A name that vLLM knows."""
        return "FLASHMLA_SPARSE"

    @classmethod
    def is_sparse(cls) -> bool:
        """Whether attention reads only the tokens that an indexer chose."""
        return True
