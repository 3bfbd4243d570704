"""Launches in Helm values (production-stack, llm-d-modelservice), and in production-stack's own VLLMRuntime."""

from collections.abc import Iterator

from tuner.manifests.launch import STACK, Argument, ManifestLaunch
from tuner.manifests.yaml.kubernetes import (
    arguments_of,
    container_launches,
    environment_of,
    hidden_in,
    kind_of,
    surroundings_of,
    unread,
)
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Node, items_of, text_of
from tuner.manifests.yaml.stack_pod import ray_group, stack_pod, stack_variables

_SIZES = (("tensorParallelSize", "--tensor-parallel-size"), ("pipelineParallelSize", "--pipeline-parallel-size"))


def helm_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launches that the two charts make of values, wherever these stand.

    They are a file of their own, or stand in Flux's HelmRelease, in Argo CD's Application, or in the chart's own tests.
    """
    for node in unread(reading):
        if not isinstance(node, Mapping):
            continue
        engine = node.get("servingEngineSpec")
        if isinstance(engine, Mapping) and text_of(engine.get("enableEngine")) != "false":
            yield from _production_stack(node, engine)
        if node.get("modelArtifacts") is not None:
            yield from _model_service(reading, node)


def runtime_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launch of production-stack's VLLMRuntime, in either form that its operator has had; none without a model."""
    document = reading.document
    spec = document.get("spec") if isinstance(document, Mapping) else None
    if kind_of(document) != "VLLMRuntime" or not isinstance(document, Mapping) or not isinstance(spec, Mapping):
        return
    if spec.get("model", "modelURL") is None:
        return
    config = spec.get("vllmConfig")
    config = config if isinstance(config, Mapping) else spec
    image = spec.get("image", "name") or spec.get("deploymentConfig", "image", "name")
    words = _chart_words(spec.get("model", "modelURL"), spec.get("model", "enableLoRA"), config)
    yield ManifestLaunch(
        shape="VLLMRuntime",
        name=text_of(document.get("metadata", "name")) or "",
        line=spec.line,
        words=words,
        image=text_of(image),
        image_line=image.line if image else 0,
        env=environment_of(config.get("env")),
        hidden=hidden_in(words),
    )


def _production_stack(values: Mapping, engine: Mapping) -> Iterator[ManifestLaunch]:
    """One launch a model. Of the options the chart writes, those that this tool reads, then `extraArgs`, its order.

    helm/templates/deployment-vllm-multi.yaml, production-stack a6c01db0.
    """
    for model in items_of(engine.get("modelSpec")):
        url = model.get("modelURL") if isinstance(model, Mapping) else None
        if not isinstance(model, Mapping) or url is None or text_of(model.get("enabled")) == "false":
            continue
        config = model.get("vllmConfig")
        words = _chart_words(url, model.get("enableLoRA"), config if isinstance(config, Mapping) else None)
        image, tag = model.get("repository"), model.get("tag")
        yield ManifestLaunch(
            shape=STACK,
            name=text_of(model.get("name")) or "",
            line=model.line,
            words=words,
            image=":".join(filter(None, [text_of(image), text_of(tag)])) or None,
            image_line=(tag or image or model).line,
            env=environment_of(model.get("env")) | stack_variables(model),
            pod=stack_pod(values, engine, model),
            gpu_group=ray_group(model),
            hidden=hidden_in(words),
        )


def _chart_words(url: Node | None, lora: Node | None, config: Mapping | None) -> tuple[Argument, ...]:
    words = [Argument(text_of(url) or "", url.line)] if url else []
    if lora is not None and text_of(lora) == "true":
        words.append(Argument("--enable-lora", lora.line))
    for key, option in _SIZES:
        size = config.get(key) if config else None
        if size is not None:
            words += [Argument(option, size.line), Argument(text_of(size) or "", size.line)]
    return (*words, *arguments_of(config.get("extraArgs") if config else None))


def _model_service(reading: Reading, values: Mapping) -> Iterator[ManifestLaunch]:
    """llm-d-modelservice: `modelCommand` says who writes the command (llm-d-modelservice 3051935, values.yaml)."""
    uri = values.get("modelArtifacts", "uri")
    for role in ("decode", "prefill"):
        pod = values.get(role)
        if not isinstance(pod, Mapping):
            continue
        reading.mark(*items_of(pod.get("containers")))
        if text_of(pod.get("create")) == "false":
            continue
        for container in items_of(pod.get("containers")):
            if not isinstance(container, Mapping):
                continue
            name = "/".join([role, text_of(container.get("name")) or ""])
            if text_of(container.get("modelCommand")) == "vllmServe":
                yield _served_model(container, pod, uri, name)
            else:
                yield from container_launches(reading, container, pod, shape="llm-d-modelservice", name=name)


def _served_model(container: Mapping, pod: Mapping, uri: Node | None, name: str) -> ManifestLaunch:
    env = environment_of(container.get("env"))
    model = [Argument((text_of(uri) or "").removeprefix("hf://"), uri.line)] if uri else []
    words = (*model, *arguments_of(container.get("args"), env))
    surroundings = surroundings_of(container, pod, env)
    return ManifestLaunch("llm-d-modelservice", name, container.line, words, hidden=hidden_in(words), **surroundings)
