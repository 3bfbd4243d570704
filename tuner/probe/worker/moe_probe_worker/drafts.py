"""The draft of a model that predicts several tokens (MTP): built and run beside its target.

vLLM builds target and draft under one configuration, so that both register in
the same static list; each draft pass has a forward context, and a counter, of
its own (v1/spec_decode/eagle.py in 0.19.1, llm_base_proposer.py in 0.32.0).
"""

import copy
import inspect

from moe_probe_worker.passes import Passes
from moe_probe_worker.scenarios import Scenario

SPARE_STEPS = 2
"""Draft steps at least: vLLM runs a single draft layer again for each further token."""


def declared(vllm_config) -> tuple:
    """How many draft layers the config declares, or why it has none.

    Returns:
        The number, 0 for none, and the reason.
    """
    from vllm.config import SpeculativeConfig

    target = vllm_config.model_config.hf_config
    draft = SpeculativeConfig.hf_config_override(copy.deepcopy(target))
    layers = getattr(draft, "n_predict", None)
    if draft.model_type == target.model_type:
        return 0, f"This vLLM has no draft that comes with {target.architectures[0]}; another checkpoint may draft."
    if not isinstance(layers, int) or layers < 1:
        return 0, "The config declares no draft layer."
    return layers, ""


def settings(layers: int) -> dict:
    """The engine arguments of a launch that drafts with the model's own layers."""
    return {"speculative_config": {"method": "mtp", "num_speculative_tokens": max(SPARE_STEPS, layers)}}


def steps(vllm_config) -> list:
    """The draft's passes: the first step follows the target's prefill, every later one decodes."""
    count = vllm_config.speculative_config.num_speculative_tokens
    first = Scenario("draft_step_0", [1] * 17, list(range(17)))
    return [first, *(Scenario(f"draft_step_{step}", [1] * 4, [20 + step] * 4) for step in range(1, count))]


class DraftPasses(Passes):
    """Forward passes of a draft, which takes the target's hidden states besides tokens.

    Attributes:
        step: the index of the draft step; only a model that takes it is told.
    """

    def __init__(self, *parts) -> None:
        super().__init__(*parts)
        self.step = 0
        self.takes = inspect.signature(self.model.forward).parameters

    def arguments(self, scenario) -> dict:
        """What vLLM's proposer hands the draft."""
        import torch

        draft = self.vllm_config.speculative_config.draft_model_config
        width = draft.get_hidden_size()
        given = {
            **super().arguments(scenario),
            "hidden_states": torch.zeros(len(scenario.ids), width, dtype=torch.bfloat16, device=self.device),
            "spec_step_idx": self.step,
        }
        return {name: value for name, value in given.items() if name in self.takes}

    def run_steps(self) -> list:
        """The entries of all draft steps."""
        entries = []
        for step, scenario in enumerate(steps(self.vllm_config)):
            self.step = step
            entries.append(self.run(scenario))
        return entries
