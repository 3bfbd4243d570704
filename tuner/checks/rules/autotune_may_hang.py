"""A tree of FlashInfer's autotune that stays, in a release whose ranks may wait for each other when they find it."""

from collections.abc import Iterator

from rules.autotune import OFF, Keeping, autotune_of
from tuner.arguments.autotune import measuring_ranks
from tuner.checks.cache_place import volume_of
from tuner.checks.examine import Examined
from tuner.checks.rules.rule import Problem, Rule, Severity
from tuner.checks.rules.surroundings import are_known, keeps_a_tree, tree_folder

_SIZES = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def _problems(examined: Examined) -> Iterator[Problem]:
    span, pod, folder = autotune_of(examined.version), examined.launch.pod, tree_folder(examined)
    if span is None or span.keeping is not Keeping.SHARED or pod is None or folder is None:
        return
    if not keeps_a_tree(examined) or not _has_ranks(examined):
        return
    volume = volume_of(folder, pod)
    if volume is None or volume.read_only:
        return
    hangs = f"vLLM {examined.version} with several ranks may hang at a start that finds what FlashInfer measured before"
    cure = f"Give {OFF}, or empty {folder} before each start"
    yield Problem(f"{hangs} (vllm pull request 54618). {cure}.", volume.line)


def _has_ranks(examined: Examined) -> bool:
    """Whether the launch surely has several ranks that measure together."""
    if examined.arguments is None or not are_known(examined, *_SIZES):
        return False
    return measuring_ranks(examined.arguments) > 1


RULE = Rule(
    "autotune-may-hang",
    Severity.NOTE,
    "With several ranks this vLLM may hang at a start that finds what FlashInfer's autotune measured before.",
    of_launch=_problems,
    names_basis=False,
)
