"""What vLLM's own compile of the model gives to its backend: the graph, and the guards that vLLM drops."""

import dis
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any
from unittest import mock

from shared_worker.vllm_types import GraphModule, Node

MOST_GUARDS = 50
"""Guards on sizes that are reported at most."""

Guard = dict[str, Any]
"""A guard of Dynamo: `type`, `name`, and the `file` and `line` of the code that led to it."""


@dataclass(frozen=True)
class SizeGuard:
    """A guard on sizes.

    Attributes:
        condition: a sympy expression.
        file, line: the code that led to it.
    """

    condition: Any
    file: str
    line: int

    def as_json(self) -> dict[str, Any]:
        """The guard in the report."""
        return {"expression": str(self.condition), "file": self.file, "line": self.line}


@dataclass
class Trace:
    """What one trace showed.

    Attributes:
        graphs: the graph modules that the backend got.
        guards: the guards that Dynamo made.
        sizes: the guards on sizes.
        files: of the code that Dynamo traced.
        codes: this code, function by function.
        handlers: places of traced functions that catch exceptions.
        filtered: whether Dynamo called the guard filter; if not, its guards were not observed.
    """

    graphs: list[GraphModule] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    sizes: list[SizeGuard] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    codes: set[CodeType] = field(default_factory=set)
    handlers: list[tuple[str, int]] = field(default_factory=list)
    filtered: bool = False

    def backend(self, graph_module: GraphModule, _inputs: Any) -> Callable[..., list[Any]]:
        """A backend that notes the graph and computes nothing: its function returns what the graph would, unfilled."""
        self.graphs.append(graph_module)
        self.sizes += size_guards()
        results = [output.meta.get("example_value") for output in outputs(graph_module)]

        def unfilled(*_: Any) -> list[Any]:
            return list(map(like, results))

        return unfilled

    def note(self, entries: list[Any]) -> list[bool]:
        """A guard filter that notes every guard and keeps none, as vLLM's own filter does."""
        self.filtered = True
        for entry in entries:
            file, line = where(getattr(entry.orig_guard, "user_stack", None))
            self.guards.append({"type": entry.guard_type, "name": name_of(entry), "file": file, "line": line})
        return [False] * len(entries)

    @property
    def names(self) -> set[str]:
        """Names of attributes and globals that this code uses."""
        return set().union(*(code.co_names for code in self.codes))

    def looked_into(self, code: CodeType) -> None:
        """Note a function that Dynamo traces."""
        self.files.add(code.co_filename)
        self.codes.add(code)
        if catches(code):
            self.handlers.append((code.co_filename, code.co_firstlineno))


@contextmanager
def watching(trace: Trace) -> Iterator[None]:
    """While the block runs, vLLM compiles with the trace's backend; the trace notes Dynamo's guards and functions."""
    import torch
    from torch._dynamo.symbolic_convert import InliningInstructionTranslator
    from vllm.config import CompilationConfig

    inline = InliningInstructionTranslator.inline_call_

    def own_backend(*_: Any, **__: Any) -> Callable[..., Any]:
        return trace.backend

    def inlined(translator: Any) -> Any:
        trace.looked_into(translator.f_code)
        return inline(translator)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(CompilationConfig, "init_backend", own_backend))
        patches.enter_context(mock.patch.object(InliningInstructionTranslator, "inline_call_", inlined))
        if hasattr(torch.compiler, "skip_all_guards_unsafe"):  # what vLLM passes as a filter from torch 2.10 on
            patches.enter_context(mock.patch.object(torch.compiler, "skip_all_guards_unsafe", trace.note))
        yield


def name_of(entry: Any) -> str:
    """The value on which a guard depends, as code.

    For a guard on an absent attribute torch keeps the attribute's name beside the owner's name. In 2.13 it does so for
    `hasattr`, too; before, the name of such a guard ended with the attribute.
    """
    attribute = (getattr(entry.orig_guard.create_fn, "keywords", None) or {}).get("attr")
    return f"{entry.name}.{attribute}" if isinstance(attribute, str) else str(entry.name)


def size_guards() -> list[SizeGuard]:
    """The guards on sizes of the current trace."""
    import torch

    context = torch._guards.TracingContext.try_get()
    mode = context.fake_mode if context else None
    guards = mode.shape_env.guards if mode is not None and mode.shape_env is not None else []
    return [SizeGuard(guard.expr, *place_of(guard.sloc)) for guard in guards]


def place_of(location: Any) -> tuple[str, int]:
    """File and line of the code that led to a guard on sizes: the model's code, or else torch's.

    torch keeps them as texts: `code  # FILE:LINE in FUNCTION` (torch/_guards.py, SLoc).
    """
    for text in (getattr(location, "maybe_user_loc", None), getattr(location, "framework_loc", None)):
        match = PLACE.search(str(text or ""))
        if match:
            return match["file"], int(match["line"])
    return "", 0


PLACE = re.compile(r"(?:^|# )(?P<file>[^#]+?):(?P<line>\d+) in ")


def where(stack: Any) -> tuple[str, int]:
    """File and line of the innermost frame of a stack."""
    frames = list(stack or ())
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)


def outputs(graph_module: GraphModule) -> list[Node]:
    """The nodes that a graph returns."""
    import torch

    last = next(node for node in reversed(graph_module.graph.nodes) if node.op == "output")
    flat = torch.utils._pytree.tree_leaves(last.args[0])
    return [value for value in flat if isinstance(value, torch.fx.Node)]


def like(value: Any) -> Any:
    """A tensor on the meta device in the shape of an example; symbolic sizes are those of the traced call.

    `int` of a symbolic size would fix the size for good, also in the graph that is read afterwards.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    sizes = []
    for size in value.shape:
        number = size.node.hint if isinstance(size, torch.SymInt) else size
        sizes.append(1 if number is None else int(number))
    return torch.empty(sizes, dtype=value.dtype, device="meta")


def catches(code: CodeType) -> bool:
    """Whether a function catches exceptions: by `try`, `with` or `finally`.

    From Python 3.11 on, each handler begins with an instruction that keeps the exception. The handlers that Python adds
    to comprehensions lack it. Python 3.10 has an instruction for the block.
    """
    return any(instruction.opname in HANDLERS for instruction in dis.get_instructions(code))


HANDLERS = frozenset(("PUSH_EXC_INFO", "SETUP_FINALLY", "SETUP_WITH"))
