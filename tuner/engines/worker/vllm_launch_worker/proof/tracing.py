"""What vLLM's own compile of the model gives to its backend: the graph, and the guards that vLLM drops."""

import dis
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest import mock

MOST_GUARDS = 50
"""Guards on sizes that are told."""


@dataclass(frozen=True)
class SizeGuard:
    """A guard on sizes.

    Attributes:
        condition: as sympy has it.
        file, line: the code that asked.
    """

    condition: object
    file: str
    line: int

    def told(self) -> dict:
        """For the report."""
        return {"expression": str(self.condition), "file": self.file, "line": self.line}


@dataclass
class Trace:
    """What one trace showed.

    Attributes:
        graphs: the graph modules that the backend was called with.
        guards: each guard that Dynamo made, with its `type`, `name`, `file` and `line`.
        sizes: the guards on sizes.
        files: of the code that Dynamo looked into.
        codes: this code, function by function.
        handlers: places of functions that Dynamo looked into and that catch exceptions.
        filtered: whether Dynamo asked which guards to keep; without that its guards were not seen.
    """

    graphs: list = field(default_factory=list)
    guards: list = field(default_factory=list)
    sizes: list = field(default_factory=list)
    files: set = field(default_factory=set)
    codes: set = field(default_factory=set)
    handlers: list = field(default_factory=list)
    filtered: bool = False

    def backend(self, graph_module, _inputs):
        """A backend that notes the graph and computes nothing: its function returns what the graph would, unfilled."""
        self.graphs.append(graph_module)
        self.sizes += size_guards()
        results = [output.meta.get("example_value") for output in outputs(graph_module)]

        def unfilled(*_):
            return [like(value) for value in results]

        return unfilled

    def note(self, entries):
        """A guard filter that notes every guard and keeps none, as vLLM's own filter does."""
        self.filtered = True
        for entry in entries:
            file, line = where(getattr(entry.orig_guard, "user_stack", None))
            self.guards.append({"type": entry.guard_type, "name": asked_by(entry), "file": file, "line": line})
        return [False for _ in entries]

    @property
    def names(self) -> set:
        """Names of attributes and globals that this code uses."""
        return {name for code in self.codes for name in code.co_names}

    def looked_into(self, code) -> None:
        """Note a function that Dynamo traces."""
        self.files.add(code.co_filename)
        self.codes.add(code)
        if catches(code):
            self.handlers.append((code.co_filename, code.co_firstlineno))


@contextmanager
def watching(trace: Trace):
    """While the block runs, vLLM compiles with the trace's backend, and Dynamo tells it of guards and functions."""
    import torch
    from torch._dynamo.symbolic_convert import InliningInstructionTranslator
    from vllm.config import CompilationConfig

    inline = InliningInstructionTranslator.inline_call_

    def own_backend(*_, **__):
        return trace.backend

    def inlined(translator):
        trace.looked_into(translator.f_code)
        return inline(translator)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(CompilationConfig, "init_backend", own_backend))
        patches.enter_context(mock.patch.object(InliningInstructionTranslator, "inline_call_", inlined))
        if hasattr(torch.compiler, "skip_all_guards_unsafe"):  # what vLLM passes as a filter from torch 2.10 on
            patches.enter_context(mock.patch.object(torch.compiler, "skip_all_guards_unsafe", trace.note))
        yield


def asked_by(entry) -> str:
    """What a guard asks for, as code.

    Of a guard on an attribute that is absent torch keeps the attribute's name beside that of its owner; in 2.13 that is
    so of `hasattr`, too, whose name ended with the attribute before.
    """
    attribute = (getattr(entry.orig_guard.create_fn, "keywords", None) or {}).get("attr")
    return f"{entry.name}.{attribute}" if isinstance(attribute, str) else entry.name


def size_guards() -> list:
    """The guards on sizes of the trace under way."""
    import torch

    context = torch._guards.TracingContext.try_get()
    mode = context.fake_mode if context else None
    guards = mode.shape_env.guards if mode is not None and mode.shape_env is not None else []
    return [SizeGuard(guard.expr, *place_of(guard.sloc)) for guard in guards]


def place_of(location) -> tuple:
    """File and line of a guard on sizes: the code of the model, or else what of torch asked.

    torch keeps them as texts: `code  # FILE:LINE in FUNCTION` (torch/_guards.py, SLoc).
    """
    for text in (getattr(location, "maybe_user_loc", None), getattr(location, "framework_loc", None)):
        match = PLACE.search(str(text or ""))
        if match:
            return match["file"], int(match["line"])
    return "", 0


PLACE = re.compile(r"(?:^|# )(?P<file>[^#]+?):(?P<line>\d+) in ")


def where(stack) -> tuple:
    """File and line of the innermost frame of a stack."""
    frames = list(stack or ())
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else ("", 0)


def outputs(graph_module) -> list:
    """The nodes that a graph returns."""
    import torch

    last = next(node for node in reversed(graph_module.graph.nodes) if node.op == "output")
    flat = torch.utils._pytree.tree_leaves(last.args[0])
    return [value for value in flat if isinstance(value, torch.fx.Node)]


def like(value):
    """A tensor on the meta device in the shape of an example, its symbolic sizes as they were in the traced call.

    `int` of a symbolic size would fix it for good, in the graph that is read afterwards, too.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        return value
    sizes = [size.node.hint if isinstance(size, torch.SymInt) else size for size in value.shape]
    return torch.empty([1 if size is None else int(size) for size in sizes], dtype=value.dtype, device="meta")


def catches(code) -> bool:
    """Whether a function catches exceptions: `try`, `with`, and what ends in `finally`.

    From Python 3.11 on each begins with an instruction that keeps the exception, which the handlers that Python adds to
    comprehensions lack; 3.10 has an instruction for the block.
    """
    return any(instruction.opname in HANDLERS for instruction in dis.get_instructions(code))


HANDLERS = frozenset(("PUSH_EXC_INFO", "SETUP_FINALLY", "SETUP_WITH"))
