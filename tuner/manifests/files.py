"""Which files are manifests, by their names."""

from pathlib import PurePath

YAML_SUFFIXES = frozenset({".yaml", ".yml"})
SHELL_SUFFIXES = frozenset({".sh", ".bash"})
MARKDOWN_SUFFIXES = frozenset({".md", ".markdown"})


def is_manifest(name: str) -> bool:
    """Whether a file of this name is looked into when its folder is."""
    return is_dockerfile(name) or PurePath(name).suffix in YAML_SUFFIXES | SHELL_SUFFIXES | MARKDOWN_SUFFIXES


def is_dockerfile(name: str) -> bool:
    """Whether a file of this name is a Dockerfile."""
    base = PurePath(name).name.lower()
    return base.startswith(("dockerfile", "containerfile")) or base.endswith((".dockerfile", ".containerfile"))
