"""A branch whose file has the name of a library in its path."""

from collections.abc import Callable
from typing import Any


def choose(size: int, whole: Callable[[], Any], parts: Callable[[], Any]) -> Any:
    """The whole model, but for a batch of 300 tokens."""
    return parts() if size == 300 else whole()
