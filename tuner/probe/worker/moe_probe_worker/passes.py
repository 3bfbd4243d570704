"""Runs scenarios through the model and records what the MoE layers did."""

import itertools
from typing import Any

from moe_probe_worker.recorder import Watcher
from moe_probe_worker.scenarios import Scenario
from moe_probe_worker.stubs import Stubs
from shared_worker.errors import in_one_line
from shared_worker.vllm_types import Json, Module, Tensor, VllmConfig

COMPUTED = ("decode_1", "prefill_short")
"""The scenarios in which the experts compute: on a CPU a large pass would take seconds, and on a GPU every number of
tokens would compile kernels of its own."""
TABLE = 2
"""Dimensions of a rotary table."""


class Passes:
    """Forward passes of one model.

    Args:
        model: the built model.
        vllm_config: its configuration.
        recorder: observes its MoE layers.
        stubs: stand-ins, extended when a pass fails for want of a kernel.

    Attributes:
        computed: names of the scenarios in which the experts compute.
    """

    def __init__(self, model: Module, vllm_config: VllmConfig, recorder: Watcher, stubs: Stubs) -> None:
        self.model = model
        self.vllm_config = vllm_config
        self.recorder = recorder
        self.stubs = stubs
        self.counting = False
        self.computed = COMPUTED
        self.device = vllm_config.device_config.device
        self.hidden_size = vllm_config.model_config.hf_text_config.hidden_size
        self.embed: Any = getattr(model, "embed_input_ids", None) or getattr(model, "get_input_embeddings", None)

    def inputs(self, special: list[int]) -> tuple[int, list[int], bool, int]:
        """The arguments of `scenarios`: vocabulary, special tokens inside it, multimodal or not, positions."""
        vocabulary = self.vllm_config.model_config.hf_text_config.vocab_size
        multimodal = bool(getattr(self.model, "supports_multimodal", False))
        return vocabulary, [token for token in special if 0 <= token < vocabulary], multimodal, self.longest()

    def longest(self) -> int:
        """Positions that the model takes: vLLM's max_model_len, or fewer where a rotary table is shorter."""
        lengths = [self.vllm_config.model_config.max_model_len]
        for module in self.model.modules():
            table: Any = getattr(module, "cos_sin_cache", None)
            if getattr(table, "ndim", 0) == TABLE:
                lengths.append(int(table.shape[0]))
        return min(lengths)

    def run(self, scenario: Scenario) -> Json:
        """One scenario's entry in the report.

        `status`: `ran`, `failed` (with the exception in `detail`) or
        `not_applicable`. `contexts`: how many forward contexts ran; `passes`: the layers called in one, in order,
        each distinct order once.
        """
        entry = {"name": scenario.name, "tokens": len(scenario.ids), "status": "ran", "detail": "", "contexts": 0}
        entry["passes"] = []
        if scenario.feed == "embeds" and self.embed is None:
            return {**entry, "status": "not_applicable", "detail": "the model takes token ids only"}
        try:
            contexts: list[list[Json]] = []
            for _ in range(scenario.repeats):
                contexts += self._recorded(scenario) or [[]]
        except Exception as error:
            return {**entry, "status": "failed", "detail": in_one_line(error)}
        distinct: list[list[str]] = []
        for context in contexts:
            order = [call["called"] for call in context]
            if order not in distinct:
                distinct.append(order)
        return {**entry, "contexts": len(contexts), "passes": distinct}

    def _recorded(self, scenario: Scenario) -> list[list[Json]]:
        if self.recorder.stubbed or scenario.name in self.computed:
            return self._mended(scenario)
        self.recorder.stubbed = True
        try:
            contexts = self.recorder.record(lambda: self._forward(scenario))
        except Exception:  # the stand-in did not fit: compute after all
            self.recorder.stubbed = False
            return self._mended(scenario)
        self.recorder.stubbed = False
        self.stubs.note_skipped(self.computed)
        return contexts

    def _mended(self, scenario: Scenario) -> list[list[Json]]:
        """Run the pass, again each time a stand-in could replace the layer that failed."""
        while True:
            try:
                return self.recorder.record(lambda: self._forward(scenario))
            except Exception as error:
                if not self.stubs.replace_module(error, self.model, self.recorder):
                    raise

    def _forward(self, scenario: Scenario) -> Any:
        import torch
        from vllm.forward_context import set_forward_context

        # Attention is told nothing of the batch, as in vLLM's own profile run, so that it needs no KV cache.
        context = set_forward_context(None, self.vllm_config, num_tokens=len(scenario.ids))
        with torch.inference_mode(), context:
            if not self.counting:
                name_layers()
            return self.model(**self.arguments(scenario))

    def arguments(self, scenario: Scenario) -> dict[str, Tensor | None]:
        """What vLLM's model runner hands the model."""
        import torch

        ids = torch.tensor(scenario.ids, device=self.device)
        positions = self._positions(scenario.positions)
        embeds = self._embeddings(ids, scenario.is_multimodal) if scenario.feed == "embeds" else None
        input_ids = ids if embeds is None or self._wants_ids() else None
        return {"input_ids": input_ids, "positions": positions, "inputs_embeds": embeds}

    def _wants_ids(self) -> bool:
        return bool(getattr(self.model, "requires_raw_input_tokens", False))

    def _positions(self, positions: list[int]) -> Tensor:
        import torch

        tensor: Tensor = torch.tensor(positions, device=self.device)
        return tensor.repeat(3, 1) if self.vllm_config.model_config.uses_mrope else tensor

    def _embeddings(self, ids: Tensor, is_multimodal: list[bool]) -> Tensor:
        """What vLLM's model runner does: the model embeds tokens and merges encoder outputs."""
        import torch

        if not getattr(self.model, "supports_multimodal", False):
            return self._embedded(ids)
        mask: Tensor = torch.tensor(is_multimodal or [False] * len(ids), device=self.device)
        count = int(mask.sum())
        if not count:
            return self._embedded(ids, multimodal_embeddings=[], is_multimodal=mask)
        return self._merged(ids, mask, count)

    def _embedded(self, ids: Tensor, **merged: Any) -> Tensor:
        """The model's own embedding of tokens, with what takes the place of some if the model merges it."""
        embedding: Tensor = self.embed(ids, **merged)
        return embedding

    def _merged(self, ids: Tensor, mask: Tensor, count: int) -> Tensor:
        """Encoder outputs may be a multiple of the hidden size wide (deep-stacked vision layers).

        vLLM's runner keeps the mask on the device in 0.19.1 and on the CPU in 0.32.0.
        """
        import torch

        masks = [mask] if mask.device.type == "cpu" else [mask, mask.cpu()]
        errors: list[Exception] = []
        for factor, place in itertools.product((1, 2, 3, 4, 5, 6, 7, 8), masks):
            encoded = torch.zeros(count, self.hidden_size * factor, dtype=torch.bfloat16, device=self.device)
            try:
                return self._embedded(ids, multimodal_embeddings=[encoded], is_multimodal=place)
            except Exception as error:
                errors.append(error)
        raise errors[0]

    def run_counted(self, scenario: Scenario) -> Json:
        """The scenario once more with the flag on: is the counter used here, and what does it resolve?

        Returns:
            `ran`: whether names were resolved by counting; `called` and
            `resolved`: the layers meant and the layers that ran, in order;
            `error`: vLLM's own message if the counter ran past its list.
        """
        compilation = self.vllm_config.compilation_config
        before, compilation.fast_moe_cold_start = compilation.fast_moe_cold_start, True
        self.recorder.counted, self.counting = False, True
        contexts, error = [], ""
        try:
            contexts = self.recorder.record(lambda: self._forward(scenario))
        except AssertionError as overflow:
            error = " ".join(str(overflow).split())[:300]
        finally:
            compilation.fast_moe_cold_start, self.counting = before, False
        calls = list(itertools.chain.from_iterable(contexts))
        return {
            "scenario": scenario.name,
            "ran": self.recorder.counted or bool(error),
            "called": [call["called"] for call in calls],
            "resolved": [call["ran"] for call in calls],
            "error": error,
        }


def run_all(passes: Passes, planned: list[Scenario]) -> list[Json]:
    """The entry of each scenario, in order; a model may refuse an optional input."""
    entries = []
    for scenario in planned:
        entry = passes.run(scenario)
        if entry["status"] == "failed" and scenario.optional:
            entry |= {"status": "not_applicable", "detail": f"refused: {entry['detail']}"}
        entries.append(entry)
    return entries


def name_layers() -> None:
    """Make this pass resolve MoE layers by name where a release counts whatever it is told.

    0.15.x has no setting for it; an observation made through the counter would
    show the registered order for every model. `remaining_moe_layers` is 0.15.0's
    name for the list (vllm/forward_context.py).
    """
    from vllm.forward_context import get_forward_context

    context = get_forward_context()
    for names in ("all_moe_layers", "remaining_moe_layers"):
        if getattr(context, names, None) is not None:
            setattr(context, names, None)
