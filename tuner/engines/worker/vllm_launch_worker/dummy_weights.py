"""Gives an engine dummy weights with which different experts give different results.

Each process of an engine imports this module, and the import installs the weights. vLLM adds a class that extends
`DummyWeights` to the bases of its worker class: `rank.Rank` for the replay probe, `ArmRank` for an arm of `tuner tune`.
"""

from vllm_launch_worker import weights


class DummyWeights:
    """The methods that an engine may call on its workers by name."""

    def weights_drawn(self) -> list[str]:
        """A sentence about the weights that were drawn. The list is empty if the model has weights of its own."""
        return _notes


def count_plainly() -> None:
    """Replace a compiled function of vLLM by its plain form.

    The function `batched_count_greater_than` computes the ranks of tokens, and the probes do not use them. On a CPU,
    Inductor needs more than half of an eager engine's start to compile it (v1/sample/ops/logprobs.py, 0.19.1 and
    0.32.0).
    """
    from vllm.v1.sample import sampler

    compiled = getattr(sampler, "batched_count_greater_than", None)
    plain_form = getattr(compiled, "_torchdynamo_orig_callable", None)
    if plain_form is not None:
        sampler.batched_count_greater_than = plain_form


_notes = weights.draw_anew()
count_plainly()
