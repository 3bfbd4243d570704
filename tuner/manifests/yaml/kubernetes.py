"""Launches in Kubernetes objects: every container of every pod template, in whatever kind it stands.

Deployment, StatefulSet, Pod, Job, CronJob, LeaderWorkerSet, RayCluster and ServingRuntime all hold pod specs; which
keys lead there does not matter.
"""

import re
from collections.abc import Iterator
from collections.abc import Mapping as Variables
from collections.abc import Sequence as Words
from dataclasses import replace
from typing import Any

from tuner.manifests.excerpt import placed
from tuner.manifests.image import parse_image
from tuner.manifests.launch import WHOLE, Argument, ArgumentList, Form, ManifestLaunch
from tuner.manifests.markdown import has_fences, markdown_launches
from tuner.manifests.own_command import warm_arguments
from tuner.manifests.shell.launches import embedded_launches, shell_launches, shell_script, vector_arguments
from tuner.manifests.yaml.gpu_group import group_of
from tuner.manifests.yaml.pod import pod_of
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Node, Scalar, Sequence, block_of, items_of, text_of, walk
from tuner.manifests.yaml.variable_place import variable_place

_EXPANSION = re.compile(r"\$\$|\$\(([^()]*)\)")
_WHOLE = re.compile(r"\$(?:\([^()]*\)|\{.*\}|\w+)", re.DOTALL)
"""A variable and nothing else, as Kubernetes or Compose writes it."""
_CONTAINERS = frozenset({"containers", "container", "script", "mainContainer"})
"""Keys of containers: of pods, of Argo Workflows' templates, and of Dynamo's pods."""
_NEVER_STARTED = frozenset({"exec", "ephemeralContainers"})
"""Keys of commands that run beside a server: in probes and hooks, or by hand."""
_SIDECAR = "Always"
"""The restart policy of a container that starts before the others and stays."""
_FURTHER = re.compile(r"(?:extra|additional|more|server|engine|vllm)_?-?(?:args|arguments)", re.IGNORECASE)
"""Keys of arguments that a chart may add to a command."""
_MAX_EXPANDED = 2**20
"""Characters of variables that the texts of one list may take in."""


def kind_of(document: Node) -> str:
    """The kind of a Kubernetes object; empty for anything else."""
    if not isinstance(document, Mapping) or document.get("apiVersion") is None:
        return ""
    return text_of(document.get("kind")) or ""


def pod_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launches of every container in a document, whatever kind of object it is, and whichever keys lead there."""
    document = reading.document
    owner = text_of(document.get("metadata", "name")) if isinstance(document, Mapping) else None
    shape = kind_of(document) or "container"
    group = group_of(document, shape)
    _mark_others(reading)
    for container, pod in _containers(reading):
        name = "/".join(filter(None, [owner, text_of(container.get("name"))]))
        if not reading.is_done(container):
            for launch in container_launches(reading, container, pod, shape=shape, name=name):
                place = variable_place(reading.text, container, launch.words) if shape in WHOLE else None
                yield replace(launch, gpu_group=group, variable_place=place)


def _containers(reading: Reading) -> Iterator[tuple[Mapping, Mapping]]:
    """Every container with the mapping that it stands in, which is its pod where it is one of a list."""
    document, of_cluster = reading.document, bool(kind_of(reading.document))
    if isinstance(document, Mapping) and _has_vector(document):
        yield document, document
    for pod in unread(reading):
        if not isinstance(pod, Mapping):
            continue
        for key, value in pod.pairs:
            for node in [value, *items_of(value)]:
                if isinstance(node, Mapping) and _is_container(key, node, of_cluster=of_cluster):
                    yield node, pod


def _is_container(key: str, node: Mapping, *, of_cluster: bool) -> bool:
    """Whether the node below a key is a container that serves.

    Args:
        key: the key.
        node: the node.
        of_cluster: it stands in a Kubernetes object, where the key alone can say so.
    """
    return not _is_other(key, node) and (_has_vector(node) or (of_cluster and key in _CONTAINERS))


def _is_other(key: str, node: Mapping) -> bool:
    """Whether the node below a key is a command that does not serve."""
    prepares = key == "initContainers" and text_of(node.get("restartPolicy")) != _SIDECAR
    return prepares or key in _NEVER_STARTED


def _mark_others(reading: Reading) -> None:
    """Mark the commands that do not serve, so that later readers pass them by."""
    for parent in unread(reading):
        for key, value in parent.pairs if isinstance(parent, Mapping) else ():
            for node in [value, *items_of(value)]:
                if isinstance(node, Mapping) and _is_other(key, node):
                    reading.mark(node.get("command"), node.get("args"))


def _has_vector(node: Mapping) -> bool:
    return isinstance(node.get("command"), Sequence) or isinstance(node.get("args"), Sequence)


def container_launches(
    reading: Reading,
    container: Mapping,
    pod: Mapping,
    *,
    shape: str,
    name: str,
    outer: Variables[str, str | None] | None = None,
) -> Iterator[ManifestLaunch]:
    """The launches of one container: its command and arguments, or those that its image's entrypoint takes.

    Args:
        reading: the document that it stands in.
        container: the container.
        pod: the mapping that holds its volumes.
        shape: what its launches are called.
        name: what tells it from others.
        outer: variables that it has from elsewhere in the document; its own come before them.
    """
    written = [container.get("command"), container.get("args")]
    reading.mark(*written)
    reading.count(sum(len(items_of(node)) for node in written))
    env = {**(outer or {}), **environment_of(container.get("env"))}
    command, arguments = (arguments_of(node, env) for node in written)
    surroundings = surroundings_of(container, pod, env)
    surroundings["files"] = _files(container, pod, reading.config_maps)
    vector = [*command, *arguments]
    script = _script_of(container, vector, [node for part in written for node in items_of(part)])
    if script is not None:
        reading.mark(script)
        for launch in scalar_launches(reading.text, script, shape=shape, variables=env):
            yield replace(launch, shape=shape, name=name, **surroundings | {"env": {**env, **launch.env}})
        return
    words = None if command else _of_entrypoint(container, arguments)
    words = words if words is not None else vector_arguments(vector) or warm_arguments(vector)
    if words is not None:
        hidden = hidden_in(words) or _further_arguments(container)
        yield ManifestLaunch(shape, name, container.line, words, hidden=hidden, **surroundings)


def _further_arguments(container: Mapping) -> str:
    """The key beside a command that names further arguments, as values of charts have it; empty if there is none."""
    further = (key for key, value in container.pairs if _FURTHER.fullmatch(key) and (items_of(value) or text_of(value)))
    return next(further, "")


def _script_of(container: Mapping, vector: list[Argument], nodes: list[Node]) -> Node | None:
    """The text that a shell runs: an item of the vector, or the `source` of Argo Workflows' script templates."""
    source = container.get("source")
    if isinstance(source, Scalar):
        return source
    script = shell_script(vector)
    return None if script is None else nodes[vector.index(script)]


def list_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launches in lists that begin with `vllm serve` or the like, below any key that no other reader knows."""
    for node in unread(reading):
        if isinstance(node, Sequence):
            words = vector_arguments(arguments_of(node))
            if words is not None:
                reading.mark(node)
                yield ManifestLaunch("list", "", node.line, words, hidden=hidden_in(words))


def unread(reading: Reading) -> Iterator[Node]:
    """Every node that no reader has read, each once."""
    return walk(reading.document, reading.done)


def surroundings_of(container: Mapping, pod: Mapping, env: Variables[str, str | None]) -> dict[str, Any]:
    """What surrounds the arguments of a container, as fields of `ManifestLaunch`."""
    image = container.get("image")
    return {
        "image": image_of(container),
        "image_line": image.line if image else 0,
        "env": env,
        "pod": pod_of(container, pod),
    }


def image_of(container: Mapping) -> str | None:
    """The image of a container as one text; charts have it in parts. None if it is not stated."""
    image = container.get("image")
    if not isinstance(image, Mapping):
        return text_of(image) or None
    registry, repository, tag, digest = (
        text_of(image.get(part)) for part in ("registry", "repository", "tag", "digest")
    )
    name = (
        "/".join(filter(None, [registry, repository])) + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    )
    return name if repository else None


def arguments_of(
    node: Node | None, env: Variables[str, str | None] | None = None, *, again: bool = False
) -> list[Argument]:
    """The items of a list as arguments; `$(NAME)` is replaced as the kubelet does, where the value is stated here.

    Args:
        node: the list; anything else has no arguments.
        env: the container's variables.
        again: a shell reads the items once more.
    """
    if not isinstance(node, Sequence):
        return []
    owner = ArgumentList(form_of(node), node.start, again)
    expansion = _Expansion(env or {})
    return [_argument(item, owner, expansion) for item in node.items]


def form_of(node: Sequence) -> Form:
    """How a list is written."""
    if node.json:
        return Form.JSON
    return Form.FLOW if node.flow else Form.BLOCK


def _argument(item: Node, owner: ArgumentList, expansion: "_Expansion") -> Argument:
    if not isinstance(item, Scalar):
        return Argument("", item.line, item.start, item.stop, None, unknown=True)
    text, unknown = expansion.of(item.text)
    return Argument(text, item.line, item.start, item.stop, owner, unknown)


class _Expansion:
    """Fills variables in as the kubelet does: `$$` is one dollar, and `$(NAME)` the value of a variable."""

    def __init__(self, env: Variables[str, str | None]) -> None:
        self._env = env
        self._room = _MAX_EXPANDED
        self._unknown = False

    def of(self, text: str) -> tuple[str, bool]:
        """A text, and whether it holds a variable whose value is not stated here; that one stays as it is written."""
        self._unknown = False
        return _EXPANSION.sub(self._value, text), self._unknown

    def _value(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        stated = self._env.get(match[1])
        self._room -= len(stated or "")
        if stated is None or self._room < 0:
            self._unknown = True
            return match[0]
        return stated


def hidden_in(words: Words[Argument], *, command_line: bool = False) -> str:
    """Which word of an argument list may stand for other arguments; empty if none does.

    It is an item that is not text, or a variable where an option may stand. Behind an option it is the option's value.

    Args:
        words: the arguments.
        command_line: they are split from one text, so that a variable may be any number of words.
    """
    for index, word in enumerate(words):
        if word.unknown and word.owner is None and not word.text:
            return "an item that is not a text"
        before = words[index - 1].text if index else ""
        may_be_option = index > 0 or command_line
        is_value = before.startswith("-") and "=" not in before
        if word.unknown and may_be_option and not is_value and _WHOLE.fullmatch(word.text):
            return word.text
    return ""


def environment_of(node: Node | None) -> dict[str, str | None]:
    """Variables by name, from a list of `name` and `value`, or from a mapping, as values of charts may have it.

    A value may name the variables in front of it.
    """
    if isinstance(node, Mapping):
        return {name: text_of(value) for name, value in reversed(node.pairs)}
    env: dict[str, str | None] = {}
    expansion = _Expansion(env)
    for item in items_of(node):
        if isinstance(item, Mapping):
            value, unknown = expansion.of(text_of(item.get("value")) or "")
            stated = isinstance(item.get("value"), Scalar) and not unknown
            env[text_of(item.get("name")) or ""] = value if stated else None
    return env


def scalar_launches(
    text: str,
    node: Node,
    *,
    shape: str,
    variables: Variables[str, str | None] | None = None,
    composed: bool = False,
) -> Iterator[ManifestLaunch]:
    """The launches in one text of a YAML file: a script, or a document with fenced blocks.

    Block scalars are read where they stand in the file, so that their launches can be edited.

    Args:
        text: the file.
        node: the text; anything else has no launches.
        shape: what the launches of a script are called.
        variables: those that are set where a script runs.
        composed: Docker Compose reads the text before a shell does.
    """
    if not isinstance(node, Scalar):
        return
    excerpt, folded = block_of(text, node), node.style == ">"
    if excerpt is None:
        yield from embedded_launches(node.text, node.line, shape=shape, variables=variables, composed=composed)
    elif has_fences(node.text) and not folded:
        yield from placed(markdown_launches(excerpt.text), excerpt)
    else:
        launches = shell_launches(excerpt.text, folded=folded, shape=shape, variables=variables, composed=composed)
        yield from placed(launches, excerpt)


def _files(container: Mapping, pod: Mapping, config_maps: Variables[str, Variables[str, str]]) -> dict[str, str]:
    """The texts of ConfigMaps that stand beside a pod and are mounted in a container, by path."""
    volumes = {}
    for volume in items_of(pod.get("volumes")):
        if isinstance(volume, Mapping):
            volumes[text_of(volume.get("name"))] = _texts_of_volume(volume, config_maps)
    files: dict[str, str] = {}
    for mount in items_of(container.get("volumeMounts")):
        path = text_of(mount.get("mountPath")) if isinstance(mount, Mapping) else None
        if not isinstance(mount, Mapping) or not path:
            continue
        texts, part = volumes.get(text_of(mount.get("name")), {}), text_of(mount.get("subPath"))
        if part is None:
            files |= {f"{path.rstrip('/')}/{name}": text for name, text in texts.items()}
        elif part in texts:
            files[path] = texts[part]
    return files


def _texts_of_volume(volume: Mapping, config_maps: Variables[str, Variables[str, str]]) -> dict[str, str]:
    """The texts in a volume, by their path in it; `items` says which keys are there, and under which path."""
    texts = config_maps.get(text_of(volume.get("configMap", "name")) or "", {})
    items = volume.get("configMap", "items")
    if not isinstance(items, Sequence):
        return dict(texts)
    chosen: dict[str, str] = {}
    for item in items.items:
        key = text_of(item.get("key")) if isinstance(item, Mapping) else None
        path = text_of(item.get("path")) if isinstance(item, Mapping) else None
        if key is not None and key in texts and path:
            chosen[path] = texts[key]
    return chosen


def _of_entrypoint(container: Mapping, arguments: list[Argument]) -> tuple[Argument, ...] | None:
    """The arguments of a container without a command, where its image's entrypoint is known to launch vLLM."""
    image = image_of(container)
    return tuple(arguments) if image and parse_image(image).serves else None
