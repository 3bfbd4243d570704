"""Launches in Docker Compose files: entrypoint and command of each service, joined as Docker joins them.

Rules of the Compose specification (compose-spec, 05-services.md: `entrypoint`, `command`, `environment`, `env_file`,
`extends`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tuner.manifests.image import parse_image
from tuner.manifests.launch import Argument, ArgumentList, Form, ManifestLaunch
from tuner.manifests.shell.launches import embedded_launches, shell_script, vector_arguments
from tuner.manifests.yaml.compose_service import first_of, is_null, networks_of, pod_of_service
from tuner.manifests.yaml.compose_text import filled, split
from tuner.manifests.yaml.kubernetes import form_of, hidden_in, scalar_launches
from tuner.manifests.yaml.reading import Reading
from tuner.manifests.yaml.source import Mapping, Node, Scalar, Sequence, items_of, text_of

_FROM_FILES = ("VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "HOME")
"""Variables that this tool asks for, and that a file of variables may set."""
_MAX_EXTENDS = 10


@dataclass(frozen=True)
class _Vector:
    """An entrypoint or a command.

    Attributes:
        words: its words.
        nodes: the node of each word; None for a word of a command line.
        texts: each word before variables are filled in.
        hidden: why some words cannot be seen; empty if all are seen.
    """

    words: list[Argument]
    nodes: list[Node | None]
    texts: list[str]
    hidden: str = ""

    def __add__(self, other: "_Vector") -> "_Vector":
        return _Vector(
            self.words + other.words,
            self.nodes + other.nodes,
            self.texts + other.texts,
            self.hidden or other.hidden,
        )


_EMPTY = _Vector([], [], [])


def is_compose(document: Node) -> bool:
    """Whether a document is a Compose file: it has named `services`, and is not a Kubernetes object."""
    if not isinstance(document, Mapping) or document.get("apiVersion") is not None:
        return False
    return isinstance(document.get("services"), Mapping)


def compose_launches(reading: Reading) -> Iterator[ManifestLaunch]:
    """The launches of the services of a Compose file; none for other documents."""
    document = reading.document
    services = document.get("services") if isinstance(document, Mapping) else None
    if not is_compose(document) or not isinstance(document, Mapping) or not isinstance(services, Mapping):
        return
    reading.composed = True
    reading.mark(services, *(node for key, node in document.pairs if key.startswith("x-")))
    networks = networks_of(services)
    for name, service in services.pairs:
        if isinstance(service, Mapping):
            chain, elsewhere = _with_bases(service, services)
            yield from _service_launches(reading, name, chain, networks, elsewhere)


def _with_bases(service: Mapping, services: Mapping) -> tuple[list[Mapping], str]:
    """A service with those of this file that it extends, nearest first; and the file that it extends, if any."""
    chain = [service]
    while len(chain) < _MAX_EXTENDS:
        extended = chain[-1].get("extends")
        file = text_of(extended.get("file")) if isinstance(extended, Mapping) else None
        if file is not None:
            return chain, file
        name = text_of(extended.get("service")) if isinstance(extended, Mapping) else text_of(extended)
        base = services.get(name) if name else None
        if not isinstance(base, Mapping):
            break
        chain.append(base)
    return chain, ""


def _service_launches(
    reading: Reading, name: str, chain: list[Mapping], networks: set[str], elsewhere: str
) -> Iterator[ManifestLaunch]:
    image = first_of(chain, "image")
    env = _environment(chain)
    entrypoint, command = (_vector(reading.text, first_of(chain, key)) for key in ("entrypoint", "command"))
    vector = (entrypoint or _EMPTY) + (command or _EMPTY)
    pod = None if elsewhere else pod_of_service(name, chain, networks, vector.texts, env)
    reading.count(len(vector.words) + (len(pod.volumes) + len(pod.ports) if pod else 0))
    surroundings = ManifestLaunch(
        "compose",
        name,
        chain[0].line,
        (),
        image=filled(text_of(image) or "")[0] or None,
        image_line=image.line if image else 0,
        may_build_image=True,
        env=env,
        pod=pod,
        hidden=vector.hidden or (f"the service of {elsewhere}" if elsewhere else ""),
    )
    script = shell_script(vector.words)
    if script is not None:
        for launch in _script_launches(reading, vector, vector.words.index(script), env):
            hidden = launch.hidden or surroundings.hidden
            own = replace(surroundings, line=launch.line, words=launch.words, hidden=hidden)
            yield replace(own, env={**env, **launch.env})
        return
    words = vector_arguments(vector.words)
    if words is None and entrypoint is None and parse_image(text_of(image) or "").serves:
        words = tuple(vector.words)
        if first_of(chain, "build") is not None:
            surroundings = replace(surroundings, hidden="the entrypoint of an image that is built here")
    if words is not None:
        yield replace(surroundings, words=words, hidden=surroundings.hidden or hidden_in(words))


def _script_launches(
    reading: Reading, vector: _Vector, index: int, env: dict[str, str | None]
) -> Iterator[ManifestLaunch]:
    """The launches in the script at an index of a vector."""
    node = vector.nodes[index]
    if node is not None:
        yield from scalar_launches(reading.text, node, shape="compose", variables=env, composed=True)
    else:
        line = vector.words[index].line
        yield from embedded_launches(vector.texts[index], line, shape="compose", variables=env, composed=True)


def _vector(text: str, node: Node | None) -> _Vector | None:
    """The words of an entrypoint or a command; None if there is none."""
    if isinstance(node, Sequence):
        owner = ArgumentList(form_of(node), node.start)
        words = [_item(item, owner) for item in node.items]
        return _Vector(words, list(node.items), [text_of(item) or "" for item in node.items])
    if isinstance(node, Scalar):
        return _command_line(text, node)
    return None


def _item(item: Node, owner: ArgumentList) -> Argument:
    if not isinstance(item, Scalar):
        return Argument("", item.line, item.start, item.stop, None, unknown=True)
    value, unknown = filled(item.text)
    return Argument(value, item.line, item.start, item.stop, owner, unknown)


def _command_line(text: str, node: Scalar) -> _Vector:
    """The words of a command line, with their places where it is written as it is read."""
    read = split(node.text)
    if read is None:
        return _Vector([], [], [], hidden="a command that Compose cannot split")
    start, stop = _written(text, node)
    written = split(text, start, stop) if start < stop else None
    placed = written is not None and [word.text for word in written] == [word.text for word in read]
    owner = ArgumentList(Form.SHELL, start, plain_yaml=not node.style) if placed else None
    words = []
    line, counted = node.line, node.start
    for word in written if placed and written else read:
        value, unknown = filled(word.text)
        if placed:
            line, counted = line + text.count("\n", counted, word.start), word.start
        words.append(Argument(value, line, word.start, word.stop, owner, unknown))
    hidden = hidden_in(tuple(words), command_line=True)
    return _Vector(words, [None] * len(words), [word.text for word in read], hidden)


def _written(text: str, node: Scalar) -> tuple[int, int]:
    """Where the text of a scalar stands without YAML's own quotes or indicator; an empty place if it is quoted."""
    if node.style in {"|", ">"}:
        return text.find("\n", node.start, node.stop) + 1 or node.stop, node.stop
    return (node.start, node.start) if node.style else (node.start, node.stop)


def _environment(chain: list[Mapping]) -> dict[str, str | None]:
    """The variables of a service; None for a value from outside. A file of variables may set any that is not stated."""
    env: dict[str, str | None] = {}
    if first_of(chain, "env_file") is not None:
        env = dict.fromkeys(_FROM_FILES)
    for service in reversed(chain):
        env |= dict(_variables(service.get("environment")))
    return env


def _variables(node: Node | None) -> Iterator[tuple[str, str | None]]:
    if isinstance(node, Mapping):
        for name, value in reversed(node.pairs):
            stated = isinstance(value, Scalar) and not is_null(value)
            yield name, _stated(text_of(value) or "") if stated else None
    for item in items_of(node):
        name, equals, text = (text_of(item) or "").partition("=")
        yield name, _stated(text) if equals else None


def _stated(text: str) -> str | None:
    """A value without variables from outside; None for one with them."""
    value, unknown = filled(text)
    return None if unknown else value
