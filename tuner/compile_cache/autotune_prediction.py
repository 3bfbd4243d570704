"""Whether a launch would load what FlashInfer's autotune measured for an earlier one. Pure.

A tree is a folder of one hash (`cache.compiled.autotune`). Its name is known from the record of a warm-up that made it,
or is computed (`tuner.compile_cache.autotune_name`); vLLM computes it late, so a computed name that is not there
proves nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cache.compiled.autotune import Rank, TunedFile, cold_ranks, tree_state
from rules.autotune import OFF, Autotune, Keeping, Naming
from tuner.compile_cache.difference import Difference, Effect

NAMED_AT_MOST = 3
"""Factors that a sentence names."""
_PART = "_config"
"""Ends the name of a part of vLLM's config."""
_RELEASE = "vllm"
"""The name of a difference between two releases."""
_ADDED_LATE = {"cache_config.kv_cache_layout", "cache_config.mamba_block_size"}


class TreeAnswer(StrEnum):
    """What the launch would find."""

    HIT = "hit"
    MISS = "miss"
    MIXED = "mixed"
    """Some ranks are warm and others cold."""
    UNKNOWN = "unknown"
    OFF = "off"
    """The launch does not autotune."""


@dataclass(frozen=True)
class Tree:
    """A tree that lies there.

    Attributes:
        path: its folder, as messages and records name it.
        flashinfer: the version of FlashInfer in its path; empty where the path has none.
        name: the hash.
        files: its files.
    """

    path: str
    flashinfer: str
    name: str
    files: tuple[TunedFile, ...]


@dataclass(frozen=True)
class TreeLaunch:
    """What decides which tree a launch would load.

    Attributes:
        vllm: its release, as it is named.
        span: what that release does; None: it was not read.
        on: the arguments let autotune run.
        flashinfer: the version of the installed FlashInfer; None: there is none.
        has_store: that FlashInfer can keep results by itself.
        ranks: of each replica; None: not known.
        stages: of the pipeline.
        spread: some of its ranks may run on other nodes.
        name: of its tree, computed; None: it cannot be.
        mega: its artifacts hold Inductor's code, and its key Inductor's factors.
        present: what FlashInfer would write down of it, as far as that is known.
        writable: it may write into its cache root.
    """

    vllm: str
    span: Autotune | None
    on: bool
    flashinfer: str | None
    has_store: bool
    ranks: int | None
    stages: int
    spread: bool
    name: str | None
    mega: bool
    present: Mapping[str, Any]
    writable: bool


@dataclass(frozen=True)
class TreePrediction:
    """The answer, the tree it is about, and why.

    Attributes:
        answer: what the launch would find.
        path: the tree's folder; empty if there is none.
        name: the computed name; None if it cannot be computed.
        reasons: whole sentences.
        advice: what to do, a sentence; empty where nothing needs to be done.
    """

    answer: TreeAnswer
    path: str
    name: str | None
    reasons: tuple[str, ...]
    advice: str


_STARTS_FASTER = (
    f"Where starts must be fast, give {OFF}: nothing is measured, and FlashInfer chooses kernels by rules of thumb, "
    "which may make each step slower."
)
_MEND = "Remove this folder, so that all ranks tune again once, or copy the files of all ranks into it."
_MAY_HANG = (
    "With several ranks vLLM 0.27.0 to 0.31.0 may hang at a start that finds a warm tree (vllm pull request 54618): "
    f"remove the tree before each start, or give {OFF}."
)
_ALL_WARM = "All ranks find their kernels in the tree of this launch."
_ONE_FILE = "The tree is there. All ranks load one file, and whether each finds its own kernels in it is not known."
_UNCOMPARED = "The versions of cuBLAS and cuDNN were not compared: FlashInfer refuses the tree if they differ."


def predict_tree(
    launch: TreeLaunch, trees: Sequence[Tree], recorded: Sequence[str], differences: Sequence[Difference] | None
) -> TreePrediction:
    """Judge a launch.

    Args:
        launch: what is known of it.
        trees: those that lie where it looks.
        recorded: paths of the trees that the warm-up with which it is compared has made.
        differences: from that warm-up; None: there is none, or they are not known.
    """
    if early := _without_tree(launch):
        return early
    fitting = [tree for tree in trees if tree.flashinfer in {"", launch.flashinfer}]
    if not fitting:
        return _miss(launch, _no_tree(launch, trees))
    own = next((tree for tree in fitting if tree.path in recorded), None)
    if own is not None and differences is not None and _comparable(launch, differences):
        return _recorded(launch, own, differences)
    computed = next((tree for tree in fitting if tree.name == launch.name), None)
    return _loaded(launch, computed) if computed else _unseen(launch, len(fitting))


def _recorded(launch: TreeLaunch, tree: Tree, differences: Sequence[Difference]) -> TreePrediction:
    """The answer where the warm-up has left a tree."""
    moving = [difference.name for difference in differences if _moves(launch, difference)]
    if moving:
        return _miss(launch, f"The warm-up's tree has another name, which {_listed(moving)} moved.")
    return _loaded(launch, tree)


def _naming(launch: TreeLaunch) -> Naming | None:
    return launch.span.naming if launch.span else None


def _comparable(launch: TreeLaunch, differences: Sequence[Difference]) -> bool:
    """Whether all that names the tree was compared: of two releases the configs are not."""
    if _naming(launch) is Naming.FACTORS:
        return True
    return all(difference.name != _RELEASE for difference in differences)


def _moves(launch: TreeLaunch, difference: Difference) -> bool:
    """Whether a difference moves the name of the tree."""
    if difference.effect is not Effect.KEY:
        return False
    if difference.kind in {"config", "path"}:
        late = _naming(launch) is Naming.LATE_CONFIG and difference.name in _ADDED_LATE
        return difference.name.partition(".")[0].endswith(_PART) and not late
    if _naming(launch) is not Naming.FACTORS:
        return False
    if difference.kind == "compiler":
        return launch.mega or difference.name == _RELEASE
    return difference.kind in {"variable", "home"}


def _without_tree(launch: TreeLaunch) -> TreePrediction | None:
    """The answer where no tree is looked for."""
    if not launch.on:
        return _answer(launch, TreeAnswer.OFF, "This launch switches FlashInfer's autotune off.")
    if launch.flashinfer is None:
        return _answer(launch, TreeAnswer.OFF, "FlashInfer is not installed: there is nothing to measure.")
    if launch.span is None:
        reason = f"What vLLM {launch.vllm} keeps of FlashInfer's autotune was not read."
        return _answer(launch, TreeAnswer.UNKNOWN, reason)
    return _of_release(launch, launch.span)


def _of_release(launch: TreeLaunch, span: Autotune) -> TreePrediction | None:
    """The answer where this release keeps no tree of such a launch."""
    if span.keeping is Keeping.NOWHERE:
        return _miss(launch, f"vLLM {launch.vllm} keeps nothing of FlashInfer's autotune: each start measures again.")
    if span.own_store and launch.has_store and launch.ranks == 1:
        reason = "With one rank this FlashInfer keeps what it measured in a store of its own, which is not looked at."
        return _answer(launch, TreeAnswer.UNKNOWN, reason)
    if span.keeping is Keeping.ONE_RANK and launch.ranks not in {1, None}:
        reason = f"vLLM {launch.vllm} keeps what FlashInfer measured of launches with one rank alone."
        return _miss(launch, reason)
    return None


def _no_tree(launch: TreeLaunch, trees: Sequence[Tree]) -> str:
    others = sorted({f"{tree.flashinfer:.40}" for tree in trees})
    there = f" (those there are of {_listed(others)})" if others else ""
    reason = f"There is no tree of FlashInfer {launch.flashinfer} where this launch looks{there}"
    return f"{reason}. It measures anew if its GPU has compute capability 9.0 or more."


def _unseen(launch: TreeLaunch, count: int) -> TreePrediction:
    """The answer where trees are there, and none is known to be the launch's."""
    if launch.name is None:
        reason = "The name of this launch's tree cannot be computed here, and no warm-up that made one is on record."
    else:
        reason = (
            f"Of {count} trees there none has the name that was computed. vLLM computes it late, "
            "when it has made the KV cache, and may come to another one."
        )
    return _answer(launch, TreeAnswer.UNKNOWN, reason)


def _loaded(launch: TreeLaunch, tree: Tree) -> TreePrediction:
    """The answer where a tree has the launch's name."""
    ranked = [file for file in tree.files if file.rank is not None]
    if launch.span is not None and launch.span.keeping is not Keeping.RANKED:
        return _shared(launch, tree)
    if not ranked:
        return _miss(launch, "The tree has no file of a rank: another release wrote it.", tree)
    if fault := _mixed(launch, ranked):
        reason = f"Some ranks of the tree are warm and others cold: {fault}."
        return _answer(launch, TreeAnswer.MIXED, reason, "So all ranks measure again.", tree=tree, advice=_MEND)
    return _compared(launch, tree, ranked[0])


def _shared(launch: TreeLaunch, tree: Tree) -> TreePrediction:
    shared = next((file for file in tree.files if file.rank is None), None)
    if shared is None:
        return _miss(launch, "The tree has no file that all ranks share: another release wrote it.", tree)
    if not shared.readable:
        return _answer(launch, TreeAnswer.UNKNOWN, f"{shared.name} cannot be read.", tree=tree)
    if shared.kernels is None:
        return _answer(launch, TreeAnswer.MISS, f"{shared.name} is damaged.", tree=tree, advice=_MEND)
    return _compared(launch, tree, shared)


def _mixed(launch: TreeLaunch, files: Sequence[TunedFile]) -> str:
    """Which rank is cold beside warm ones; empty if none is known to be."""
    state = tree_state(files)
    if state.whole is False:
        return state.why
    if launch.ranks and not launch.spread:
        cold = cold_ranks(files, launch.ranks)
        if cold:
            return f"{cold[0]} is cold"
    return next(_uneven(launch, files), "")


def _uneven(launch: TreeLaunch, files: Sequence[TunedFile]) -> Iterator[str]:
    """Ranks of one stage of the pipeline that have different numbers of kernels."""
    stage = (launch.ranks or len(files)) // launch.stages or 1
    first: dict[tuple[int, int], tuple[Rank, int]] = {}
    for file in files:
        if file.rank is None or file.kernels is None:
            continue
        rank, kernels = first.setdefault((file.rank.replica, file.rank.number // stage), (file.rank, file.kernels))
        if kernels != file.kernels:
            yield f"{rank} has {kernels} kernels, and {file.rank} has {file.kernels}"


def _compared(launch: TreeLaunch, tree: Tree, file: TunedFile) -> TreePrediction:
    """The answer where every rank has its file; FlashInfer itself compares where it was made."""
    for name, value in launch.present.items():
        before = file.metadata.get(name)
        if before not in (value, "*"):  # a tuple, as what stands there may not be hashable
            reason = f"FlashInfer refuses the tree: {name} is {value} here, and was {before!s:.80}."
            advice = "Remove this folder: FlashInfer does not write over what another environment made."
            return _answer(launch, TreeAnswer.MISS, reason, tree=tree, advice=advice)
    if launch.span is not None and launch.span.keeping is Keeping.SHARED and launch.ranks != 1:
        return _answer(launch, TreeAnswer.UNKNOWN, _ONE_FILE, _UNCOMPARED, tree=tree, advice=_MAY_HANG)
    return _answer(launch, TreeAnswer.HIT, _ALL_WARM, _UNCOMPARED, tree=tree)


def _miss(launch: TreeLaunch, reason: str, tree: Tree | None = None) -> TreePrediction:
    """A miss; where the next start would miss, too, the advice is to do without."""
    reasons = [reason]
    if not launch.writable:
        reasons.append("What it measures cannot stay either: this user cannot write into the folder.")
    has_option = launch.span is not None and launch.span.has_option
    advice = _STARTS_FASTER if has_option and not _stays(launch) else ""
    return _answer(launch, TreeAnswer.MISS, *reasons, tree=tree, advice=advice)


def _stays(launch: TreeLaunch) -> bool:
    """Whether the next start would find what this one measures."""
    keeping = launch.span.keeping if launch.span else Keeping.NOWHERE
    if keeping is Keeping.ONE_RANK:
        return launch.writable and launch.ranks == 1
    return launch.writable and keeping is not Keeping.NOWHERE


def _answer(
    launch: TreeLaunch, answer: TreeAnswer, *reasons: str, tree: Tree | None = None, advice: str = ""
) -> TreePrediction:
    return TreePrediction(answer, tree.path if tree else "", launch.name, reasons, advice)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED_AT_MOST} more" if len(names) > NAMED_AT_MOST else ""
    return f"{', '.join(names[:NAMED_AT_MOST])}{more}"
