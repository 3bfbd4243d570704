"""Launches in test configurations in vllm-ascend's manner: `server_cmd` as a command line or as a list of options."""

from collections.abc import Iterator
from dataclasses import replace

from tuner.manifests.kubernetes import environment_of, scalar_launches, words_of
from tuner.manifests.launch import ManifestLaunch, Word
from tuner.manifests.shell import hides_arguments, vector_arguments
from tuner.manifests.yaml_source import Mapping, Node, Scalar, text_of, walk

_KEYS = ("server_cmd", "server_cmd_template")


def server_cmd_launches(text: str, document: Node) -> Iterator[ManifestLaunch]:
    """One launch for each mapping with a `server_cmd` or `server_cmd_template`.

    The model is that of the mapping, else of the whole document; `server_cmd_extra` is put behind.
    """
    whole = document.get("model") if isinstance(document, Mapping) else None
    for node in walk(document):
        key = next((key for key in _KEYS if isinstance(node, Mapping) and node.get(key) is not None), None)
        if key is not None and isinstance(node, Mapping):
            yield from _launches(text, node, key, node.get("model") or whole)


def _launches(text: str, case: Mapping, key: str, model: Node | None) -> Iterator[ManifestLaunch]:
    command = case.get(key)
    env = environment_of(case.get("envs"))
    name = text_of(case.get("name")) or ""
    if isinstance(command, Scalar):
        for found in scalar_launches(text, command, shape=key, variables=env):
            yield replace(found, name=name, env={**env, **found.env})
        return
    listed = [*words_of(command), *words_of(case.get("server_cmd_extra"))]
    words = [replace(word, unknown=word.unknown or "$" in word.text) for word in listed]
    given = vector_arguments(words)
    named = [Word(text_of(model) or "", model.line)] if model is not None and given is None else []
    arguments = (*named, *(words if given is None else given))
    whole = [word.unknown and word.text.startswith("$") for word in arguments]
    yield ManifestLaunch(key, name, case.line, arguments, env=env, hidden=hides_arguments(arguments, whole))
