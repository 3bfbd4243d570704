"""The vLLM launches in one file, whatever kind of manifest it is."""

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import PurePath

from tuner.manifests.docker import dockerfile_launches
from tuner.manifests.excerpt import placed
from tuner.manifests.files import MARKDOWN_SUFFIXES, YAML_SUFFIXES, is_dockerfile
from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.markdown import Fence, excerpt_of, fences, markdown_launches
from tuner.manifests.own_command import exported_launches
from tuner.manifests.shell import shell_launches
from tuner.manifests.unit import unit_launches
from tuner.manifests.yaml_launches import yaml_launches

_YAML_FENCES = frozenset({"yaml", "yml"})
_OTHER_FENCES: dict[str, Callable[[str], Iterator[ManifestLaunch]]] = {
    "dockerfile": dockerfile_launches,
    "docker": dockerfile_launches,
    "containerfile": dockerfile_launches,
    "systemd": unit_launches,
    "service": unit_launches,
    "unit": unit_launches,
    "ini": unit_launches,
}
"""How blocks of other languages than YAML and shell text are read."""
_UNIT_SUFFIXES = frozenset({".service", ".container"})


def launches_in(name: str, text: str) -> list[ManifestLaunch]:
    """Every launch in a file, in the order of its lines.

    A file whose name is not that of another kind is read as shell text.

    Args:
        name: the file's name, which decides how it is read.
        text: its content.

    Raises:
        ValueError: the name says YAML, and the text is not YAML; the message says where.
    """
    suffix = PurePath(name).suffix
    if suffix in YAML_SUFFIXES or suffix == ".json":
        launches = yaml_launches(text)
    elif suffix in MARKDOWN_SUFFIXES:
        launches = _in_markdown(text)
    elif suffix in _UNIT_SUFFIXES:
        launches = unit_launches(text)
    elif is_dockerfile(name):
        launches = dockerfile_launches(text)
    else:
        launches = chain(shell_launches(text), exported_launches(text))
    return sorted(launches, key=lambda launch: launch.line)


def _in_markdown(text: str) -> Iterator[ManifestLaunch]:
    """The launches in fenced blocks: of shell text, and of whole manifests."""
    yield from markdown_launches(text)
    for fence in fences(text):
        yield from _in_fence(text, fence)


def _in_fence(text: str, fence: Fence) -> Iterator[ManifestLaunch]:
    """The launches of a manifest in a block. A block that is not what its language says has none."""
    excerpt = excerpt_of(text, fence)
    other = _OTHER_FENCES.get(fence.language)
    if other is not None:
        yield from placed(other(excerpt.text), excerpt)
    elif fence.language in _YAML_FENCES:
        try:
            yield from list(yaml_launches(text, excerpt))
        except ValueError:  # documents leave out parts that their readers fill in
            return
