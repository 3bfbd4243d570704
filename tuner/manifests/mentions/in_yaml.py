"""Places in YAML that start vLLM: images, argument lists, scripts, and the keys of other tools' recipes."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tuner.manifests.image import parse_image, seems_to_serve
from tuner.manifests.markdown import has_fences
from tuner.manifests.mentions.in_shell import (
    UNIT_LINE,
    UNKNOWN_OPTIONS,
    fenced_mentions,
    form_of_words,
    shell_mentions,
)
from tuner.manifests.mentions.mention import CONFIG_OPTION, MENTION, Lines, Mention
from tuner.manifests.yaml.documents import read_documents
from tuner.manifests.yaml.source import Mapping, Node, Scalar, is_switched_off, items_of, text_of
from tuner.manifests.yaml.source import Sequence as List

_CONFIGS = frozenset({"compilation_config", "compilation-config", "compilationConfig"})
_RAY_KEYS = frozenset({"llm_configs", "model_loading_config", "deployment_config", "accelerator_type", "llm_engine"})
"""Keys beside `engine_kwargs` in Ray Serve's LLM configurations."""
_PROSE = frozenset(
    {"description", "summary", "title", "name", "help", "message", "displayName", "comment", "notes", "$id"}
)
_VECTORS = ("command", "args", "entrypoint")
_PIPELINES = ("jobs", "steps", "stages", "script")
"""Keys of files that say what to run in an image: the image's own entrypoint does not run there."""
_SCRIPT = re.compile(r"\S*\.sh")
_RAY_SCRIPTS = re.compile(r"(?:.*/)?(?:multi-node-serving|run_cluster)\.sh")
"""They start Ray, not vLLM (vLLM's examples/online_serving)."""
_DOCUMENT = re.compile(r"^(?:apiVersion|kind|services|spec|-[ ]+op):", re.MULTILINE)
_OTHERS = (
    ("kaito.sh/", ("Workspace", "InferenceSet"), "a KAITO Workspace"),
    ("workload.serving.volcano.sh/", ("ModelBooster", "ModelServing"), "a model of kthena"),
)
"""Kinds that start vLLM by themselves: group, kinds, and their name in a sentence."""
_FROM = re.compile(r"\bFROM\s+(?:--\S+\s+)*(\S+)")
_ANOTHER_KIND = "a script or a Dockerfile in the place of YAML; check it as a file, such as run.sh or Dockerfile"
_RAY_APPLICATION = re.compile(r"ray\.serve\.llm\b.*")
"""Ray Serve's own builders of LLM applications."""
_LITERAL = re.compile(r"[\w.-]+=")
"""The name in front of a text in a `configMapGenerator`."""
_MAX_DEPTH = 2
"""Documents in texts of documents that are looked into."""


@dataclass(frozen=True)
class _Place:
    """A node with the key it stands under, and the mappings that hold it, the nearest one last."""

    key: str
    node: Node
    holders: tuple[Mapping, ...]


def yaml_mentions(text: str, depth: int = 0) -> Iterator[Mention]:
    """The places in a YAML file.

    Raises:
        ValueError: it is not YAML.
    """
    lines = Lines(text)
    for document in read_documents(text):
        if _is_of_another_kind(text, document):
            yield _in(lines, document.line, _ANOTHER_KIND, document)
            continue
        yield from _of_kind(lines, document)
        for place in _places(document):
            yield from _of_place(lines, document, place, depth)


def _is_of_another_kind(text: str, document: Node) -> bool:
    """Whether a document is a script or a Dockerfile that YAML takes for one text, or for a text with a value."""
    beginning = ""
    if isinstance(document, Scalar):
        beginning = text[document.start : document.stop]
    elif isinstance(document, Mapping) and document.pairs:
        beginning = document.pairs[0][0]
    if not MENTION.search(beginning):
        return False
    base = _FROM.search(beginning)
    return (base is not None and parse_image(base[1]).serves) or any(True for _ in shell_mentions(beginning))


def _places(document: Node) -> Iterator[_Place]:
    """Every node once; what is switched off, or stands under a key that is a mention of its own, is not entered."""
    visited: set[int] = set()
    pending = [_Place("", document, ())]
    while pending:
        place = pending.pop()
        if id(place.node) in visited or (place.holders and is_switched_off(place.node)):
            continue
        visited.add(id(place.node))
        yield place
        if not (place.holders and _form_of_key(place)):
            pending += reversed(_below(place))


def _below(place: _Place) -> list[_Place]:
    """What stands directly below a node; an item of a list has the key of the list."""
    if isinstance(place.node, Mapping):
        holders = (*place.holders[-1:], place.node)
        return [_Place(key, value, holders) for key, value in place.node.pairs]
    return [_Place(place.key, item, place.holders) for item in items_of(place.node)]


def _of_place(lines: Lines, document: Node, place: _Place, depth: int) -> Iterator[Mention]:
    holder = place.holders[-1] if place.holders else None
    node = place.node
    if holder is not None and (form := _form_of_key(place)):
        yield _in(lines, node.line, form, holder)
    elif isinstance(node, List):
        yield from _of_list(lines, node, holder)
    elif isinstance(node, Scalar) and holder is not None and _is_added(place) and CONFIG_OPTION.match(node.text):
        yield _in(lines, node.line, UNKNOWN_OPTIONS, holder)
    elif isinstance(node, Scalar) and MENTION.search(node.text) and place.key not in _PROSE:
        image = _image(document, place)
        built = _built_upon(place)
        if built and _runs_entrypoint(place.holders[0], composed=True):
            yield _in(lines, node.line, f"the image {built}", place.holders[0])
        elif image is not None:
            yield _in(lines, node.line, f"the image {node.text}", image)
        else:
            yield from _of_text(lines, place, depth)


def _in(lines: Lines, line: int, form: str, block: Node, *, weak: bool = False) -> Mention:
    return Mention(line, form, block.line, lines.before(block.stop), weak)


def _form_of_key(place: _Place) -> str:
    """What starts vLLM by the name of a key."""
    if place.key in _CONFIGS and not _is_schema(place.node):
        return f"`{place.key}`"
    if place.key == "vllm_config" and isinstance(place.node, Mapping):
        return "`vllm_config`"
    if place.key == "engine_kwargs" and any(map(_is_of_ray, place.holders)):
        return "`engine_kwargs`"
    text = text_of(place.node)
    if place.key == "import_path" and text is not None and _RAY_APPLICATION.fullmatch(text):
        return f"`{text}`"
    return f"`engine: {text}`" if place.key == "engine" and text is not None and text.lower() == "vllm" else ""


def _is_of_ray(holder: Mapping) -> bool:
    return any(key in _RAY_KEYS for key, _ in holder.pairs)


def _is_schema(node: Node) -> bool:
    """Whether a node describes a key instead of setting it, as in a JSON schema or a CRD."""
    return isinstance(node, Mapping) and (node.get("type") is not None or node.get("$ref") is not None)


def _of_list(lines: Lines, node: List, holder: Mapping | None) -> Iterator[Mention]:
    texts = [text_of(item) or "" for item in node.items]
    block = holder if holder is not None and _is_container(holder) else node
    if form := form_of_words(texts):
        yield _in(lines, node.line, form, block)
    elif any(CONFIG_OPTION.match(item) for item in texts):
        is_patch = holder is not None and holder.get("op") is not None
        yield _in(lines, node.line, UNKNOWN_OPTIONS, block, weak=not is_patch)


def _is_added(place: _Place) -> bool:
    """Whether a patch of JSON (RFC 6902), or a parameter of Helm, adds a text to what another file says."""
    holder = place.holders[-1]
    is_parameter = "." in (text_of(holder.get("name")) or "")
    return (is_parameter or holder.get("op") is not None) and holder.get("value") is place.node


def _is_container(holder: Mapping) -> bool:
    """Whether a mapping says what runs: a container, a service, a step."""
    return any(holder.get(key) is not None for key in (*_VECTORS, "image"))


def _image(document: Node, place: _Place) -> Mapping | None:
    """What an image that serves belongs to, where its entrypoint starts vLLM; else None."""
    image = text_of(place.node) or ""
    seems_to = place.key == "image" and seems_to_serve(image, _words(place.holders[-1].get("args")))
    if _setting(place) not in {"image", "repository"} or not (seems_to or parse_image(image).serves):
        return None
    of_pipeline = isinstance(document, Mapping) and any(document.get(key) is not None for key in _PIPELINES)
    if of_pipeline and not _is_service(place):
        return None
    holder = place.holders[-1]
    if place.key == "repository" and not _is_container(holder) and len(place.holders) > 1:
        holder = place.holders[-2]
    composed = isinstance(document, Mapping) and document.get("services") is not None
    return holder if _runs_entrypoint(holder, composed=composed) else None


def _is_service(place: _Place) -> bool:
    """Whether the nearest mapping is one of a list of `services`, whose images start what they are made for."""
    outer = place.holders[-2].get("services") if len(place.holders) > 1 else None
    return any(item is place.holders[-1] for item in items_of(outer))


def _built_upon(place: _Place) -> str:
    """The image that serves and that a Dockerfile in a Compose file builds upon; empty if there is none."""
    bases = _FROM.findall(text_of(place.node) or "") if place.key == "dockerfile_inline" else []
    return bases[-1] if bases and parse_image(bases[-1]).serves else ""


def _setting(place: _Place) -> str:
    """The key of a value, which a parameter of Helm in an Argo CD Application names in full, as `image.repository`."""
    name = text_of(place.holders[-1].get("name")) if place.key == "value" else None
    return (name or "").rpartition(".")[2] if name is not None and "." in name else place.key


def _runs_entrypoint(holder: Mapping, *, composed: bool) -> bool:
    """Whether a container starts what its image does, or a script that is not written here."""
    if any(holder.get(key) is not None for key in ("script", "steps")):
        return False
    command = holder.get("entrypoint") if composed else holder.get("command")
    if command is None or any(word.startswith("-") for word in _words(command)[:1]):  # an option is not a program
        return True
    words = [word for key in _VECTORS for word in _words(holder.get(key))]
    return any(_SCRIPT.fullmatch(word) and not _RAY_SCRIPTS.fullmatch(word) for word in words)


def _words(node: Node | None) -> list[str]:
    texts = [text_of(node) or "", *(text_of(item) or "" for item in items_of(node))]
    return [word for text in texts for word in text.split()]


def _of_text(lines: Lines, place: _Place, depth: int) -> Iterator[Mention]:
    """The places in a text of the file: a document, Markdown, or a script."""
    node, holder = place.node, place.holders[-1] if place.holders else None
    if not isinstance(node, Scalar):
        return
    literal = node.style == "|"
    text = _LITERAL.sub("", node.text, count=1) if place.key == "literals" else node.text
    for inner in _mentions_of_text(text, depth):
        mention = inner.moved(node.line if literal else node.line - 1)
        if holder is not None and _is_container(holder):
            yield mention.within(holder.line, lines.before(holder.stop))
        elif literal:
            yield mention
        else:
            yield Mention(node.line, mention.form, node.line, lines.before(node.stop), mention.weak)


def _mentions_of_text(text: str, depth: int) -> Sequence[Mention]:
    if depth < _MAX_DEPTH and "\n" in text and _DOCUMENT.search(text):
        try:
            return list(yaml_mentions(text, depth + 1))
        except ValueError:
            pass
    return list(fenced_mentions(text) if has_fences(text) else shell_mentions(UNIT_LINE.sub("", text)))


def _of_kind(lines: Lines, document: Node) -> Iterator[Mention]:
    """An object of a kind that starts vLLM by itself."""
    if not isinstance(document, Mapping):
        return
    group, kind = text_of(document.get("apiVersion")) or "", text_of(document.get("kind")) or ""
    for prefix, kinds, form in _OTHERS:
        if group.startswith(prefix) and kind in kinds:
            yield _in(lines, document.line, form, document)
    spec = document.get("spec")
    backend = text_of(spec.get("backend")) if isinstance(spec, Mapping) else None
    if kind == "DynamoGraphDeploymentRequest" and backend == "vllm":
        yield _in(lines, document.line, "a request for a deployment of Dynamo", document)
