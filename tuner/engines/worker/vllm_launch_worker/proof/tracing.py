"""Records what Dynamo makes when vLLM compiles the model: the graph for the backend, and the guards that vLLM drops."""

import dis
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import CodeType
from typing import Any
from unittest import mock

from shared_worker.vllm_types import GraphModule, Node

MOST_GUARDS = 50
"""The largest number of guards on sizes in the report."""

GuardFilter = Callable[[Sequence[Any]], Sequence[bool]]
"""What `torch.compile` calls with all guards of a trace. It answers for each of them whether torch keeps it."""
Guard = dict[str, Any]
"""A guard of Dynamo: its `type`, its `name`, and the `file` and `line` of the code for which Dynamo made it."""


@dataclass(frozen=True)
class SizeGuard:
    """A guard on sizes.

    Attributes:
        condition: a sympy expression over the sizes.
        file, line: the place of the code for which torch made the guard.
    """

    condition: Any
    file: str
    line: int

    def as_json(self) -> dict[str, Any]:
        """The guard as the report holds it."""
        return {"expression": str(self.condition), "file": self.file, "line": self.line}


@dataclass
class Trace:
    """The record of one trace, or of several traces.

    Attributes:
        graphs: the graph modules that the backend received.
        guards: the guards that Dynamo made.
        sizes: the guards on sizes.
        files: the files of the functions that Dynamo traced.
        codes: the code objects of these functions.
        repeated: those of them that ran more than once in one trace.
        handlers: file and first line of each traced function that catches exceptions.
        filtered: whether Dynamo called the guard filter. If it did not, `guards` is incomplete.
        keeps_guards: whether vLLM's own filter kept a guard. Then Dynamo may trace again.
    """

    graphs: list[GraphModule] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    sizes: list[SizeGuard] = field(default_factory=list)
    files: set[str] = field(default_factory=set)
    codes: set[CodeType] = field(default_factory=set)
    repeated: set[CodeType] = field(default_factory=set)
    handlers: list[tuple[str, int]] = field(default_factory=list)
    filtered: bool = False
    keeps_guards: bool = False
    _of_this_trace: set[CodeType] = field(default_factory=set)

    def backend(self, graph_module: GraphModule, _inputs: Any) -> Callable[..., list[Any]]:
        """A backend for `torch.compile`. It records the graph and does not compute.

        Returns:
            A function that returns unfilled tensors in the shapes of the graph's outputs.
        """
        self.graphs.append(graph_module)
        self._of_this_trace.clear()
        self.sizes += size_guards()
        results = [output.meta.get("example_value") for output in outputs(graph_module)]

        def unfilled(*_: Any) -> list[Any]:
            return list(map(like, results))

        return unfilled

    def note(self, entries: Sequence[Any]) -> list[bool]:
        """A guard filter that records every guard. Like vLLM's own filter, it lets Dynamo drop all guards."""
        self.filtered = True
        for entry in entries:
            file, line = where(getattr(entry.orig_guard, "user_stack", None))
            self.guards.append({"type": entry.guard_type, "name": name_of(entry), "file": file, "line": line})
        return [False] * len(entries)

    def noting_filter(self, keeps: GuardFilter) -> GuardFilter:
        """A guard filter that records every guard, and keeps those that the filter `keeps` keeps."""

        def filtered(entries: Sequence[Any]) -> Sequence[bool]:
            self.note(entries)
            answers = keeps(entries)
            self.keeps_guards = self.keeps_guards or any(answers)
            return answers

        return filtered

    @property
    def names(self) -> set[str]:
        """The names of the attributes and globals that the traced functions use."""
        return set().union(*(code.co_names for code in self.codes))

    def looked_into(self, code: CodeType) -> None:
        """Record a function that Dynamo traces."""
        self.files.add(code.co_filename)
        self.codes.add(code)
        if code in self._of_this_trace:
            self.repeated.add(code)
        self._of_this_trace.add(code)
        if catches(code):
            self.handlers.append((code.co_filename, code.co_firstlineno))


@contextmanager
def watching(trace: Trace) -> Iterator[None]:
    """While the block runs, vLLM compiles with the backend of `trace`, and `trace` records guards and functions.

    vLLM passes its guard filter to `torch.compile`: a function of torch or, in 0.17.1 and with torch below 2.10, a
    function of its own (vllm/compilation/wrapper.py, 0.16.0 to 0.32.0).
    """
    import torch
    from torch._dynamo.symbolic_convert import InliningInstructionTranslator
    from vllm.config import CompilationConfig

    inline, compile_by_torch = InliningInstructionTranslator.inline_call_, torch.compile

    def own_backend(*_: Any, **__: Any) -> Callable[..., Any]:
        return trace.backend

    def note_and_inline(translator: Any) -> Any:
        trace.looked_into(translator.f_code)
        return inline(translator)

    def compile_and_note(*args: Any, backend: Any = "inductor", options: Any = None, **kwargs: Any) -> Any:
        if backend == trace.backend and "guard_filter_fn" in (options or {}):
            options = {**options, "guard_filter_fn": trace.noting_filter(options["guard_filter_fn"])}
        return compile_by_torch(*args, backend=backend, options=options, **kwargs)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(CompilationConfig, "init_backend", own_backend))
        patches.enter_context(mock.patch.object(InliningInstructionTranslator, "inline_call_", note_and_inline))
        patches.enter_context(mock.patch.object(torch, "compile", compile_and_note))
        yield


def name_of(entry: Any) -> str:
    """The value that a guard depends on, written as Python code.

    For a guard on an absent attribute, torch keeps the attribute's name apart from the name of its owner. From 2.13 on
    it does the same for `hasattr`. Before, the name of a `hasattr` guard ended with the attribute.
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
    """The file and line of the code for which torch made a guard on sizes.

    This is the model's code if torch names it, else torch's own code. torch keeps both as strings of the form
    `code  # FILE:LINE in FUNCTION` (`SLoc` in torch/_guards.py).
    """
    for text in (getattr(location, "maybe_user_loc", None), getattr(location, "framework_loc", None)):
        match = PLACE.search(str(text or ""))
        if match:
            return match["file"], int(match["line"])
    return "", 0


PLACE = re.compile(r"(?:^|# )(?P<file>[^#]+?):(?P<line>\d+) in ")


def where(stack: Any) -> tuple[str, int]:
    """The file and line of the innermost frame of a stack. An empty string and 0 if the stack is empty."""
    frames = list(stack or ())
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)


def outputs(graph_module: GraphModule) -> list[Node]:
    """The nodes that a graph returns."""
    import torch

    last = next(node for node in reversed(graph_module.graph.nodes) if node.op == "output")
    flat = torch.utils._pytree.tree_leaves(last.args[0])
    return [value for value in flat if isinstance(value, torch.fx.Node)]


def like(value: Any) -> Any:
    """A tensor on the meta device with the shape of an example. Other values are returned unchanged.

    A symbolic size becomes its hint, which is the size in the traced call. `int` of a symbolic size would add a guard
    that fixes the size, also in the graph that is read later.
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
    """Whether a function catches exceptions, with `try`, `with` or `finally`.

    From Python 3.11 on, each handler starts with `PUSH_EXC_INFO`. The handlers that Python adds to comprehensions do
    not have this instruction. In Python 3.10, `SETUP_FINALLY` or `SETUP_WITH` starts the block.
    """
    return any(instruction.opname in HANDLERS for instruction in dis.get_instructions(code))


HANDLERS = frozenset(("PUSH_EXC_INFO", "SETUP_FINALLY", "SETUP_WITH"))
