"""Architectures whose MoE layers may leave the registered order, as a reader of vLLM's sources judges.

Every call to a module that holds MoE layers was followed from each registered architecture, with the control flow
around it. Whatever is not named here was read and found to run each MoE layer once, in order. 0.26.0 was not read; it
is compared with 0.32.0's list, which was read in the sources of 0.33.0.
"""

ERNIE = "text or vision experts by the tokens of the batch; both are registered (ernie45_vl_moe.py)"
TRANSFORMERS = (
    "registered in the order of the module tree, run in that of a forward of transformers (transformers/moe.py)"
)
DEFERRED = "small batches go round the MoE operator where the experts' kernel allows it"
ROCM = "on ROCm alone, where a decode step may leave the operator out"

BACKEND = dict.fromkeys(
    (
        "TransformersMoEForCausalLM",
        "TransformersMoEEmbeddingModel",
        "TransformersMoEForSequenceClassification",
        "TransformersMultiModalMoEForCausalLM",
    ),
    TRANSFORMERS,
)
RECENT = {
    "Ernie4_5_VLMoeForConditionalGeneration": ERNIE,
    "InternS2MobiusForConditionalGeneration": "blocks shared between decoder layers: more calls than registered layers",
    "DeepseekV41ForCausalLM": "late layers may run in a forward context of their own, and small batches elsewhere",
    "BeamForCausalLM": DEFERRED,
    "FlintForCausalLM": DEFERRED,
    "KimiLinearForCausalLM": DEFERRED,
    "KimiK3ForConditionalGeneration": DEFERRED,
    "MuseSparkForConditionalGeneration": DEFERRED,
    "MiniMaxM3SparseForCausalLM": ROCM,
    "MiniMaxM3SparseForConditionalGeneration": ROCM,
    "DeepseekV4ForCausalLM": ROCM,
    "DeepseekV4ForConditionalGeneration": ROCM,
    "FlexOlmoForCausalLM": TRANSFORMERS,
    "HunYuanMoEV1ForCausalLM": TRANSFORMERS,
    "Kolibri1ForCausalLM": TRANSFORMERS,
    "MellumForCausalLM": TRANSFORMERS,
    **BACKEND,
}
SUSPICIOUS: dict[str, dict[str, str]] = {
    "0.19.1": {"Ernie4_5_VLMoeForConditionalGeneration": ERNIE, **BACKEND},
    "0.26.0": RECENT,
    "0.32.0": RECENT,
}
"""Release -> architecture -> what the reader saw. Drafts of speculative decoding are apart: each runs one layer by the
step's number beside its target, and a launch with a draft is a launch of its own."""

NATIVE = (
    "not of the Transformers backend in this release: a class of its own, one loop over the layers, one call in each"
)
SETTLED: dict[tuple[str, str], str] = {
    ("0.26.0", "FlexOlmoForCausalLM"): f"{NATIVE} (flex_olmo.py:100)",
    ("0.26.0", "HunYuanMoEV1ForCausalLM"): f"{NATIVE} (hunyuan_v1.py:465, 660)",
    (
        "0.26.0",
        "KimiLinearForCausalLM",
    ): "the path round the operator is newer: one call in each layer (kimi_linear.py:174, 445)",
    (
        "0.26.0",
        "MiniMaxM3SparseForCausalLM",
    ): "the model of NVIDIA runs each layer once (minimax_m3/nvidia/model.py:281, 862)",
    ("0.32.0", "DeepseekV4ForCausalLM"): (
        "not the model of ROCm; a layer calls its experts in one of two ways, chosen when it is built "
        "(deepseek_v4/nvidia/model.py:911, 1469)"
    ),
}
"""(release, architecture) -> what its code says where the probe found uniform and the reader was suspicious."""
