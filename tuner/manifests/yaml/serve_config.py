"""A file for `vllm serve --config`, as it stands by itself or in a ConfigMap.

vLLM reads it as a mapping of options (vllm/utils/argparse_utils.py, `load_config_file`). Nothing in it says what it is
for, so it is recognised by its options: a model, and one more that vLLM alone has under that name.
"""

import re
from collections.abc import Iterator

from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.yaml.option_words import option_words
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Scalar

_OPTION = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*(?:\.[\w.-]+)?", re.IGNORECASE)
_OF_VLLM = frozenset(
    [
        "all2all-backend",
        "async-scheduling",
        "attention-backend",
        "compilation-config",
        "data-parallel-size",
        "disable-log-requests",
        "distributed-executor-backend",
        "enable-auto-tool-choice",
        "enable-chunked-prefill",
        "enable-expert-parallel",
        "enable-prefix-caching",
        "enforce-eager",
        "generation-config",
        "gpu-memory-utilization",
        "hf-overrides",
        "kv-cache-dtype",
        "kv-transfer-config",
        "limit-mm-per-prompt",
        "load-format",
        "max-model-len",
        "max-num-batched-tokens",
        "max-num-seqs",
        "mm-processor-kwargs",
        "model-impl",
        "override-generation-config",
        "pipeline-parallel-size",
        "reasoning-parser",
        "served-model-name",
        "speculative-config",
        "tensor-parallel-size",
        "tool-call-parser",
        "trust-remote-code",
    ]
)
"""Options of vLLM's that people write into such files."""


def serve_config_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launch that a configuration file makes; none for other documents."""
    document = reading.document
    if isinstance(document, Mapping) and _is_serve_config(document):
        reading.mark(document)
        yield ManifestLaunch("vllm serve --config", "", document.line, tuple(option_words(document)))


def _is_serve_config(document: Mapping) -> bool:
    names = {key.replace("_", "-") for key, _ in document.pairs}
    named_model = isinstance(document.get("model"), Scalar)
    only_options = all(_OPTION.fullmatch(key) for key, _ in document.pairs)
    return named_model and only_options and not names.isdisjoint(_OF_VLLM) and "apiVersion" not in names
