"""Runs scenarios through the model and records which MoE layers were called and which ran."""

import itertools
from typing import Any

from moe_probe_worker.recorder import Watcher
from moe_probe_worker.scenarios import Scenario
from moe_probe_worker.stubs import Stubs
from shared_worker.errors import is_out_of_memory, with_place
from shared_worker.vllm_types import Json, Module, Tensor, VllmConfig

COMPUTED = ("decode_1", "prefill_short")
"""The scenarios in which the experts compute. In the others they would cost too much time: on a CPU a large pass takes
seconds, and on a GPU each number of tokens compiles its own kernels."""
TABLE_DIMENSIONS = 2
"""The number of dimensions of a rotary table. The first one is the positions."""


class Passes:
    """Runs forward passes of one model.

    Args:
        model: the built model.
        vllm_config: its configuration.
        recorder: observes its MoE layers.
        stubs: its stand-ins. New ones are added if a pass fails because a layer has no kernel.

    Attributes:
        counting: whether vLLM may now resolve MoE layers through its counter.
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
        """The arguments of `scenarios`.

        Args:
            special: token ids that the config names.

        Returns:
            The size of the vocabulary, the special tokens that are in it, whether the model is multimodal, and the
            number of positions.
        """
        vocabulary = self.vllm_config.model_config.hf_text_config.vocab_size
        multimodal = bool(getattr(self.model, "supports_multimodal", False))
        return vocabulary, [token for token in special if 0 <= token < vocabulary], multimodal, self.longest()

    def longest(self) -> int:
        """The number of positions that the model takes: max_model_len, or the length of a shorter rotary table."""
        lengths = [self.vllm_config.model_config.max_model_len]
        for module in self.model.modules():
            table: Any = getattr(module, "cos_sin_cache", None)
            if getattr(table, "ndim", 0) == TABLE_DIMENSIONS:
                lengths.append(int(table.shape[0]))
        return min(lengths)

    def run(self, scenario: Scenario) -> Json:
        """Run one scenario. An exception becomes part of the result, unless memory ran out.

        Returns:
            The scenario's entry in the report. `tokens`: the size of the batch; `status`: `ran`, `failed` or
            `not_applicable`; `detail`: the exception or the reason; `contexts`: how many forward contexts ran;
            `passes`: the names of the layers called in one context, in order, each distinct order once.
        """
        entry = {"name": scenario.name, "tokens": len(scenario.ids), "status": "ran", "detail": "", "contexts": 0}
        entry["passes"] = []
        if scenario.feed == "embeds" and self.embed is None:
            return {**entry, "status": "not_applicable", "detail": "the model takes token ids only"}
        try:
            contexts: list[list[Json]] = []
            for _ in range(scenario.repeats):
                contexts += self._record(scenario) or [[]]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return {**entry, "status": "failed", "detail": with_place(error)}
        distinct: list[list[str]] = []
        for context in contexts:
            order = [call["called"] for call in context]
            if order not in distinct:
                distinct.append(order)
        return {**entry, "contexts": len(contexts), "passes": distinct}

    def _record(self, scenario: Scenario) -> list[list[Json]]:
        if self.recorder.stubbed or scenario.name in self.computed:
            return self._run_with_stand_ins(scenario)
        self.recorder.stubbed = True
        try:
            contexts = self.recorder.record(lambda: self._forward(scenario))
        except Exception:  # the model could not use the zeros in place of the experts' output, so they must compute
            self.recorder.stubbed = False
            return self._run_with_stand_ins(scenario)
        self.recorder.stubbed = False
        self.stubs.note_skipped(self.computed)
        return contexts

    def _run_with_stand_ins(self, scenario: Scenario) -> list[list[Json]]:
        """Run the pass. If a layer fails and a stand-in can replace it, run the pass again."""
        while True:
            try:
                return self.recorder.record(lambda: self._forward(scenario))
            except Exception as error:
                if not self.stubs.replace_module(error, self.model, self.recorder):
                    raise

    def _forward(self, scenario: Scenario) -> Any:
        import torch
        from vllm.forward_context import set_forward_context

        # The attention metadata is None, as in vLLM's own profile run. So attention does not need a KV cache.
        context = set_forward_context(None, self.vllm_config, num_tokens=len(scenario.ids))
        with torch.inference_mode(), context:
            if not self.counting:
                name_layers()
            return self.model(**self.arguments(scenario))

    def arguments(self, scenario: Scenario) -> dict[str, Tensor | None]:
        """The arguments of the model's forward, as vLLM's model runner passes them (`_model_forward`)."""
        import torch

        ids = torch.tensor(scenario.ids, device=self.device)
        positions = self._positions(scenario.positions)
        embeds = self._embeddings(ids, scenario.is_multimodal) if scenario.feed == "embeds" else None
        input_ids = ids if embeds is None or self._wants_ids() else None
        # Some models have no default for the tensors of an earlier pipeline stage, as HunYuan-VL in 0.19.1.
        return {
            "input_ids": input_ids,
            "positions": positions,
            "intermediate_tensors": None,
            "inputs_embeds": embeds,
        }

    def _wants_ids(self) -> bool:
        return bool(getattr(self.model, "requires_raw_input_tokens", False))

    def _positions(self, positions: list[int]) -> Tensor:
        """The positions of a batch, shape (tokens), or (rows, tokens) where a token has one for each axis of an image.

        HunYuan-VL has four rows: `mrope_num_dims` in 0.32.0, `uses_xdrope_dim` in 0.19.1 (vllm/config/model.py).
        """
        import torch

        config: Any = self.vllm_config.model_config
        rows = getattr(config, "mrope_num_dims", 3) if config.uses_mrope else getattr(config, "uses_xdrope_dim", 0)
        tensor: Tensor = torch.tensor(positions, device=self.device)
        return tensor.repeat(rows, 1) if rows else tensor

    def _embeddings(self, ids: Tensor, is_multimodal: list[bool]) -> Tensor:
        """The embeddings of a batch, shape (tokens, hidden size). As in vLLM's model runner, the model makes them."""
        import torch

        if not getattr(self.model, "supports_multimodal", False):
            return self._embed(ids)
        mask: Tensor = torch.tensor(is_multimodal or [False] * len(ids), device=self.device)
        count = int(mask.sum())
        if not count:
            return self._embed(ids, multimodal_embeddings=[], is_multimodal=mask)
        return self._embed_and_merge(ids, mask, count)

    def _embed(self, ids: Tensor, **encoder_arguments: Any) -> Tensor:
        """The model's embeddings of tokens. `encoder_arguments` are its arguments for encoder outputs."""
        embedding: Tensor = self.embed(ids, **encoder_arguments)
        return embedding

    def _embed_and_merge(self, ids: Tensor, mask: Tensor, count: int) -> Tensor:
        """The embeddings of tokens, with zeros as encoder outputs where the mask is true.

        The width of encoder outputs is 1 to 8 times the hidden size (more than 1 for deep-stacked vision layers).
        vLLM's runner keeps the mask on the device in 0.19.1 and on the CPU in 0.32.0. The first combination that works
        is used.

        Raises:
            Exception: what the first combination raised, if all fail.
        """
        import torch

        masks = [mask] if mask.device.type == "cpu" else [mask, mask.cpu()]
        errors: list[Exception] = []
        for factor, placed_mask in itertools.product((1, 2, 3, 4, 5, 6, 7, 8), masks):
            encoded = torch.zeros(count, self.hidden_size * factor, dtype=torch.bfloat16, device=self.device)
            try:
                return self._embed(ids, multimodal_embeddings=[encoded], is_multimodal=placed_mask)
            except Exception as error:
                errors.append(error)
        raise errors[0]

    def run_counted(self, scenario: Scenario) -> Json:
        """Run the scenario again with the flag on, to see whether vLLM counts here and which layers it picks.

        Returns:
            `scenario`: its name; `ran`: whether vLLM resolved names by counting; `called`: the layers that the model
            called, in order; `resolved`: the layers that ran, in order; `error`: vLLM's message if the counter went
            past the end of its list, else empty.

        Raises:
            Exception: the pass failed in another way.
        """
        compilation = self.vllm_config.compilation_config
        before = compilation.fast_moe_cold_start
        compilation.fast_moe_cold_start = True
        self.counting = True
        self.recorder.counted = False
        contexts: list[list[Json]] = []
        error = ""
        try:
            contexts = self.recorder.record(lambda: self._forward(scenario))
        except AssertionError as overflow:
            error = " ".join(str(overflow).split())[:300]
        finally:
            compilation.fast_moe_cold_start = before
            self.counting = False
        calls = list(itertools.chain.from_iterable(contexts))
        return {
            "scenario": scenario.name,
            "ran": self.recorder.counted or bool(error),
            "called": [call["called"] for call in calls],
            "resolved": [call["ran"] for call in calls],
            "error": error,
        }


def run_all(passes: Passes, planned: list[Scenario]) -> list[Json]:
    """The entry of each scenario, in order. A failed optional scenario becomes `not_applicable`."""
    entries = []
    for scenario in planned:
        entry = passes.run(scenario)
        if entry["status"] == "failed" and scenario.optional:
            entry |= {"status": "not_applicable", "detail": f"refused: {entry['detail']}"}
        entries.append(entry)
    return entries


def name_layers() -> None:
    """Make this pass resolve MoE layers by name. vLLM 0.15.x has no setting that turns its counter off.

    With the counter on, every model would seem to run its layers in the registered order. Without the list of layers
    in the forward context, vLLM does not count. The list is called `remaining_moe_layers` in 0.15.0 and
    `all_moe_layers` from 0.15.1 on (vllm/forward_context.py).
    """
    from vllm.forward_context import get_forward_context

    context = get_forward_context()
    for attribute in ("all_moe_layers", "remaining_moe_layers"):
        if getattr(context, attribute, None) is not None:
            setattr(context, attribute, None)
