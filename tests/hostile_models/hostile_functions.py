"""Copies of a function.

The proof counts a function that mentions `FunctionType` as one that stores every attribute.
Beside a model it would make the proof refuse the model, so this function has a file of its own.
"""

from types import FunctionType


def copy_of(function: FunctionType, name: str, module: str) -> FunctionType:
    """A function with the same code, under another qualified name and in another module."""
    code = function.__code__.replace(co_qualname=name)
    own = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    own.__annotations__, own.__module__ = function.__annotations__, module
    return own
