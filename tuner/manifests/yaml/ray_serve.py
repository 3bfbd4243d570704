"""Launches in configurations of Ray Serve LLM, each of which starts vLLM's engine in a Python process of Ray's.

`LLMConfig` of ray-project/ray (python/ray/llm/_internal/serve/core/configs/llm_config.py; the page "Configuration
reference" of docs.ray.io): `model_loading_config` names the model, `engine_kwargs` are the engine's arguments. A
RayService holds the same text under `serveConfigV2`.
"""

from collections.abc import Iterator

from tuner.manifests.launch import Argument, ManifestLaunch
from tuner.manifests.yaml.kubernetes import environment_of, unread
from tuner.manifests.yaml.option_words import option_words
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, text_of

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
    env = environment_of(config.get("runtime_env", "env_vars"))
    return ManifestLaunch("Ray Serve LLM", text_of(loading.get("model_id")) or "", config.line, tuple(words), env=env)
