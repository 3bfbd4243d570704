"""What each vLLM release keeps of FlashInfer's autotune, and what the name of the folder is made of. Pure.

Read in `flashinfer_autotune` of vllm/model_executor/warmup/kernel_warmup.py and, from 0.24.0 on, in
flashinfer_autotune_cache.py beside it, in each release of `rules.compile_variables.RELEASES`.
"""

from dataclasses import dataclass
from enum import StrEnum

from rules.compile_variables import RELEASES
from rules.releases import named_release, numbers_of

OFF = "--no-enable-flashinfer-autotune"
"""The option that switches autotune off."""


class Keeping(StrEnum):
    """Where the result of a start goes."""

    NOWHERE = "nowhere"
    """Each start measures again."""
    ONE_RANK = "one rank"
    """One file, of launches with one rank alone."""
    SHARED = "shared"
    """One file, which rank 0 writes and sends to all ranks."""
    RANKED = "ranked"
    """One file a rank."""


class Naming(StrEnum):
    """What the name of the folder is the SHA-256 of."""

    FACTORS = "factors"
    """Variables, config and release, and Inductor's factors where artifacts are mega."""
    CONFIG = "config"
    """The hash of the config without the release."""
    LATE_CONFIG = "late config"
    """The same without what the KV cache adds to it."""


@dataclass(frozen=True)
class Autotune:
    """A run of releases.

    Attributes:
        since: the first one, `major.minor`.
        has_option: `--enable-flashinfer-autotune` exists.
        keeping: where the result goes.
        naming: what names the folder; None where nothing is kept.
        own_store: with one rank, a FlashInfer that has `autotune_v2` keeps the result itself, elsewhere
            (`use_flashinfer_autotune_v2`).
    """

    since: tuple[int, int]
    has_option: bool
    keeping: Keeping
    naming: Naming | None = None
    own_store: bool = False


SPANS = (
    Autotune((0, 14), has_option=False, keeping=Keeping.NOWHERE),
    Autotune((0, 16), has_option=True, keeping=Keeping.NOWHERE),
    Autotune((0, 25), has_option=True, keeping=Keeping.ONE_RANK, naming=Naming.FACTORS),
    Autotune((0, 27), has_option=True, keeping=Keeping.SHARED, naming=Naming.FACTORS),
    Autotune((0, 30), has_option=True, keeping=Keeping.SHARED, naming=Naming.CONFIG),
    Autotune((0, 32), has_option=True, keeping=Keeping.RANKED, naming=Naming.LATE_CONFIG),
    Autotune((0, 33), has_option=True, keeping=Keeping.RANKED, naming=Naming.LATE_CONFIG, own_store=True),
)
"""Oldest first. 0.22.0 to 0.24.0 have the code that writes the tree, and a constant that keeps it from running."""


def autotune_of(vllm: str | None) -> Autotune | None:
    """What a release does; None for one that was not read."""
    version = named_release(vllm)
    if version is None or version.preview or version.release not in map(numbers_of, RELEASES):
        return None
    fitting = [span for span in SPANS if span.since <= version.release[:2]]
    return fitting[-1]
