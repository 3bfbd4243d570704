"""Condition 4: the code around the compiled region enters it once in every pass, and does not call a MoE layer itself.

vLLM does not compile this code, so it runs as plain Python in every pass. The proof traces it with Dynamo, as it traces
the region. In this trace the region is one opaque function. If the code does not trace as one graph, the condition
does not hold. Each guard that Dynamo makes marks a value on which the path of a pass may depend.
"""

import dis
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from types import CodeType
from typing import Any
from unittest import mock

from shared_worker.vllm_types import GraphModule, Module, Node, Region, Tensor, VllmConfig
from vllm_launch_worker.proof import configs, first_call
from vllm_launch_worker.proof.constructing import Constructing, files_of_modules
from vllm_launch_worker.proof.failure import NOTHING_OUTSIDE, Failure, failure, raised
from vllm_launch_worker.proof.order import full_name, inner_nodes, is_moe, is_opaque, layer_of, place
from vllm_launch_worker.proof.origin import Origins
from vllm_launch_worker.proof.regions import identities
from vllm_launch_worker.proof.sizes import holds
from vllm_launch_worker.proof.stores import (
    ANY,
    INSIDE,
    as_written,
    functions_storing,
    is_looked_into,
    is_of_configs,
    module_roots,
    stored_by_others,
    stored_in,
)
from vllm_launch_worker.proof.tracing import Guard, Trace, watching
from vllm_launch_worker.proof.variations import Variations, attribute_of, combinations, holding, sizes_of, variations

STATE = frozenset(
    (
        "AUTOGRAD_SAVED_TENSORS_HOOKS",
        "BUILTIN_MATCH",
        "CLASS_MATCH",
        "CLOSURE_MATCH",
        "DEFAULT_DEVICE",
        "DETERMINISTIC_ALGORITHMS",
        "DUPLICATE_INPUT",
        "EMPTY_NN_MODULE_HOOKS_DICT",
        "FUNCTION_MATCH",
        "FUNCTORCH_STACK_MATCH",
        "GLOBAL_STATE",
        "GRAD_MODE",
        "MODULE_MATCH",
        "NN_MODULE",
        "NOT_PRESENT_IN_GENERIC_DICT",
        "SHAPE_ENV",
        "TENSOR_MATCH",
        "TENSOR_SUBCLASS_METADATA_MATCH",
        "TORCH_FUNCTION_STATE",
        "TYPE_MATCH",
    )
)
"""Kinds of guards on torch's own state, code, modules, types and tensors. A pass does not change these values, unless
a function stores another value there. The sizes of tensors have their own guards."""
GROUPS = re.compile(r"G\['__import_vllm_dot_distributed_dot_parallel_state'\]\._[A-Z]+\b")
"""vLLM's process groups. They exist before the model and are the same in every pass. Elastic groups are refused."""
NAME = re.compile(r"\w+")
CELLS = re.compile(r"\.cell_contents\b|__(?:kw)?defaults__\[.*?\]\[")
"""Variables of an enclosing function, and contents of default values. `stores.py` does not see changes to them."""
CONTEXTS = frozenset(("set_forward_context", "override_forward_context", "create_forward_context"))
"""vLLM's functions that start or end a count of MoE calls."""
DICTIONARIES = frozenset(("__dict__", "vars"))
SWITCHES = frozenset(("moe_layer_index", "all_moe_layers", "skip_compiled", "do_not_compile"))
"""Attributes that decide whether and how MoE calls are counted. Code around a region may read but not store them."""


class Outside:
    """The code around a region.

    Args:
        model: the outermost module.
        region: the compiled module in it.
        vllm_config: the launch.
        origins: tells where each source file comes from.
    """

    def __init__(self, model: Module, region: Region, vllm_config: VllmConfig, origins: Origins) -> None:
        self.model, self.region, self.config, self.origins = model, region, vllm_config, origins

    def failures(self, returned: Any, trace: Trace) -> list[Failure]:
        """The failures of condition 4. The list is empty if the condition holds.

        Args:
            returned: the value that the region returned in its own trace.
            trace: an empty trace. This method fills it.
        """
        if self.model is self.region:
            return []
        failures = [*call_against(self.model), *self._on_path(returned, trace)]
        varied = self._variations(trace)
        combined = combinations(varied)
        for values in combined:
            with holding(self.model, values):
                failures += self._on_path(returned, trace)
        failures += self._functions_against(trace, self._stored(trace))
        open_guards = self._open_guards(trace)
        if combined and sizes_of(self._variations(trace)) == sizes_of(varied):  # the other paths ask nothing new
            open_guards = [guard for guard in open_guards if attribute_of(guard) not in varied]
        return distinct([*failures, *open_guards])

    def _variations(self, trace: Trace) -> Variations:
        """The attributes that may lead to another path, and the values that stand for all their values."""
        guards = self._open_guards(trace)
        return variations(self.model, guards, trace, self._files(trace), self._everywhere())

    def _open_guards(self, trace: Trace) -> list[Failure]:
        """The failures for guards on values that may change between passes."""
        return attributes_against(trace, self._stored(trace), self.model.forward.__code__.co_freevars)

    def _stored(self, trace: Trace) -> frozenset[str]:
        """The names that functions store after the model is built (see `stores.stored_in`)."""
        files = self._files(trace)
        held = configs.Configs(self.model, trace.guards)
        files |= held.files
        others = stored_by_others(files)
        stored = held.changed_by(stored_in(files) | others, files)
        open_guards = attributes_against(trace, stored, ())
        words = frozenset(word for guard in open_guards for word in NAME.findall(guard["fields"]["guard"]))
        if not words:
            return stored
        classes = frozenset(kind.__name__ for kind in type(self.model).__mro__)
        traced = frozenset(code.co_name for code in trace.codes)
        constructing = Constructing(files, self._everywhere(), classes, traced)
        built = constructing.among(functions_storing(files, words))
        return held.changed_by(stored_in(files, built) | others, files)

    def _everywhere(self) -> frozenset[str]:
        """The files of vLLM and of all modules that are imported."""
        return files_of_modules() | self.origins.own.keys()

    def _on_path(self, returned: Any, trace: Trace) -> list[Failure]:
        """The failures on the path that a trace takes. They do not depend on which passes take this path.

        Dynamo assumes that a variable number of tokens is not 1, and does not make a guard for that. So there are two
        traces: one for a batch of one token, and one for larger batches.
        """
        from vllm.platforms import current_platform

        tokens = first_call.tokens(self.config, current_platform.device_type)
        failures: list[Failure] = []
        for count in sorted({1, tokens}):
            failures += self._of_batch(returned, trace, tokens, count)
        return distinct(failures)

    def _of_batch(self, returned: Any, trace: Trace, tokens: int, count: int) -> list[Failure]:
        """The failures for batches of one token (`count` is 1), or for larger batches (`count` is above 1)."""
        graphs = len(trace.graphs)
        try:
            self._trace(returned, trace, tokens, count)
        except Exception as error:
            return [raised(NOTHING_OUTSIDE, "outer_not_traced", error)]
        if not trace.filtered:
            return [failure(NOTHING_OUTSIDE, "guards_not_seen")]
        most = self.config.scheduler_config.max_num_batched_tokens
        return [
            *graph_against(trace.graphs[graphs:], tensors_in(returned)),
            *handlers_against(trace),
            *words_against(trace),
            *dictionaries_against(trace),
            *sizes_against(trace, most),
        ]

    def _trace(self, returned: Any, trace: Trace, tokens: int, count: int) -> None:
        import torch

        options = {"guard_filter_fn": trace.note}
        torch._dynamo.reset()
        forward = self.model.forward
        trace.looked_into(forward.__code__)
        compiled = torch.compile(forward, fullgraph=True, dynamic=False, backend=trace.backend, options=options)
        mark = mark_batch if count > 1 else None
        with standing_in(self.region, returned, tokens), watching(trace), as_without_compiling():
            first_call.make_call(compiled, self.model, self.config, mark, count)
        for guard in trace.guards:
            guard["name"] = with_attributes(guard["name"])

    def _functions_against(self, trace: Trace, stored: frozenset[str]) -> list[Failure]:
        """Failures for functions in attributes of modules that other code replaces.

        Dynamo does not guard bound methods, so this method looks for them.
        """
        inside = identities(self.region)
        names = trace.names & stored
        failures: dict[str, Failure] = {}
        for module in self.model.modules():
            attributes = {} if id(module) in inside else vars(module)
            for name in sorted(names.intersection(attributes)):
                if callable(attributes[name]):
                    kind, code = type(module), type(module).forward.__code__
                    place = {"file": code.co_filename, "line": code.co_firstlineno}
                    guard = f"{kind.__name__}.{name}"
                    failures[name] = failure(NOTHING_OUTSIDE, "outer_guard", guard=guard, **place)
        return list(failures.values())

    def _files(self, trace: Trace) -> frozenset[str]:
        """The files whose functions may change the values that this code reads, without those of Python and torch.

        These are the traced files, and the files of the classes of guarded modules.
        """
        inside = identities(self.region)
        files: set[str | None] = {*trace.files}
        for path in {(), *(path_of(guard["name"]) for guard in trace.guards)}:
            module = self.model.get_submodule(".".join(path)) if path else self.model
            if id(module) not in inside:
                for base in type(module).__mro__:
                    files.add(getattr(sys.modules.get(base.__module__), "__file__", None))
        return frozenset(file for file in files if file and file != __file__ and is_looked_into(file))


def distinct(failures: list[Failure]) -> list[Failure]:
    """The failures, each once."""
    return list({str(entry): entry for entry in failures}.values())


def path_of(name: str) -> tuple[str, ...]:
    """The names of the modules on the path from the outermost module to the module that a guard names."""
    match = MODULES.match(name)
    return tuple(MODULE.findall(match[0])) if match else ()


def with_attributes(name: str) -> str:
    """The name of a guard, in which each attribute is written behind a dot.

    Where a class has a `__getattribute__` of its own, as transformers' configs have, torch below 2.13 writes
    `object.__getattribute__(OWNER, 'NAME')` for an attribute that this method reads. It depends on the same value.
    """
    written, count = GENERIC.subn(r"\1.\2", name)
    return with_attributes(written) if count else name


GENERIC = re.compile(r"\bobject\.__getattribute__\(([^()]*), '(\w+)'\)")
MODULE = re.compile(r"\._modules\['(\w+)'\]")
MODULES = re.compile(rf"self(?:{MODULE.pattern})+")


@contextmanager
def as_without_compiling() -> Iterator[None]:
    """While the block runs, traced code that asks whether it is compiled gets the answer no, as in every real pass.

    Dynamo runs a function with `assume_constant_result` once and takes its result as a constant. Here such a function
    raises RuntimeError.
    """
    from torch._dynamo.variables import functions, nn_module
    from torch._dynamo.variables.torch import tracing_state_functions

    answers = tracing_state_functions()
    compiling = [function for function, answer in answers.items() if answer]

    def refused(*_: Any, **__: Any) -> None:
        raise RuntimeError("a result is assumed to be constant")

    with ExitStack() as patches:
        patches.enter_context(mock.patch.dict(answers, dict.fromkeys(compiling, False)))
        for home in (functions, nn_module):
            if hasattr(home, "invoke_and_store_as_constant"):
                patches.enter_context(mock.patch.object(home, "invoke_and_store_as_constant", refused))
        yield


def call_against(model: Module) -> list[Failure]:
    """A failure if a call of the outermost module may run other code than the `forward` of its class.

    Such code is a hook, a `__call__` of its own, or a `forward` stored on the instance.
    """
    import torch
    from torch.nn.modules import module as home

    attributes = [*vars(model).items(), *vars(home).items()]
    has_hooks = any(value for name, value in attributes if HOOKS.fullmatch(name))
    if type(model).__call__ is torch.nn.Module.__call__ and not has_hooks and "forward" not in vars(model):
        return []
    return [failure(NOTHING_OUTSIDE, "outer_call", **{"class": type(model).__name__})]


STANDS_IN = re.compile(r"\['__call__'\]\.__closure__\[0\]\.cell_contents\b")
"""In a guard's name: the closure of the function that stands for the region (see `standing_in`)."""
HOOKS = re.compile(r"_(?:global_)?forward(?:_pre)?_hooks")


def mark_batch(keywords: dict[str, Any]) -> None:
    """Mark the number of tokens as variable, so that the trace does not hold for one number only."""
    import torch

    for name, value in keywords.items():
        if isinstance(value, torch.Tensor):
            torch._dynamo.mark_dynamic(value, value.ndim - 1 if name == "positions" else 0)
        for tensor in getattr(value, "tensors", {}).values():
            torch._dynamo.mark_dynamic(tensor, 0)


@contextmanager
def standing_in(region: Region, returned: Any, tokens: int) -> Iterator[None]:
    """While the block runs, the region is one opaque function that returns tensors of the same shapes.

    Args:
        region: the compiled module.
        returned: the value that the region returned in its own trace.
        tokens: the number of tokens in that trace.
    """
    import torch

    enter = partial(again, returned, torch.compiler.allow_in_graph(entered), tokens)
    pass_by = partial(again, returned, torch.compiler.allow_in_graph(passed_by), tokens)

    def call(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return enter(positions_of(args, kwargs))

    def forward(_self: Any, *args: Any, **kwargs: Any) -> Any:
        return pass_by(positions_of(args, kwargs))

    compiled: type[Any] = type(region)
    region.__class__ = type(compiled.__name__, (compiled,), {"__call__": call, "forward": forward})
    try:
        yield
    finally:
        region.__class__ = compiled


def again(value: Any, function: Callable[..., Tensor], tokens: int, positions: Tensor) -> Any:
    """A copy of a value's structure, in which `function` makes each tensor anew for another batch.

    Args:
        value: a tensor, or tensors in tuples, lists and `IntermediateTensors`.
        function: `entered` or `passed_by`.
        tokens: the number of tokens in the trace from which the value comes.
        positions: the positions of the new batch.
    """
    import torch
    from vllm.sequence import IntermediateTensors

    if isinstance(value, torch.Tensor):
        return function(positions, list(value.shape), value.dtype, tokens)
    if isinstance(value, IntermediateTensors):
        return IntermediateTensors({key: again(item, function, tokens, positions) for key, item in value.items()})
    if isinstance(value, tuple):
        return tuple([again(item, function, tokens, positions) for item in value])
    if isinstance(value, list):
        return [again(item, function, tokens, positions) for item in value]
    return value


def entered(positions: Tensor, shape: list[Any], dtype: Any, tokens: int) -> Tensor:
    """An unfilled tensor of this shape. Each size equal to `tokens` is replaced by the batch's number of tokens."""
    import torch

    sizes = [positions.shape[-1] if size == tokens else size for size in shape]
    unfilled: Tensor = torch.empty(sizes, dtype=dtype, device=positions.device)
    return unfilled


def passed_by(positions: Tensor, shape: list[Any], dtype: Any, tokens: int) -> Tensor:
    """As `entered`, for a call of `forward`, which bypasses the compiled code."""
    return entered(positions, shape, dtype, tokens)


def positions_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The positions, an argument of every region. The size of their last dimension is the batch's number of tokens.

    A class of transformers, which is a region in vLLM's Transformers backend, gets them as `position_ids`.
    """
    for name in ("positions", "position_ids"):
        if name in kwargs:
            positions: Tensor = kwargs[name]
            return positions
    second: Tensor = args[1]
    return second


def tensors_in(value: Any) -> int:
    """The number of tensors in a region's result. Each entry into the region calls `entered` once for each of them."""
    import torch
    from vllm.sequence import IntermediateTensors

    if isinstance(value, IntermediateTensors):
        return tensors_in(list(value.tensors.values()))
    if isinstance(value, (tuple, list)):
        return sum(map(tensors_in, value))
    return int(isinstance(value, torch.Tensor))


def graph_against(graphs: list[GraphModule], tensors: int) -> list[Failure]:
    """Failures if the traced path does not enter the region exactly once, or calls an operation that may reach a layer.

    Args:
        graphs: the graphs of the trace.
        tensors: the number of tensors that the region returns.
    """
    if len(graphs) != 1:
        return [failure(NOTHING_OUTSIDE, "outer_entries", count=len(graphs))]
    nodes, inner = list(graphs[0].graph.nodes), inner_nodes(graphs[0])
    entries = count_entries(nodes) / max(tensors, 1)
    failures: list[Failure] = []
    if count_entries(inner) > 0:
        failures.append(failure(NOTHING_OUTSIDE, "nested_call", layer="the compiled region"))
    for node in [*nodes, *inner]:
        failures += node_against(node)
    if entries > 1 or (not entries and not failures):
        failures.append(failure(NOTHING_OUTSIDE, "outer_entries", count=math.ceil(entries)))
    return failures


def count_entries(nodes: list[Node]) -> int:
    """The number of calls of `entered` among these operations."""
    return sum(node.target is entered for node in nodes)


def node_against(node: Node) -> list[Failure]:
    """A failure if an operation bypasses the compiled region, calls a MoE layer, or is opaque."""
    if node.target is passed_by:
        return [failure(NOTHING_OUTSIDE, "outer_passed_by")]
    if is_moe(node):
        return [failure(NOTHING_OUTSIDE, "outer_calls_layer", layer=layer_of(node))]
    if is_opaque(node) and node.target is not entered:
        file, line = place(node)
        return [failure(NOTHING_OUTSIDE, "opaque_operator", operator=full_name(node), file=file, line=line)]
    return []


def handlers_against(trace: Trace) -> list[Failure]:
    """Failures for functions around the region that catch exceptions.

    vLLM's counter raises an exception if a pass makes too many MoE calls. Such a function could hide it.
    """
    failures = []
    for file, line in trace.handlers:
        if file != __file__ and "torch" not in module_roots(file):
            failures.append(failure(NOTHING_OUTSIDE, "outer_handler", file=file, line=line))
    return failures


def words_against(trace: Trace) -> list[Failure]:
    """Failures for functions around the region that make a forward context, or store one of `SWITCHES`."""
    words: set[tuple[str, str]] = set()
    for code in trace.codes:
        words.update(product([code.co_filename], words_of(code)))
    return [failure(NOTHING_OUTSIDE, "context_word", file=file, word=word) for file, word in sorted(words)]


def dictionaries_against(trace: Trace) -> list[Failure]:
    """Failures for functions around the region that read the `__dict__` of an object. Dynamo does not guard it."""
    failures = []
    for code in sorted(trace.codes, key=lambda code: (code.co_filename, code.co_firstlineno)):
        names, file = DICTIONARIES.intersection(code.co_names), code.co_filename
        if names and (is_looked_into(file) or is_of_configs(file)):
            place = {"file": file, "line": code.co_firstlineno}
            failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=min(names), **place))
    return failures


def words_of(code: CodeType) -> frozenset[str]:
    """The names of `CONTEXTS` that a function uses, and the names of `SWITCHES` that it stores or holds as strings."""
    stored = {entry.argval for entry in dis.get_instructions(code) if entry.opname in ("STORE_ATTR", "DELETE_ATTR")}
    texts = {value for value in code.co_consts if isinstance(value, str)}
    return CONTEXTS.intersection(code.co_names) | SWITCHES & (stored | texts)


def sizes_against(trace: Trace, most: int) -> list[Failure]:
    """Failures for guards on sizes that do not hold for every batch of 1 to `most` tokens."""
    failures = []
    for guard in trace.sizes:
        if not holds(guard.condition, most):
            place = {"file": guard.file, "line": guard.line}
            failures.append(failure(NOTHING_OUTSIDE, "outer_guard", guard=str(guard.condition), **place))
    return failures


def attributes_against(trace: Trace, stored: frozenset[str], enclosed: tuple[str, ...]) -> list[Failure]:
    """Failures for guards on values that may change between passes.

    These are attributes that code outside constructors stores, and values that are not attributes. Guards on arguments
    are left out: a launch calls its model in the same way in every pass, so an argument that is None stays None.

    Args:
        trace: the trace of the code around the region.
        stored: the names that functions store (see `stores.stored_in`).
        enclosed: the variables of an enclosing function. Their guards look like guards on arguments.
    """
    failures: dict[str, Failure] = {}
    for guard in trace.guards:
        if guard["file"] == __file__ or STANDS_IN.search(guard["name"]) or is_fixed(guard, stored, enclosed):
            continue
        name = f"{guard['type']} {guard['name']}"[:200]
        failures[name] = failure(NOTHING_OUTSIDE, "outer_guard", guard=name, file=guard["file"], line=guard["line"])
    return list(failures.values())


def is_fixed(guard: Guard, stored: frozenset[str], enclosed: tuple[str, ...]) -> bool:
    """Whether the value that a guard depends on cannot change after construction.

    Args:
        guard: the guard.
        stored: the names that functions store (see `stores.stored_in`).
        enclosed: the variables of an enclosing function.
    """
    name = guard["name"]
    if not name or GROUPS.search(name) or (NAME.fullmatch(name) and name not in enclosed):
        return True  # a name without a dot is an argument of the outermost call, or the model itself
    if "ITERATOR" in guard["type"]:
        return False  # to read the next element changes the iterator
    is_of_model = name.startswith(("self.", "dict(type(self"))
    if guard["type"] not in STATE and (not is_of_model or CELLS.search(name)):
        return False
    if is_of_model and (ANY in stored or is_on_contents(guard)):
        return False
    parts = [as_written(part) for part in NAME.findall(name.removeprefix("self.")) if not part.isdigit()]
    if stored.intersection(parts):
        return False
    if guard["type"] in STATE and name.endswith(parts[-1]):
        parts.pop()  # the guard depends on the container, not on its contents
    return not stored.intersection(part + INSIDE for part in parts)


def is_on_contents(guard: Guard) -> bool:
    """Whether a guard depends on the contents of a list, a dictionary or a set, other than `PARTS`.

    Code may change these by another name, or in a function that it gives the container to. This is not followed.
    """
    name = guard["name"]
    asks_for_length = LENGTHS.match(guard["type"]) is not None and NAME.findall(name)[-1] not in PARTS
    return asks_for_length or any(container not in PARTS for container in CONTAINER.findall(name))


PARTS = frozenset(("_modules", "_parameters", "_buffers", "__dict__", "__mro__", "attribute_map"))
"""Containers of Python, torch and transformers with attributes, modules and classes."""
CONTAINER = re.compile(r"(\w+)['\])]*\[")
"""In a guard's name: what a subscript follows."""
LENGTHS = re.compile("SEQUENCE_LENGTH|DICT_|LIST_|MAPPING_|SET_")
"""Kinds of guards on the length of a container, and on its keys or elements."""
