"""What a probe may do otherwise than the launch, and why the verdict still holds.

A difference that is not listed here makes the verdict `inconclusive`.
"""

LAYERS_SHRUNK = "layers_shrunk"
"""A model stood for the whole one that has fewer layers."""
SIDE_FILE = "side_file"
"""A file beside config.json may make vLLM build something else than the probe built; its name is the detail. No rule
covers it."""
COVERED: dict[str, str] = {
    LAYERS_SHRUNK: (
        "beside the model with all its layers, which must have run (rules/judge.py): the kept layers show every kind "
        "of layer the config declares; the order inside a pass is that of one loop over the layers "
        "(vllm/model_executor/models/utils.py, make_layers)"
    ),
    "encoders_shrunk": "no pass of the probe runs an encoder: its outputs enter the language model as embeddings",
    "experts_shrunk": (
        "how many experts a layer has decides what happens inside it, not which layer runs "
        "(vLLM 0.32.0, fused_moe/runner/moe_runner.py, MoERunner.forward)"
    ),
    "widths_shrunk": "tensor widths and vocabulary size decide shapes, not which layer runs",
    "positions_shrunk": "the longest position sizes the rotary table; every pass of the probe stays below it",
    "quantization_dropped": (
        "the quantisation method is called inside the MoE layer, after its name was resolved "
        "(vLLM 0.19.1, fused_moe/runner/default_moe_runner.py, forward_impl; 0.32.0, moe_runner.py, _forward_impl)"
    ),
    "attention_stubbed": "a token mixer returns hidden states of the shape it was given and calls no MoE layer",
    "experts_stubbed": "the stand-in replaces the arithmetic inside a MoE layer, after the layer was recorded",
    "experts_skipped": "as experts_stubbed, in some passes alone: the arithmetic lies inside a recorded MoE layer",
    "plain_config": "the fields are those of config.json; a remote config class could add computed ones",
    "weights_random": "weights enter routing between experts inside a layer, not the choice of the layer",
    "encoder_skipped": "encoder outputs enter the language model as embeddings, which the scenarios supply",
    "tensor_parallel": "every rank runs the same forward on its share of each tensor, with a counter of its own",
    "expert_parallel": "experts are spread inside a MoE layer, after its name was resolved",
    "data_parallel": "every replica runs whole passes of the same forward, each in a forward context of its own",
    "decode_context_parallel": "splits the KV cache of attention, which calls no MoE layer",
    "pipeline_parallel": (
        "a stage constructs and registers its own layers only, and runs them in the same loop "
        "(vllm/model_executor/models/utils.py, make_layers and PPMissingLayer)"
    ),
}
"""Kind of difference -> why it cannot change which MoE layer runs, with its source."""


def uncovered(kinds: list[str]) -> list[str]:
    """The kinds that no rule covers, in the order given, each once."""
    return [kind for kind in dict.fromkeys(kinds) if kind not in COVERED]
