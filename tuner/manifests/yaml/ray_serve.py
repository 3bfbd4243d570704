"""Launches in configurations of Ray Serve LLM, each of which starts vLLM's engine in a Python process of Ray's.

`LLMConfig` of ray-project/ray (python/ray/llm/_internal/serve/core/configs/llm_config.py; the page "Configuration
reference" of docs.ray.io): `model_loading_config` names the model, `engine_kwargs` are the engine's arguments. A
RayService holds the same text under `serveConfigV2`.
"""

from collections.abc import Iterator

from tuner.manifests.launch import RAY_SERVE, Argument, GpuGroup, ManifestLaunch
from tuner.manifests.yaml.kubernetes import environment_of, unread
from tuner.manifests.yaml.option_words import option_words
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Node, items_of, text_of

_ENGINE = "VLLM"


def ray_serve_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """One launch for each configuration, wherever it stands; those of other engines are none."""
    for node in unread(reading):
        loading = node.get("model_loading_config") if isinstance(node, Mapping) else None
        if not isinstance(node, Mapping) or not isinstance(loading, Mapping):
            continue
        if (text_of(node.get("llm_engine")) or _ENGINE).upper() == _ENGINE:
            reading.mark(node)
            yield _launch(node, loading)


def _launch(config: Mapping, loading: Mapping) -> ManifestLaunch:
    """The model is `model_source`, in a mirror if that is a mapping, and `model_id` without it."""
    source = loading.get("model_source") or loading.get("model_id") or loading
    source = source.get("bucket_uri") or source if isinstance(source, Mapping) else source
    options = config.get("engine_kwargs")
    words = [Argument("--model", source.line), Argument(text_of(source) or "", source.line)]
    if isinstance(options, Mapping):
        words += option_words(options, negated=True, without=frozenset({"model"}))
    return ManifestLaunch(
        shape=RAY_SERVE,
        name=text_of(loading.get("model_id")) or "",
        line=config.line,
        words=tuple(words),
        env=environment_of(config.get("runtime_env", "env_vars")),
        gpu_group=_placement_group(config.get("placement_group_config", "bundles")),
    )


def _placement_group(bundles: Node | None) -> GpuGroup | None:
    """The GPUs of a placement group, of which vLLM takes one a bundle; None where a bundle has another number.

    `initialize_ray_cluster` of vllm/v1/executor/ray_utils.py (0.19.1, 0.32.0).
    """
    counts = [text_of(bundle.get("GPU")) for bundle in items_of(bundles) if isinstance(bundle, Mapping)]
    stated = [count for count in counts if count not in {None, "0"}]
    if bundles is None or not stated or any(count != "1" for count in stated):
        return None
    return GpuGroup("The bundles of the placement group", len(stated), bundles.line)
