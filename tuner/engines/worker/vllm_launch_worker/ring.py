"""The buffer for the stamps of MoE calls. It lies on the device: kernels write it, the host reads it after the passes.

A record is four numbers: `kind` (a layer was called, or ran), the layer's index, the number of the pass, and the tokens
of the call. A stamp is our own operator: Dynamo keeps it in its graph. In a CUDA graph its kernel is captured and
replayed with everything around it. Nothing waits for the host.
"""

from collections.abc import Callable
from typing import Any

from shared_worker.vllm_types import Tensor
from vllm_launch_worker.trace import CALLED, RAN

FIELDS = 4
CAPACITY = 1 << 20
"""Records that fit; later ones are counted and lost."""


class Ring:
    """The buffer of one engine.

    Args:
        device: a torch device; on anything but CUDA the host writes.
        capacity: records that it holds.

    Attributes:
        token: a tensor that each stamp declares to change, so that no two stamps change places.
        entered: stamps whose Python ran since the last `clear`; a replayed CUDA graph runs none.
    """

    def __init__(self, device: Any, capacity: int = CAPACITY) -> None:
        import torch

        self.capacity = capacity
        self.records = torch.zeros((capacity, FIELDS), dtype=torch.int32, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.number = torch.zeros(1, dtype=torch.int32, device=device)
        self.token = torch.zeros(1, dtype=torch.int32, device=device)
        self.entered = 0
        self._write = device_writer() if torch.device(device).type == "cuda" else write_here

    def stamp(self, layer: Tensor, kind: int, tokens: int) -> None:
        """Append a record; a CUDA graph captures the kernel that does it."""
        self.entered += 1
        self._write(self, layer, kind, tokens)

    def begin_pass(self) -> None:
        """Later stamps belong to the next pass; the device keeps the order."""
        self.number += 1

    def clear(self) -> None:
        """Forget all records."""
        self.cursor.zero_()
        self.number.zero_()
        self.entered = 0

    def read(self) -> tuple[list[list[int]], int]:
        """All records in their order, as lists of four, and how many were lost; waits for the device.

        Raises:
            RuntimeError: a record was begun and not written.
        """
        written = int(self.cursor.item())
        rows = self.records[: min(written, self.capacity)].tolist()
        if any(row[0] not in (CALLED, RAN) for row in rows):
            raise RuntimeError("a record of the trace is torn")
        self.records.zero_()
        return rows, max(0, written - self.capacity)


def write_here(ring: Ring, layer: Tensor, kind: int, tokens: int) -> None:
    """The stamp where our kernel cannot run."""
    import torch

    at = int(ring.cursor.item())
    if at < ring.capacity:
        ring.records[at] = torch.tensor([kind, int(layer.item()), int(ring.number.item()), tokens], dtype=torch.int32)
    ring.cursor += 1


def device_writer() -> Callable[..., Any]:
    """The stamp as a kernel of one thread, compiled before any graph is captured."""
    from vllm_launch_worker.stamp_kernel import write

    def writer(ring: Ring, layer: Tensor, kind: int, tokens: int) -> None:
        write[(1,)](ring.records, ring.cursor, ring.number, layer, kind, tokens, ring.capacity, num_warps=1)

    return writer


_library: list[Any] = []
_rings: list[Ring] = []


def use(ring: Ring) -> None:
    """From here on stamps write into this buffer."""
    _rings[:] = [ring]


def operator() -> Callable[..., Any]:
    """The operator `moe_replay::stamp(hidden, token, layer, kind, tokens)`.

    Its schema says that it changes `hidden`, although it does not: so it stays before the layer that reads `hidden`
    and behind the layer that made it. The layer's index is a tensor and not a constant: with a constant the graphs of
    the layers would differ, and those of the launch do not.
    """
    import torch

    def run(_hidden: Any, _token: Any, layer: Tensor, kind: int, tokens: int) -> None:
        if _rings:
            _rings[-1].stamp(layer, kind, tokens)

    if not _library:
        library = torch.library.Library("moe_replay", "FRAGMENT")
        library.define("stamp(Tensor(a!) hidden, Tensor(b!) token, Tensor layer, int kind, SymInt tokens) -> ()")
        library.impl("stamp", run, "CompositeExplicitAutograd")
        torch.library.register_fake("moe_replay::stamp", lambda *_: None, lib=library)
        _library.append(library)
    stamp: Callable[..., Any] = torch.ops.moe_replay.stamp
    return stamp
