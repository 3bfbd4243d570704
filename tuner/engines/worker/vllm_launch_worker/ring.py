"""The buffer for the stamps of MoE calls. It is in the device's memory. The host reads it after the passes.

A record is four 32-bit integers: the kind (a layer was called, or ran), the index of the layer, the number of the pass,
and the number of tokens in the call. A stamp is a call of our own operator, which Dynamo keeps in its graph. A CUDA
graph captures and replays the kernel of the stamp with the kernels around it. On a GPU, the device does not wait for
the host to write a stamp.
"""

from collections.abc import Callable
from typing import Any

from shared_worker.vllm_types import Tensor
from vllm_launch_worker.trace import CALLED, RAN

FIELDS = 4
CAPACITY = 1 << 20
"""The number of records that fit. Later records are counted, but not stored."""


class Ring:
    """The buffer of one engine.

    Args:
        device: a torch device. If it is not a CUDA device, the host writes the records.
        capacity: the number of records that fit.

    Attributes:
        records: the records, shape (capacity, 4).
        cursor: the number of stamps since the last `clear`, shape (1,).
        number: the number of the current pass, shape (1,).
        token: a tensor of shape (1,). Each stamp declares that it changes it, so that the compiler keeps their order.
        python_stamps: the number of stamps that ran in Python since the last `clear`. A replayed CUDA graph does not
            add any.
    """

    def __init__(self, device: Any, capacity: int = CAPACITY) -> None:
        import torch

        self.capacity = capacity
        self.records = torch.zeros((capacity, FIELDS), dtype=torch.int32, device=device)
        self.cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self.number = torch.zeros(1, dtype=torch.int32, device=device)
        self.token = torch.zeros(1, dtype=torch.int32, device=device)
        self.python_stamps = 0
        self._write = device_writer() if torch.device(device).type == "cuda" else write_here

    def stamp(self, layer: Tensor, kind: int, tokens: int) -> None:
        """Append a record. A CUDA graph captures the kernel that writes it.

        Args:
            layer: the index of the layer, shape (1,).
            kind: `CALLED` or `RAN`.
            tokens: the number of tokens in the call.
        """
        self.python_stamps += 1
        self._write(self, layer, kind, tokens)

    def begin_pass(self) -> None:
        """Start the next pass. The device runs this in order with the stamps, so later stamps belong to it."""
        self.number += 1

    def clear(self) -> None:
        """Delete all records, and set the number of the pass to 0."""
        self.cursor.zero_()
        self.number.zero_()
        self.python_stamps = 0

    def read(self) -> tuple[list[list[int]], int]:
        """Wait for the device and read the records.

        Returns:
            The records in order, as lists `[kind, layer, pass, tokens]`, and the number of records that did not fit.

        Raises:
            RuntimeError: a record is incomplete.
        """
        written = int(self.cursor.item())
        rows = self.records[: min(written, self.capacity)].tolist()
        if any(row[0] not in (CALLED, RAN) for row in rows):
            raise RuntimeError("a record of the trace is torn")
        self.records.zero_()
        return rows, max(0, written - self.capacity)


def write_here(ring: Ring, layer: Tensor, kind: int, tokens: int) -> None:
    """Write a stamp from the host, on a device without our kernel."""
    import torch

    at = int(ring.cursor.item())
    if at < ring.capacity:
        ring.records[at] = torch.tensor([kind, int(layer.item()), int(ring.number.item()), tokens], dtype=torch.int32)
    ring.cursor += 1


def device_writer() -> Callable[..., Any]:
    """A function that writes a stamp with a kernel of one block and one warp."""
    from vllm_launch_worker.stamp_kernel import write

    def writer(ring: Ring, layer: Tensor, kind: int, tokens: int) -> None:
        write[(1,)](ring.records, ring.cursor, ring.number, layer, kind, tokens, ring.capacity, num_warps=1)

    return writer


_library: list[Any] = []
_rings: list[Ring] = []


def use(ring: Ring) -> None:
    """Let all later stamps write into this buffer."""
    _rings[:] = [ring]


def operator() -> Callable[..., Any]:
    """The operator `moe_replay::stamp(hidden, token, layer, kind, tokens)`.

    Its schema declares that it changes `hidden`, although it does not. So the compiler keeps it between the operation
    that makes `hidden` and the layer that reads it. The index of the layer is a tensor, because with a constant the
    graphs of the layers would differ from each other. In the launch they are equal.
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
