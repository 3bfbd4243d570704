"""What a probe may do otherwise than the launch, and why what it found still holds.

A difference that is not listed here proves nothing: no verdict without MoE layers, and no launch.
"""

from collections.abc import Iterable

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
    "encoder_left_out": (
        "the encoder cannot be built on this machine; no pass runs one, its outputs enter as embeddings, and nothing "
        "that its class names is a MoE layer of vLLM (shared_worker/build_stand_ins.py, may_hold_moe)"
    ),
    "processor_not_made": (
        "vLLM asks the processor of images whether the launch allows any kind of input that the model takes; it allows "
        "all or none (vLLM 0.32.0, config/model.py, _supports_multimodal_inputs)"
    ),
    "tokenizer_made": (
        "a model class asks its tokenizer for ids of placeholders, where encoder outputs enter; passes get token ids"
    ),
    "kernel_left_out": (
        "a stream of a GPU, or a kernel that joins a linear layer with its collective: neither calls a MoE layer, and "
        "without it the layers run one after another (vLLM 0.32.0, models/kimi_k3/nvidia)"
    ),
}
"""Kind of difference -> why it cannot change which MoE layer runs, with its source."""


IN_PROOF: dict[str, str] = {
    "attention_backend": (
        "this platform has no attention of that kind: the layer is an operator in the graph, whichever kernel is behind"
    ),
    "quantization_dropped": (
        "experts' quantisation acts inside the operator, and that of other layers in linear maps, which carry values"
    ),
    LAYERS_SHRUNK: "where the flag is forced off, fewer layers are traced: no true rests on it",
    "encoders_shrunk": COVERED["encoders_shrunk"],
    "experts_shrunk": COVERED["experts_shrunk"],
    "widths_shrunk": COVERED["widths_shrunk"],
    "positions_shrunk": COVERED["positions_shrunk"],
    "encoder_left_out": COVERED["encoder_left_out"],
    "experts_stubbed": COVERED["experts_stubbed"],
    "kernel_left_out": COVERED["kernel_left_out"],
    "plain_config": COVERED["plain_config"],
    "prefix_caching_off": (
        "vLLM refuses the launch with prefix caching on this platform; the cache decides which tokens a pass computes"
    ),
    "processor_not_made": COVERED["processor_not_made"],
    "tokenizer_made": COVERED["tokenizer_made"],
    "attention_stubbed": "an attention module of vLLM's own holds no MoE layer, and its result depends on its input",
    "attention_not_run": (
        "as attention_stubbed; where the module does not run here, its result was taken to have the shape of its only "
        "input, and one of another shape could not be added to it in the trace; where it declares no result, both of "
        "its tensors count as written"
    ),
    "meta_device": "a trace holds shapes and operations, and no value of a weight",
    "operator_called": (
        "a CPU build calls the Python function of vLLM's MoE operator in its place; the graph of a GPU holds the "
        "operator (`_select_forward`, fused_moe/runner, 0.17.0 to 0.32.0)"
    ),
    "weights_not_processed": (
        "vLLM's step after loading changes the form of weights, which the arithmetic inside a layer reads "
        "(QuantizeMethodBase.process_weights_after_loading); a linear layer without it stands as a plain product"
    ),
    "groups_simulated": (
        "a process group of the launch's size is simulated in one process: collectives keep the shape they have there"
    ),
}
"""As `COVERED`, for the proof of a launch."""


def uncovered(kinds: Iterable[str]) -> list[str]:
    """The kinds that no rule covers in a probe of the order, in the order given, each once."""
    return [kind for kind in dict.fromkeys(kinds) if kind not in COVERED]


def uncovered_in_proof(kinds: Iterable[str]) -> list[str]:
    """As `uncovered`, for the proof of a launch."""
    return [kind for kind in dict.fromkeys(kinds) if kind not in IN_PROOF]
