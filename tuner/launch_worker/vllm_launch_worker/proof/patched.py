"""Whether somebody else's code stands in the place of vLLM's own functions.

A plugin may bring models and leave vLLM as it is. One that replaces a function or a method of vLLM's can change what no
trace shows, such as how a pass is made or how a MoE call finds its layer.
"""

import sys
import types
from pathlib import Path

from vllm_launch_worker.proof.failure import COMPILED, failure

OWN = str(Path(__file__).parents[1])
"""This package puts a few functions of its own in place while it looks."""
MOST = 5
"""Functions that are told."""


def patched(origins) -> list:
    """A failure for each function in vLLM's modules, and each method of their classes, that is somebody else's."""
    failures: list = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "vllm" or module is None:
            continue
        for attribute, value in list(vars(module).items()):
            for label, code in codes_of(attribute, value):
                if not code.co_filename.startswith(OWN) and not origins.is_trusted(code.co_filename):
                    failures.append(failure(COMPILED, "patched", function=f"{name}.{label}", file=code.co_filename))
    return failures[:MOST]


def codes_of(attribute: str, value) -> list:
    """The code behind a module's attribute: of a function, or of each method of a class of vLLM's."""
    if issubclass(type(value), type):
        if not value.__module__.startswith("vllm"):
            return []
        members = [(f"{attribute}.{name}", member) for name, member in vars(value).items()]
    else:
        members = [(attribute, value)]
    pairs = [(label, code_of(member)) for label, member in members]
    return [(label, code) for label, code in pairs if code is not None]


def code_of(member):
    """The code of a function, however it is bound; None for what is none. Nothing else is touched: some values load."""
    if isinstance(member, (staticmethod, classmethod)):
        member = member.__func__
    elif isinstance(member, property):
        member = member.fget
    return member.__code__ if type(member) is types.FunctionType else None
