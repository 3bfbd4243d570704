"""Launches in Kubernetes objects: every container of every pod template, in whatever kind it stands.

Deployment, StatefulSet, Pod, Job, CronJob, LeaderWorkerSet, RayCluster and ServingRuntime all hold pod specs; which
keys lead there does not matter.
"""

import re
from collections.abc import Iterator
from collections.abc import Mapping as Variables
from dataclasses import replace
from typing import Any

from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ArgumentList, Form, ManifestLaunch, Volume
from tuner.manifests.markdown import has_fences, markdown_launches
from tuner.manifests.shell import embedded_launches, shell_launches, shell_script, vector_arguments
from tuner.manifests.yaml_source import Mapping, Node, Scalar, Sequence, items_of, text_of, walk

_VARIABLE = re.compile(r"\$\(([\w.-]+)\)")


def kind_of(document: Node) -> str:
    """The kind of a Kubernetes object; empty for anything else."""
    if not isinstance(document, Mapping) or document.get("apiVersion") is None:
        return ""
    return text_of(document.get("kind")) or ""


def kubernetes_launches(text: str, document: Mapping) -> Iterator[ManifestLaunch]:
    """The launches in the pod specs of one object.

    Args:
        text: the file it stands in.
        document: the object.
    """
    owner = text_of(document.get("metadata", "name")) or ""
    for pod in walk(document):
        if isinstance(pod, Mapping):
            for container in items_of(pod.get("containers")):
                if isinstance(container, Mapping):
                    name = "/".join(filter(None, [owner, text_of(container.get("name"))]))
                    yield from container_launches(text, container, pod, shape=kind_of(document), name=name)


def container_launches(
    text: str, container: Mapping, pod: Mapping, *, shape: str, name: str
) -> Iterator[ManifestLaunch]:
    """The launches of one container: its command and arguments, or those that its image's entrypoint takes."""
    env = environment_of(container.get("env"))
    command = arguments_of(container.get("command"), env)
    arguments = arguments_of(container.get("args"), env)
    surroundings = surroundings_of(container, pod, env)
    vector = [*command, *arguments]
    script = shell_script(vector)
    if script is not None:
        nodes = [*items_of(container.get("command")), *items_of(container.get("args"))]
        for launch in scalar_launches(text, nodes[vector.index(script)], shape=shape, variables=env):
            yield replace(launch, shape=shape, name=name, **surroundings | {"env": {**env, **launch.env}})
        return
    words = vector_arguments(vector) if command else _of_entrypoint(container, arguments)
    if words is not None:
        yield ManifestLaunch(shape, name, container.line, words, hidden=hidden_in(words), **surroundings)


def surroundings_of(container: Mapping, pod: Mapping, env: Variables[str, str | None]) -> dict[str, Any]:
    """What surrounds the arguments of a container, as fields of `ManifestLaunch`."""
    image, probe = container.get("image"), container.get("startupProbe")
    return {
        "image": text_of(image) or None,
        "image_line": image.line if image else 0,
        "env": env,
        "volumes": tuple(_volumes(container, pod)),
        "startup_seconds": probe_seconds(probe),
        "startup_line": probe.line if probe else 0,
    }


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
    owner = ArgumentList(Form.FLOW if node.flow else Form.BLOCK, node.start, again)
    return [_argument(item, owner, env or {}) for item in node.items]


def _argument(item: Node, owner: ArgumentList, env: Variables[str, str | None]) -> Argument:
    if not isinstance(item, Scalar):
        return Argument("", item.line, item.start, item.stop, None, unknown=True)
    text = _VARIABLE.sub(lambda match: env.get(match[1]) or match[0], item.text)
    return Argument(text, item.line, item.start, item.stop, owner, unknown=bool(_VARIABLE.search(text)))


def hidden_in(words: tuple[Argument, ...]) -> str:
    """Which item of an argument list may stand for other arguments: one that is not text; empty if there is none."""
    return next(("an item that is no text" for word in words if word.owner is None and word.unknown), "")


def environment_of(node: Node | None) -> dict[str, str | None]:
    """Variables by name, from a list of `name` and `value`, or from a mapping, as values of charts may have it."""
    if isinstance(node, Mapping):
        return {name: text_of(value) for name, value in reversed(node.pairs)}
    items = [item for item in items_of(node) if isinstance(item, Mapping)]
    return {text_of(item.get("name")) or "": text_of(item.get("value")) for item in items}


def probe_seconds(probe: Node | None) -> float | None:
    """How long a startupProbe waits before the container is killed, by Kubernetes' defaults; None without one."""
    if not isinstance(probe, Mapping):
        return None
    defaults = {"initialDelaySeconds": 0.0, "periodSeconds": 10.0, "failureThreshold": 3.0}
    seconds = {name: _number(text_of(probe.get(name)), default) for name, default in defaults.items()}
    return seconds["initialDelaySeconds"] + seconds["periodSeconds"] * seconds["failureThreshold"]


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
    if node.style not in {"|", ">"}:
        yield from embedded_launches(node.text, node.line, shape=shape, variables=variables, composed=composed)
        return
    start, folded = text.find("\n", node.start, node.stop) + 1, node.style == ">"
    if has_fences(node.text) and not folded:
        yield from markdown_launches(text, start, node.stop)
    elif start:
        yield from shell_launches(
            text, start, node.stop, folded=folded, shape=shape, variables=variables, composed=composed
        )


def _of_entrypoint(container: Mapping, arguments: list[Argument]) -> tuple[Argument, ...] | None:
    """The arguments of a container without a command, where its image's entrypoint is known to launch vLLM."""
    image = text_of(container.get("image"))
    return tuple(arguments) if image and parse_image(image).serves else None


def _volumes(container: Mapping, pod: Mapping) -> Iterator[Volume]:
    kinds = {}
    for volume in items_of(pod.get("volumes")):
        if isinstance(volume, Mapping):
            kinds[text_of(volume.get("name"))] = next((key for key, _ in volume.pairs if key != "name"), "emptyDir")
    for mount in items_of(container.get("volumeMounts")):
        path = text_of(mount.get("mountPath")) if isinstance(mount, Mapping) else None
        if isinstance(mount, Mapping) and path:
            name = text_of(mount.get("name")) or ""
            yield Volume(path, name, kinds.get(name, ""), mount.line)


def _number(text: str | None, default: float) -> float:
    try:
        return float(text or default)
    except ValueError:
        return default
