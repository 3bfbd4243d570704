"""Eager against compiled: do the same MoE layers run when vLLM compiles the model?

vLLM traces a model once, at its first call, and drops every guard
(`TorchCompileWithNoGuardsWrapper`, vllm/compilation/wrapper.py, 0.19.1 and
0.32.0): a branch that Dynamo can decide while tracing stays as the first batch
took it. What freezes is that trace. The backend behind it translates the one
graph that it is given and cannot choose layers, so vLLM's `eager` backend
stands for Inductor, and a model costs seconds instead of minutes.

The compiled part then has the same order in every pass. A few scenarios, with one
for each order observed so far, therefore show as much as all of them.
"""

import gc
import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from moe_probe_worker import engine
from moe_probe_worker.entrances import Form, Notes, holds_layer, mark_entrances, stand_in_alike, watched
from moe_probe_worker.passes import Passes
from moe_probe_worker.recorder import registered_layers
from moe_probe_worker.scenarios import Scenario, learning
from moe_probe_worker.stubs import Stubs
from shared_worker.errors import in_one_line
from shared_worker.vllm_types import Json, Layers, Module, VllmConfig

COMPILATION = {"mode": 3, "cudagraph_mode": "NONE"}
"""vLLM's own compile mode, `VLLM_COMPILE`; a platform may turn it into another, as its launches do."""
BACKEND = "eager"
VARIABLES = {"VLLM_DISABLE_COMPILE_CACHE": "1", "VLLM_USE_AOT_COMPILE": "0"}
"""Nothing compiled is read or written; compiling ahead of time is a way to store the same trace."""
REPEATS = 2
BEGUN = frozenset(os.environ)
"""Variables of the process before any model. vLLM 0.32.0 turns compiling off for some models by setting
`VLLM_USE_BREAKABLE_CUDAGRAPH` (vllm/config/vllm.py), which must not reach the next."""


class NotApplicable(Exception):  # noqa: N818  an outcome, not an error of ours
    """vLLM does not compile this model."""


class CompiledPasses(Passes):
    """Forward passes in which a failure is not mended: the stand-ins are those of the eager passes."""

    def _mended(self, scenario: Scenario) -> list[list[Json]]:
        return self.recorder.record(lambda: self._forward(scenario))


def observe_compiled(job: Json, passes: Passes, planned: list[Scenario], entries: dict[str, Json]) -> Json:
    """Some of the scenarios eager and compiled.

    Args:
        job: the model.
        passes: the eager passes of the base probe; its model, recorder and stand-ins are still in place.
        planned: scenarios to choose from.
        entries: name -> report entry of each of them, as the base probe saw it.

    Returns:
        The report's `compile`: `status` (`ran`, `failed`, `not_applicable`), `detail`, `scenarios`, each with
        `name`, `eager` and `compiled`: the layers of each forward context. Nothing is raised.
    """
    entry = {"status": "ran", "detail": "", "scenarios": []}
    try:
        check_class(passes.model, passes.recorder.layers)
        with clean_state():
            return {**entry, **compared(job, passes, chosen(passes, planned, entries))}
    except NotApplicable as reason:
        return {**entry, "status": "not_applicable", "detail": str(reason)}
    except Exception as error:
        return {**entry, "status": "failed", "detail": in_one_line(error)}
    finally:
        gc.collect()


def check_class(model: Module, layers: Layers) -> None:
    """Whether vLLM has a class to compile here.

    Raises:
        NotApplicable: no MoE layer, or none inside a class with `support_torch_compile`.
    """
    from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

    if not layers:
        raise NotApplicable("The model registers no MoE layer.")
    if not any(isinstance(module, TorchCompileWithNoGuardsWrapper) for module in holders(model, layers)):
        raise NotApplicable(f"vLLM does not compile this class: {type(model).__name__}.")


def holders(model: Module, layers: Layers) -> list[Module]:
    """The modules with a MoE layer inside, from the outermost."""
    return [module for module in model.modules() if holds_layer(module, layers)]


def chosen(passes: Passes, planned: list[Scenario], entries: dict[str, Json]) -> list[Scenario]:
    """The scenarios to compare, with few repeats.

    Only those fed as the first call is, since a launch feeds its compiled model always alike: some of each kind that
    take little time, and one of each order that none of these showed.
    """
    feed = "embeds" if getattr(passes.model, "supports_multimodal", False) else "ids"
    orders_of: dict[str, set[tuple[str, ...]]] = {}
    for name, entry in entries.items():
        orders_of[name] = set(map(tuple, entry["passes"]))
    ran = [scenario for scenario in planned if scenario.feed == feed and orders_of.get(scenario.name)]
    selected = learning(ran)
    covered: set[tuple[str, ...]] = set()
    for scenario in selected:
        covered |= orders_of[scenario.name]
    for scenario in ran:
        if not orders_of[scenario.name] <= covered:
            selected.append(scenario)
            covered |= orders_of[scenario.name]
    return [replace(scenario, repeats=min(scenario.repeats, REPEATS)) for scenario in selected]


def compared(job: Json, passes: Passes, compare: list[Scenario]) -> Json:
    """`observe_compiled` for these scenarios; a failure is raised."""
    eager, forms = eager_orders(passes, compare)
    vllm_config, model = build(job, passes.stubs)
    layers = registered_layers(vllm_config)
    parts: list[Any] = [module for module in holders(model, layers) if getattr(module, "do_not_compile", True) is False]
    mode = vllm_config.compilation_config.mode.name
    if not parts:
        raise NotApplicable(f"vLLM does not compile this model here: mode {mode}.")
    mark_entrances(layers, forms)
    stand_in_alike(passes.model, model)
    compiled = CompiledPasses(model, vllm_config, Notes(layers), passes.stubs)
    first = first_call(vllm_config, compare)
    try:
        started = compiled.run(first)
        if started["status"] == "failed":
            return {"status": "failed", "detail": f"vLLM's first call: {started['detail']}"}
        if not any(part.compiled for part in parts):
            raise NotApplicable(f"{type(parts[0]).__name__} is made to be compiled, but the model does not call it.")
        ran = list(map(compiled.run, compare))
    finally:
        forget(parts)
    how = f"mode {mode}, backend {BACKEND}, experts not computed, first call of {len(first.ids)} tokens"
    return answer(ran, eager, how)


def first_call(vllm_config: VllmConfig, compare: list[Scenario]) -> Scenario:
    """What vLLM's model runner calls the model with first: its profile run, the largest batch of zeros.

    `profile_run` and `_dummy_run`, vllm/v1/worker/gpu_model_runner.py, 0.19.1 and
    0.32.0: attention metadata None, token 0 at position 0. Where vLLM cannot cut
    a prompt into batches the largest is the longest sequence, which would take
    minutes here: then it is one of the usual size.
    """
    tokens = min(vllm_config.scheduler_config.max_num_batched_tokens, engine.MAX_TOKENS)
    return Scenario("first_call", [0] * tokens, [0] * tokens, compare[0].feed if compare else "ids")


def eager_orders(passes: Passes, compare: list[Scenario]) -> tuple[dict[str, list[list[str]]], dict[str, Form]]:
    """Run the scenarios through the base probe's own model.

    Returns:
        Scenario name -> the orders of its forward contexts; registered name -> form of what the layer returned.

    Raises:
        RuntimeError: MoE layers are reached on a path on which the compiled model could not be watched.
    """
    recorder = passes.recorder
    orders: dict[str, list[list[str]]] = {}
    forms: dict[str, Form] = {}
    with watched(recorder.layers, forms) as entered:
        for scenario in compare:
            entry = without_experts(passes, scenario, entered)
            if entry["status"] != "ran":
                continue
            orders[scenario.name] = entry["passes"]
            if set(entered) != set(itertools.chain.from_iterable(entry["passes"])):
                raise RuntimeError(f"in scenario {scenario.name} MoE layers ran without a call of their forward")
    return orders, forms


def without_experts(passes: Passes, scenario: Scenario, entered: list[str]) -> Json:
    """The scenario's entry; the experts compute only if the pass fails without them."""
    recorder, before = passes.recorder, passes.recorder.stubbed
    for stubbed in dict.fromkeys((True, before)):
        entered.clear()
        recorder.stubbed = stubbed
        entry = passes.run(scenario)
        recorder.stubbed = before
        if entry["status"] == "ran":
            break
    return entry


def build(job: Json, stubs: Stubs) -> tuple[VllmConfig, Module]:
    """The VllmConfig and the model as a launch that compiles makes them, but for the backend and the weights."""
    flag = {"fast_moe_cold_start": False} if engine.flag_form() == "field" else {}
    settings = {"enforce_eager": False, "compilation_config": {**COMPILATION, **flag}}
    folder = engine.model_folder(job)
    while True:
        try:
            vllm_config = engine.configure(job, folder, **settings)
            vllm_config.compilation_config.backend = BACKEND
            model = engine.build(vllm_config)
            break
        except Exception as error:
            if not stubs.replace_class(error):
                raise
    engine.leave_experts(model)
    for parameter in model.parameters():
        parameter.data.zero_()
    engine.finish_weights(model, vllm_config, stubs)
    return vllm_config, model


def forget(parts: list[Any]) -> None:
    """Drop what Dynamo keeps for the compiled classes; what it keeps for other functions took seconds and stays."""
    import torch

    for part in parts:
        torch._dynamo.eval_frame.remove_from_cache(part.original_code_object())


def answer(ran: list[Json], eager: dict[str, list[list[str]]], how: str) -> Json:
    """The entry: a compiled pass that raised is a failure, unless one that ran shows a difference already."""
    failed: list[str] = []
    pairs: list[Json] = []
    differ = False
    for entry in ran:
        name, order = entry["name"], entry["passes"]
        if entry["status"] == "failed":
            failed.append(f"{name}: {entry['detail']}")
        elif entry["status"] == "ran" and name in eager:
            pairs.append({"name": name, "eager": eager[name], "compiled": order})
            differ = differ or eager[name] != order
    if failed and not differ:
        return {"status": "failed", "detail": failed[0], "scenarios": pairs}
    return {"detail": "; ".join([how, *failed[:1]]), "scenarios": pairs}


@contextmanager
def clean_state() -> Iterator[None]:
    """Leave nothing of compiling in this process or on disk.

    vLLM 0.19.1 never removes its bytecode hooks, which keep the model alive; rotary embeddings are shared between
    models (`_ROPE_DICT`, model_executor/layers/rotary_embedding) and remember whether they are compiled.
    """
    import torch
    from vllm.compilation.counter import compilation_counter
    from vllm.model_executor.layers import rotary_embedding

    tables = [
        vars(compilation_counter),
        getattr(torch._dynamo.convert_frame, "_bytecode_hooks", {}),
        getattr(torch._dynamo.eval_frame, "cached_backends", {}),
        getattr(rotary_embedding, "_ROPE_DICT", {}),
    ]
    contents, variables = list(map(dict, tables)), dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="compiled-", dir=os.getcwd()) as folder:  # noqa: PTH109  the worker's own
        for name in variables:
            if name.startswith("VLLM_") and name not in BEGUN:
                del os.environ[name]
        os.environ.update(VARIABLES, VLLM_CACHE_ROOT=folder)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(variables)
            for table, before in zip(tables, contents, strict=True):
                table.clear()
                table.update(before)
