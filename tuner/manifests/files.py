"""Which files are looked into, by their names, and where a folder has them."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePath

YAML_SUFFIXES = frozenset({".yaml", ".yml"})
SHELL_SUFFIXES = frozenset({".sh", ".bash", ".sbatch", ".slurm"})
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown", ".mdx", ".qmd"})
RESTRUCTURED_SUFFIXES = frozenset({".rst"})
UNIT_SUFFIXES = frozenset({".service", ".container"})
"""Units of systemd, and Podman's Quadlets."""
CONFIG_SUFFIXES = frozenset({".conf"})
"""Drop-ins for units of systemd, and the files of other programs that start programs, such as supervisord's."""
WINDOWS_SUFFIXES = frozenset({".bat", ".cmd", ".ps1"})
"""Scripts of Windows, which quotes and continues lines otherwise than a shell."""
SCANNED_SUFFIXES = frozenset({".py", ".ipynb", ".tf", ".hcl", ".toml", ".j2"}) | WINDOWS_SUFFIXES
"""No launch is read from these; a place in them that starts vLLM is named."""
RECIPE_NAMES = frozenset({"makefile", "gnumakefile", "justfile", ".justfile", "procfile"})
"""Names of files that hold commands for make, just and foreman, in small letters; they are searched as well."""
_DOCUMENT_SUFFIXES = MARKDOWN_SUFFIXES | RESTRUCTURED_SUFFIXES
_PROGRAM_SUFFIXES = SHELL_SUFFIXES | UNIT_SUFFIXES | CONFIG_SUFFIXES
_SUFFIXES = YAML_SUFFIXES | _PROGRAM_SUFFIXES | _DOCUMENT_SUFFIXES | SCANNED_SUFFIXES
_SKIPPED_FOLDERS = frozenset({".git", "node_modules", ".venv", "__pycache__"})


def is_manifest(name: str) -> bool:
    """Whether a file of this name is looked into when its folder is."""
    return is_dockerfile(name) or is_recipe(name) or PurePath(name).suffix in _SUFFIXES


def is_dockerfile(name: str) -> bool:
    """Whether a file of this name is a Dockerfile."""
    base = PurePath(name).name.lower()
    return base.startswith(("dockerfile", "containerfile")) or base.endswith((".dockerfile", ".containerfile"))


def is_recipe(name: str) -> bool:
    """Whether a file of this name is of those whose commands are searched."""
    return PurePath(name).name.lower() in RECIPE_NAMES


def is_yaml(name: str) -> bool:
    """Whether a file of this name holds YAML, or JSON, which is read in the same way."""
    return PurePath(name).suffix in {*YAML_SUFFIXES, ".json"}


def is_read(name: str) -> bool:
    """Whether launches are read from a file of this name; others are only searched for places that start vLLM."""
    return not is_recipe(name) and PurePath(name).suffix not in SCANNED_SUFFIXES


def files_below(folder: Path) -> Iterator[Path]:
    """The files below a folder that are looked into: by their names, and scripts that say so in their first line.

    A pipe or a device with such a name is among them, so that whoever reads it can say why it is not read.
    """
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - _SKIPPED_FOLDERS)
        for name in sorted(names):
            if is_manifest(name) or ("." not in name and _is_script(Path(here, name))):
                yield Path(here, name)


def _is_script(path: Path) -> bool:
    """Whether the first line of a regular file names a shell."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            first = file.readline(200)
    except OSError:
        return False
    return first.startswith(b"#!") and b"sh" in first.rpartition(b"/")[2]
