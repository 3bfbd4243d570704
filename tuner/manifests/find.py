"""The vLLM launches in one file, whatever kind of manifest it is."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import PurePath

from tuner.manifests.docker import dockerfile_launches
from tuner.manifests.excerpt import placed
from tuner.manifests.files import (
    CONFIG_SUFFIXES,
    MARKDOWN_SUFFIXES,
    RESTRUCTURED_SUFFIXES,
    UNIT_SUFFIXES,
    is_dockerfile,
    is_yaml,
)
from tuner.manifests.launch import ManifestLaunch
from tuner.manifests.markdown import (
    YAML_LANGUAGES,
    Block,
    excerpt_of,
    fences,
    indented_blocks,
    language_of,
    shell_launches_in,
)
from tuner.manifests.own_command import exported_launches
from tuner.manifests.restructured import restructured_blocks
from tuner.manifests.shell.launches import shell_launches
from tuner.manifests.template import with_unknown_values
from tuner.manifests.unit import unit_launches
from tuner.manifests.yaml.launches import yaml_launches

_OTHER_BLOCKS: dict[str, Callable[[str], Iterator[ManifestLaunch]]] = {
    "dockerfile": dockerfile_launches,
    "docker": dockerfile_launches,
    "containerfile": dockerfile_launches,
    "systemd": unit_launches,
    "service": unit_launches,
    "unit": unit_launches,
    "ini": unit_launches,
}
"""How blocks of other languages than YAML and shell text are read."""
_UNIT_SECTION = re.compile(r"^[ \t]*\[(?:Service|Container)\]", re.MULTILINE)


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
    if is_yaml(name):
        launches = yaml_launches(text)
    elif suffix in MARKDOWN_SUFFIXES:
        launches = _in_blocks(text, chain(fences(text), indented_blocks(text)), shape="Markdown")
    elif suffix in RESTRUCTURED_SUFFIXES:
        launches = _in_blocks(text, restructured_blocks(text), shape="reStructuredText")
    elif suffix in UNIT_SUFFIXES or (suffix in CONFIG_SUFFIXES and _UNIT_SECTION.search(text)):
        launches = unit_launches(text)
    elif is_dockerfile(name):
        launches = dockerfile_launches(text)
    else:
        launches = chain(shell_launches(text), exported_launches(text))
    return sorted(map(with_unknown_values, launches), key=lambda launch: launch.line)


def _in_blocks(text: str, blocks: Iterable[Block], *, shape: str) -> Iterator[ManifestLaunch]:
    """The launches in the blocks of a document: of shell text, and of whole manifests."""
    for block in blocks:
        yield from _in_block(text, block, shape)


def _in_block(text: str, block: Block, shape: str) -> Iterator[ManifestLaunch]:
    """The launches in one block. A block that is not what its language says has none."""
    yield from shell_launches_in(text, block, shape=shape)
    excerpt = excerpt_of(text, block)
    language = language_of(block, excerpt.text)
    other = _OTHER_BLOCKS.get(language)
    if other is not None:
        yield from placed(other(excerpt.text), excerpt)
    elif language in YAML_LANGUAGES:
        try:
            yield from list(yaml_launches(text, excerpt))
        except ValueError:  # documents leave out parts that their readers fill in
            return
