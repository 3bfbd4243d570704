"""Copies of a function.

This is a file of its own, because the proof counts each function of a file that mentions `FunctionType` as one that may
store any attribute.
"""

from types import FunctionType


def copied(function: FunctionType, name: str, module: str) -> FunctionType:
    """A function with the same code, under another qualified name and in another module."""
    code = function.__code__.replace(co_qualname=name)
    own = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    own.__annotations__, own.__module__ = function.__annotations__, module
    return own
