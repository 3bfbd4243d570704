"""Launches in KServe's InferenceService and LLMInferenceService."""

from collections.abc import Iterator
from dataclasses import replace

from tuner.manifests.launch import Argument, ManifestLaunch
from tuner.manifests.shell.lexer import commands
from tuner.manifests.yaml.kubernetes import arguments_of, environment_of, hidden_in, kind_of, surroundings_of
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Node, items_of, text_of, walk

_FORMATS = frozenset({"vllm", "huggingface"})
_MODEL_OPTIONS = ("--model_id", "--model-id")
ADDITIONAL = "VLLM_ADDITIONAL_ARGS"


def kserve_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launches that KServe makes of one of its objects; none for objects of other kinds.

    Pod specs written out in full (`predictor.containers`) are launches of `tuner.manifests.yaml.kubernetes`.
    """
    document = reading.document
    if not isinstance(document, Mapping):
        return
    spec, model = document.get("spec"), document.get("spec", "predictor", "model")
    kind = kind_of(document)
    if kind == "LLMInferenceService" and isinstance(spec, Mapping):
        reading.mark(spec)
        _mark_containers(reading, spec)
        yield from _llm_launches(text_of(document.get("metadata", "name")) or "", spec)
    elif kind == "InferenceService" and isinstance(model, Mapping):
        reading.mark(model, model.get("args"))
        yield from _predictor_launch(document, model)


def _mark_containers(reading: Reading, spec: Mapping) -> None:
    """The containers of an LLMInferenceService are started by KServe's own template."""
    for node in walk(spec):
        if isinstance(node, Mapping):
            reading.mark(*items_of(node.get("containers")))


def _predictor_launch(document: Mapping, model: Mapping) -> Iterator[ManifestLaunch]:
    """`predictor.model`: its arguments go to the runtime, whose image is not stated here."""
    if (text_of(model.get("modelFormat", "name")) or "").lower() not in _FORMATS:
        return
    env = environment_of(model.get("env"))
    words = arguments_of(model.get("args"), env)
    named = _named_model(words)
    uri = model.get("storageUri")
    if not named and uri is not None:
        words = [_of_uri(uri), *words]
    pod = document.get("spec", "predictor")
    surroundings = surroundings_of(model, pod if isinstance(pod, Mapping) else model, env)
    name = text_of(document.get("metadata", "name")) or ""
    yield ManifestLaunch("InferenceService", name, model.line, tuple(words), hidden=hidden_in(words), **surroundings)


def _named_model(words: list[Argument]) -> bool:
    """Turns huggingfaceserver's `--model_id` into vLLM's `--model` where it stands; whether a model is named."""
    for index, word in enumerate(words):
        option, equals, value = word.text.partition("=")
        if option in _MODEL_OPTIONS:
            words[index] = replace(word, text="--model" + equals + value)
            return True
    return any(word.text.partition("=")[0] == "--model" for word in words)


def _llm_launches(name: str, spec: Mapping) -> Iterator[ManifestLaunch]:
    """One launch a workload: the service itself, and its `prefill` and `worker` parts.

    KServe's own template starts `vllm serve`; what the object adds stands in `VLLM_ADDITIONAL_ARGS` and in the
    arguments of the container `main`, and bash reads both once more (config/llmisvcconfig, KServe aaac4e294).
    """
    workloads = [("", spec), ("prefill", spec.get("prefill"))]
    for part, workload in workloads:
        if isinstance(workload, Mapping) and (not part or workload.get("template") or workload.get("replicas")):
            yield _llm_launch(spec, workload, "/".join(filter(None, [name, part])))


def _llm_launch(spec: Mapping, workload: Mapping, name: str) -> ManifestLaunch:
    pod = workload.get("template")
    containers = items_of(pod.get("containers")) if isinstance(pod, Mapping) else []
    main = next((c for c in containers if isinstance(c, Mapping) and text_of(c.get("name")) == "main"), None)
    uri = spec.get("model", "uri")
    model = [_of_uri(uri)] if uri is not None else []
    parallel = workload.get("parallelism", "tensor")
    model += (
        [Argument("--tensor-parallel-size", parallel.line), Argument(text_of(parallel) or "", parallel.line)]
        if parallel
        else []
    )
    if main is None or not isinstance(pod, Mapping):
        return ManifestLaunch("LLMInferenceService", name, spec.line, tuple(model))
    env = environment_of(main.get("env"))
    added = env.get(ADDITIONAL) or ""
    words, hidden = _evaluated(arguments_of(main.get("args"), env, again=True))
    words = [*model, *(Argument(text, main.line) for text in _split(added)), *words]
    hidden = hidden or (f"${ADDITIONAL}" if ADDITIONAL in env and env[ADDITIONAL] is None else "")
    if main.get("command") is not None:
        hidden = "a command in place of KServe's own"
    surroundings = surroundings_of(main, pod, env)
    return ManifestLaunch("LLMInferenceService", name, main.line, tuple(words), hidden=hidden, **surroundings)


def _evaluated(words: list[Argument]) -> tuple[list[Argument], str]:
    """The arguments as bash's `eval` leaves them; an item that becomes several words cannot be edited."""
    evaluated: list[Argument] = []
    for word in words:
        parts = _split(word.text)
        owner = word.owner if len(parts) == 1 else None
        for part in parts:
            argument = replace(word, text=part, owner=owner)
            evaluated.append(argument)
    return evaluated, next((word.text for word in words if "$" in word.text and "'" not in word.text), "")


def _split(text: str) -> list[str]:
    """The words that bash makes of a text."""
    return [token.text() for command in commands(text) for token in command]


def _of_uri(uri: Node) -> Argument:
    """A model's address as vLLM names it: `hf://ORG/NAME` is the hub id."""
    return Argument(
        (text_of(uri) or "").removeprefix("hf://").partition(":")[0]
        if "hf://" in (text_of(uri) or "")
        else (text_of(uri) or ""),
        uri.line,
    )
