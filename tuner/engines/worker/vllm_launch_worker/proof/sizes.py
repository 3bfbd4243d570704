"""Expressions on the number of a batch's tokens: what holds for every batch of a launch."""

import math
from functools import lru_cache

ALL_SIZES = 2048
"""Up to this number of tokens every batch is tried."""


@lru_cache
def holds(condition, most: int) -> bool:
    """Whether this condition of sympy's is true for every number of tokens from 1 to `most`."""
    import sympy

    symbols = sorted(getattr(condition, "free_symbols", ()), key=str)
    if not symbols:
        return bool(condition)
    for count in sizes_to_try(most, condition):
        if not bool(condition.subs(dict.fromkeys(symbols, sympy.Integer(count)))):
            return False
    return True


def sizes_to_try(most: int, condition) -> list:
    """Every size up to some thousands; beyond, those beside each number of the guard, and the ends."""
    import sympy

    if most <= ALL_SIZES:
        return list(range(1, most + 1))
    numbers = {int(number) for number in condition.atoms(sympy.Integer)}
    near = {number + step for number in numbers for step in (-1, 0, 1)}
    return sorted({*range(1, ALL_SIZES + 1), *(size for size in near if 1 <= size <= most), most - 1, most})


def is_positive(size, most: int) -> bool:
    """Whether a size is above 0 in every batch; of one that depends on a tensor's values this is not known."""
    import torch
    from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

    if isinstance(size, torch.SymInt):
        return not free_unbacked_symbols(size) and holds(size.node.expr > 0, most)
    return size > 0


def vanishes(value, most: int) -> bool:
    """Whether a factor may be 0, or takes values away as 0 does; `value` is no tensor."""
    import torch

    if isinstance(value, torch.SymInt):
        return not is_positive(value, most)
    if isinstance(value, (int, float)):
        return value == 0 or not math.isfinite(value)
    return isinstance(value, (torch.SymFloat, torch.SymBool, complex))
