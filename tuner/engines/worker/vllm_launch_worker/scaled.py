"""In each process of an engine: dummy weights under which experts matter. Importing this module sets it up.

vLLM mixes `Scaled` into its worker class for the output probe. For the replay probe it mixes in `rank.Rank`, which
extends `Scaled`.
"""

from vllm_launch_worker import weights


class Scaled:
    """The methods that an engine may call on its workers by name."""

    def weights_drawn(self) -> list[str]:
        """What was drawn, in words; empty where the model has weights."""
        return _notes


def count_plainly() -> None:
    """Take the plain form of a function that vLLM compiles to compute the ranks of tokens, which nobody reads here.

    On a CPU, Inductor spends more than half of an eager engine's start on it (`batched_count_greater_than` in
    v1/sample/ops/logprobs.py, 0.19.1 and 0.32.0).
    """
    from vllm.v1.sample import sampler

    compiled = getattr(sampler, "batched_count_greater_than", None)
    plainly = getattr(compiled, "_torchdynamo_orig_callable", None)
    if plainly is not None:
        sampler.batched_count_greater_than = plainly


_notes = weights.draw_anew()
count_plainly()
