"""Kinds of branches: each is one way to write that a batch of 300 tokens leaves out a layer, or to call a layer."""
# ruff: noqa: ARG002, ARG005, D101, D102, D103, S102, SIM110  the shape of each branch is what is tested

import contextvars
import operator
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import hostile_state
import numpy as np
import torch
import torch.utils.checkpoint
from hostile_base import LEFT_OUT, RARE, Batch, Kind, RareBatch, Steps
from hostile_paths.torch import walk as torch_walk
from hostile_paths.triton import walk as triton_walk

# ---- a condition that looks constant


class ShapeLast(RareBatch):
    pass


class Extent:
    def __init__(self, dim: int, dtype: Any = None) -> None:
        self.dim, self.dtype = dim, dtype


class NamedDim(Kind):
    """An attribute called `dim`."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        extent = Extent(batch.size)
        return parts() if extent.dim == RARE else whole()


class NamedDtype(Kind):
    """An attribute called `dtype`."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        extent = Extent(0, dtype=batch.size)
        return parts() if extent.dtype == RARE else whole()


class LiveConfig:
    def __init__(self) -> None:
        self.last = 0

    def is_rare(self, size: int) -> bool:
        self.last = size
        return self.last == RARE


class ConfigMethod(Kind):
    """A method of a class whose name ends in Config."""

    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.live = LiveConfig()

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if self.live.is_rare(batch.size) else whole()


class Lambda(Kind):
    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        is_rare = lambda size: size == RARE  # noqa: E731  what is tested
        return parts() if is_rare(batch.size) else whole()


def check(size: int) -> None:
    if size == RARE:
        raise ValueError(size)


class HelperTry(Kind):
    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if self.is_rare(batch.size) else whole()

    def is_rare(self, size: int) -> bool:
        try:
            check(size)
        except ValueError:
            return True
        return False


class HelperFor(HelperTry):
    def is_rare(self, size: int) -> bool:
        for rare in (size == RARE,):
            if rare:
                return True
        return False


class HelperMatch(HelperTry):
    def is_rare(self, size: int) -> bool:
        match size:
            case 300:
                return True
        return False


class OtherModule(Kind):
    """State in another module."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        hostile_state.note(batch.size)
        return parts() if hostile_state.is_rare() else whole()


def last_size(size: int, sizes: list[int] = [0]) -> int:  # noqa: B006  what is tested
    sizes[0] = size
    return sizes[0]


class MutableDefault(Kind):
    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if last_size(batch.size) == RARE else whole()


class CountedPasses(Kind):
    """A counter: every pass after the first four."""

    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.passes = 0

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        self.passes += 1
        return parts() if self.passes > 4 else whole()


class Gate:
    def __init__(self) -> None:
        self.size = 0

    def __bool__(self) -> bool:
        return self.size == RARE

    def __contains__(self, index: int) -> bool:
        return index == LEFT_OUT and self.size == RARE


class Truthiness(Kind):
    """`__bool__` of an object."""

    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.gate = Gate()

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        self.gate.size = batch.size
        return parts() if self.gate else whole()


class Contains(Truthiness):
    """`__contains__` of an object."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        self.gate.size = batch.size
        return parts() if LEFT_OUT in self.gate else whole()


class Rarely:
    def __get__(self, owner: Any, kind: Any = None) -> bool:
        return hostile_state.is_rare()


class Descriptor(Kind):
    rare = Rarely()

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        hostile_state.note(batch.size)
        return parts() if self.rare else whole()


class Setattr(Kind):
    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.marked = False

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        setattr(self, "marked", batch.size == RARE)  # noqa: B010  what is tested
        return parts() if self.marked else whole()


class Numpy(Kind):
    """A number that lies in an array of numpy."""

    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.sizes = np.zeros(1, dtype=np.int64)

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        np.copyto(self.sizes, batch.size)
        return parts() if self.sizes[0] == RARE else whole()


class TensorValue(Kind):
    """The value of a tensor: a token with the number 77."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if batch.ids is not None and bool((batch.ids == 77).any()) else whole()


# ---- a branch point in disguise


class Suppress(Kind):
    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        with suppress(ValueError):
            check(batch.size)
            return whole()
        return parts()


class Finally(Kind):
    """`return` in `finally`."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        step = parts
        try:
            check(batch.size)
            step = whole
        finally:
            return step()  # noqa: B012  what is tested


class Chained(Kind):
    """A chained comparison: what stands last is evaluated if the first comparison holds."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        outcome: list[Any] = []
        RARE == batch.size != outcome.append(parts())  # noqa: B015  what is tested
        RARE != batch.size != outcome.append(whole())  # noqa: B015  what is tested
        return outcome[0]


class AnyOf(Kind):
    """`any` ends with the first that is true."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        outcome: list[Any] = []
        steps = ((batch.size == RARE, parts), (True, whole))
        any(wanted and outcome.append(step()) is None for wanted, step in steps)
        return outcome[0]


class ComprehensionIf(Kind):
    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        rare = batch.size == RARE
        return [step() for wanted, step in ((rare, parts), (not rare, whole)) if wanted][0]  # noqa: RUF015


class ShortZip(Kind):
    """`zip` ends with the shorter list."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        marks = (1,) if batch.size == RARE else (1, 1)
        return [step for step, _ in zip((parts, whole), marks, strict=False)][-1]()


class Index(Kind):
    """A number as an index."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return (whole, parts)[batch.size == RARE]()


# ---- a call that is not seen to reach a layer


class Checkpoint(RareBatch):
    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(layer, positions, hidden, residual, use_reentrant=False)


class Map(RareBatch):
    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        return next(map(layer, (positions,), (hidden,), (residual,)))


class OperatorCall(RareBatch):
    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        return operator.methodcaller("forward", positions, hidden, residual)(layer)


class ContextRun(RareBatch):
    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        return contextvars.copy_context().run(layer, positions, hidden, residual)


class WeakReference(RareBatch):
    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.references = [weakref.ref(layer) for layer in layers]

    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        return self.references[index]()(positions, hidden, residual)


class GlobalTable(RareBatch):
    def prepare(self, vllm_config: Any, layers: Any) -> None:
        hostile_state.LAYERS.update({(id(self), index): layer for index, layer in enumerate(layers)})

    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        return hostile_state.LAYERS[id(self), index](positions, hidden, residual)


class SwappedForward(RareBatch):
    """A layer whose `forward` is replaced for one batch."""

    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.layer = layers[LEFT_OUT]

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        if batch.size != RARE:
            return whole()
        object.__setattr__(self.layer, "forward", lambda positions, hidden, residual: (hidden, residual))
        try:
            return whole()
        finally:
            del self.layer.forward


# ---- code that is not traced


class Thread(RareBatch):
    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        outcome: list[Any] = []

        def run() -> None:
            with torch.inference_mode():
                outcome.append(layer(positions, hidden, residual))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return outcome[0]


class Pool(RareBatch):
    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.pool = ThreadPoolExecutor(1)

    def call(self, index: int, layer: Any, positions: Any, hidden: Any, residual: Any) -> Any:
        def run() -> Any:
            with torch.inference_mode():
                return layer(positions, hidden, residual)

        return self.pool.submit(run).result()


EXECUTED: dict[str, Any] = {}
exec(
    """
def choose(size, whole, parts):
    return parts() if size == 300 else whole()
""",
    EXECUTED,
)


class Exec(Kind):
    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return EXECUTED["choose"](batch.size, whole, parts)


class ExecNow(Kind):
    """`exec` in every pass."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        names = {"size": batch.size, "whole": whole, "parts": parts}
        exec("outcome = parts() if size == 300 else whole()", names)
        return names["outcome"]


class FolderTorch(Kind):
    """Code in a folder called `torch`."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return torch_walk.choose(batch.size, whole, parts)


class FolderTriton(Kind):
    """Code in a folder called `triton`."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return triton_walk.choose(batch.size, whole, parts)


# ---- what one trace decides otherwise


class TracedArm(Kind):
    """True of the batch that vLLM traces, which is never a small one."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if batch.size > 8 else whole()


class SmallBatch(Kind):
    """True of every batch that decodes one token of each of a few requests, as captured CUDA graphs do."""

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if batch.size <= 8 else whole()


class LargestBatch(Kind):
    """True of the largest batch of a launch, which a GPU's vLLM traces; a CPU's traces one of 16 tokens."""

    def prepare(self, vllm_config: Any, layers: Any) -> None:
        self.largest = vllm_config.scheduler_config.max_num_batched_tokens

    def choose(self, batch: Batch, whole: Steps, parts: Steps) -> Any:
        return parts() if batch.size == self.largest else whole()


KINDS = (
    ShapeLast,
    NamedDim,
    NamedDtype,
    ConfigMethod,
    Lambda,
    HelperTry,
    HelperFor,
    HelperMatch,
    OtherModule,
    MutableDefault,
    CountedPasses,
    Truthiness,
    Contains,
    Descriptor,
    Setattr,
    Numpy,
    TensorValue,
    Suppress,
    Finally,
    Chained,
    AnyOf,
    ComprehensionIf,
    ShortZip,
    Index,
    Checkpoint,
    Map,
    OperatorCall,
    ContextRun,
    WeakReference,
    GlobalTable,
    SwappedForward,
    Thread,
    Pool,
    Exec,
    ExecNow,
    FolderTorch,
    FolderTriton,
    TracedArm,
    SmallBatch,
    LargestBatch,
)
