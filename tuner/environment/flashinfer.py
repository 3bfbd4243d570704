"""The FlashInfer of a serving environment, read from its files."""

from collections.abc import Iterable

from msgspec import Struct

from tuner.environment.distributions import installed, module_folder, module_text, stated_version

_PACKAGE = "flashinfer-python"


class FlashInfer(Struct, frozen=True):
    """An installed FlashInfer.

    Attributes:
        version: as its metadata states it.
        has_store: it can keep the results of autotune by itself: its module has what
            `has_flashinfer_autotune_v2` looks for (vllm/utils/flashinfer.py, 0.33.0).
    """

    version: str
    has_store: bool


def flashinfer_of(site: Iterable[str]) -> FlashInfer | None:
    """The FlashInfer that an interpreter imports; None if there is none, or if nothing states its version.

    Args:
        site: the interpreter's site folders, in search order.
    """
    folders = list(site)
    for package in installed(folders).get(_PACKAGE, ()):
        if stated := stated_version(package):
            text = module_text(module_folder(folders, "flashinfer"), "__init__.py")
            return FlashInfer(stated.version, "autotune_v2_reload" in text)
    return None
