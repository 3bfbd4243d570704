"""What decides whether FlashInfer's autotune would measure again: the launch, and the trees where it looks."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cache.compiled.autotune import FOLDER, ranks_of, tuned_files
from cache.compiled.entry import EntryKind
from cache.compiled.files import list_items
from cache.compiled.layout import content_of
from rules.autotune import Keeping, autotune_of
from rules.errors import ErrorKind, TunerError
from tuner.arguments.autotune import autotune_is_on, measuring_ranks
from tuner.arguments.serve_arguments import ServeArguments, parse
from tuner.arguments.vllm_options import option_names
from tuner.compile_cache.autotune_name import autotune_name
from tuner.compile_cache.autotune_prediction import Tree, TreeLaunch
from tuner.compile_cache.prune import opened_root
from tuner.environment.environment import Environment
from tuner.environment.flashinfer import flashinfer_of
from tuner.launch.plan import Plan

OWN_FOLDER = "VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR"
"""The folder of the trees, in place of one below the cache root (vllm/envs.py, 0.22.0 to 0.33.0)."""
FLASHINFER_PLATFORM = "cuda"
"""The platform on which vLLM uses FlashInfer."""
_NAME = re.compile(r"[0-9a-f]{64}")
_SPREADING = {"--nnodes", "-n", "--distributed-executor-backend"}
"""Options with which ranks may run on other nodes."""


@dataclass(frozen=True)
class TreePlace:
    """Where a launch looks for its tree, and the trees that lie there."""

    folder: Path
    trees: tuple[Tree, ...]


def tree_place(root: Path, variables: Mapping[str, str]) -> TreePlace:
    """Where a launch with these variables and this cache root looks.

    Raises:
        TunerError: kind `cache`: the folder cannot be read.
    """
    named = variables.get(OWN_FOLDER)
    if not named:
        return TreePlace(root, tuple(_trees_below(root)))
    folder = Path(named).expanduser()  # as vLLM does
    return TreePlace(folder, tuple(_trees_in(folder)))


def tree_launch(plan: Plan, factors: Mapping[str, Any], folder: Path) -> TreeLaunch:
    """What decides which tree a launch would load.

    Args:
        plan: the launch.
        factors: its document of factors.
        folder: where it looks.
    """
    system = factors["system"]
    arguments = parse(plan.launch.args, vllm=system["vllm"])
    flashinfer = flashinfer_of(plan.subject.environment.site)
    version = flashinfer.version if flashinfer else None
    present = {"flashinfer_version": version, "gpu": system["gpu"], "cuda_version": system["inductor"].get("cuda")}
    return TreeLaunch(
        vllm=system["vllm"],
        span=autotune_of(system["vllm"]),
        on=autotune_is_on(arguments),
        flashinfer=version,
        has_store=flashinfer is not None and flashinfer.has_store,
        ranks=ranks_of(factors),
        stages=max(arguments.serving.pipeline_parallel_size, 1),
        spread=_is_spread(arguments),
        name=autotune_name(factors),
        mega=factors["compiles"]["mega"],
        present={name: value for name, value in present.items() if value is not None},
        writable=_is_writable(folder),
    )


def second_start_may_hang(environment: Environment, arguments: ServeArguments) -> bool:
    """Whether a start that finds what an earlier one measured may hang: see docs/evidence/autotune.md.

    Args:
        environment: where it serves.
        arguments: of the launch, read.
    """
    span = autotune_of(environment.vllm)
    if span is None or span.keeping is not Keeping.SHARED or measuring_ranks(arguments) == 1:
        return False
    runs = environment.platform == FLASHINFER_PLATFORM and autotune_is_on(arguments)
    return runs and flashinfer_of(environment.site) is not None


def _is_spread(arguments: ServeArguments) -> bool:
    return not option_names(arguments.effective).isdisjoint(_SPREADING)


def _is_writable(folder: Path) -> bool:
    """Whether this user may write into a folder, or make it."""
    for place in (folder, *folder.absolute().parents):
        if place.exists():
            return os.access(place, os.W_OK)
    return False


def _trees_below(root: Path) -> list[Tree]:
    """The trees below a cache root."""
    if not root.is_dir():
        return []
    cache, trees = opened_root(str(root), {}), []
    for entry in cache.entries:
        if entry.kind is EntryKind.AUTOTUNE:
            files = tuned_files(entry.path, entry.items, partial(content_of, cache.path))
            version = entry.path.removeprefix(f"{FOLDER}/").partition("/")[0]
            trees.append(Tree(entry.path, version, entry.name, tuple(files)))
    return trees


def _trees_in(folder: Path) -> list[Tree]:
    """The trees of a folder that holds nothing else, named by their hash alone."""
    if not folder.is_dir():
        return []
    try:
        items = list_items(folder).items
    except OSError as error:
        hint = f"It is the value of {OWN_FOLDER}. Run this as the user who serves."
        message = f"The folder {folder} cannot be read: {error.strerror}."
        raise TunerError(message, hint=hint, kind=ErrorKind.CACHE) from None
    names = [item.path for item in items if item.is_folder and _NAME.fullmatch(item.path)]
    return [Tree(name, "", name, tuple(tuned_files(name, items, partial(content_of, folder)))) for name in names]
