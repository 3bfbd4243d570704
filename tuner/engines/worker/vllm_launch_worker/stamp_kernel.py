"""The stamp on a GPU. Imported only where Triton has a GPU to compile for."""

# ruff: noqa: ANN001, ANN201  Triton takes annotations of a kernel for its own types, so there are none

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["kind", "tokens", "capacity"])
def write(records, cursor, number, layer, kind, tokens, capacity):  # type: ignore[no-untyped-def]  # noqa: PLR0917
    """Append one record of four numbers, or only count it when the buffer is full."""
    at = tl.atomic_add(cursor, 1)
    if at < capacity:
        row = records + at * 4
        tl.store(row + 1, tl.load(layer))
        tl.store(row + 2, tl.load(number))
        tl.store(row + 3, tokens)
        tl.store(row, kind)
