"""Compares eager and compiled passes: do the same MoE layers run when vLLM compiles the model?

vLLM traces a model once, at its first call, and drops every guard
(`TorchCompileWithNoGuardsWrapper`, vllm/compilation/wrapper.py, 0.19.1 and
0.32.0). So if Dynamo can decide a branch while it traces, every later pass takes
the branch that the first batch took.

The backend only translates the traced graph. It cannot choose layers. So the
probe uses vLLM's `eager` backend in place of Inductor: a model then takes
seconds instead of minutes.

The compiled part has the same order in every pass. So it is enough to run a few
scenarios, with at least one for each order seen so far.
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
from moe_probe_worker.entrances import Form, Notes, holds_layer, mark_entrances, stand_in_alike, watch_layers
from moe_probe_worker.passes import Passes
from moe_probe_worker.recorder import registered_layers
from moe_probe_worker.scenarios import Scenario, learning
from moe_probe_worker.stubs import Stubs
from shared_worker.errors import with_place
from shared_worker.vllm_types import Json, Layers, Module, VllmConfig

COMPILATION = {"mode": 3, "cudagraph_mode": "NONE"}
"""vLLM's own compile mode, `VLLM_COMPILE`. A platform may change the mode, as it does in a launch."""
BACKEND = "eager"
VARIABLES = {"VLLM_DISABLE_COMPILE_CACHE": "1", "VLLM_USE_AOT_COMPILE": "0"}
"""They keep vLLM from reading or writing compiled code. Compiling ahead of time stores the same trace, so it is off."""
MAX_REPEATS = 2
"""The most repeats of one scenario."""
VARIABLES_AT_START = frozenset(os.environ)
"""Names of the environment variables before the first model. vLLM 0.32.0 sets `VLLM_USE_BREAKABLE_CUDAGRAPH` for some
models, to turn compiling off (vllm/config/vllm.py). The next model must not see it."""


class NotApplicable(Exception):  # noqa: N818  an outcome, not an error of ours
    """vLLM does not compile this model."""


class CompiledPasses(Passes):
    """Forward passes that add no stand-ins when a pass fails. They use those of the eager passes."""

    def _run_with_stand_ins(self, scenario: Scenario) -> list[list[Json]]:
        return self.recorder.record(lambda: self._forward(scenario))


def observe_compiled(job: Json, passes: Passes, planned: list[Scenario], entries: dict[str, Json]) -> Json:
    """Run some of the scenarios both eagerly and compiled. It does not raise an exception.

    Args:
        job: the model.
        passes: the eager passes of the base probe. The model, recorder and stand-ins are still in use.
        planned: scenarios to choose from.
        entries: scenario name -> its report entry in the base probe.

    Returns:
        The report's `compile`: `status` (`ran`, `failed`, `not_applicable`), `detail`, and `scenarios`. Each of these
        has `name`, `eager` and `compiled`: each distinct order of layers in a forward context.
    """
    entry = {"status": "ran", "detail": "", "scenarios": []}
    try:
        check_class(passes.model, passes.recorder.layers)
        with clean_state():
            return {**entry, **compare_orders(job, passes, choose_scenarios(passes, planned, entries))}
    except NotApplicable as reason:
        return {**entry, "status": "not_applicable", "detail": str(reason)}
    except Exception as error:
        return {**entry, "status": "failed", "detail": with_place(error)}
    finally:
        gc.collect()


def check_class(model: Module, layers: Layers) -> None:
    """Check that vLLM can compile a class around a MoE layer.

    Raises:
        NotApplicable: the model does not register a MoE layer, or not inside a class with `support_torch_compile`.
    """
    from vllm.compilation.wrapper import TorchCompileWithNoGuardsWrapper

    if not layers:
        raise NotApplicable("The model registers no MoE layer.")
    if not any(isinstance(module, TorchCompileWithNoGuardsWrapper) for module in holders(model, layers)):
        raise NotApplicable(f"vLLM does not compile this class: {type(model).__name__}.")


def holders(model: Module, layers: Layers) -> list[Module]:
    """The modules that are or contain a MoE layer, outermost first."""
    return [module for module in model.modules() if holds_layer(module, layers)]


def choose_scenarios(passes: Passes, planned: list[Scenario], entries: dict[str, Json]) -> list[Scenario]:
    """Choose the scenarios to compare, with at most `MAX_REPEATS` repeats each.

    A launch always feeds its compiled model in the same way, so only scenarios with the feed of the first call count.
    Of these, a quick one of each kind is chosen, and one for each order that the quick ones do not show.
    """
    feed = "embeds" if getattr(passes.model, "supports_multimodal", False) else "ids"
    orders_of: dict[str, set[tuple[str, ...]]] = {}
    for name, entry in entries.items():
        orders_of[name] = set(map(tuple, entry["passes"]))
    usable = [scenario for scenario in planned if scenario.feed == feed and orders_of.get(scenario.name)]
    selected = learning(usable)
    covered: set[tuple[str, ...]] = set()
    for scenario in selected:
        covered |= orders_of[scenario.name]
    for scenario in usable:
        if not orders_of[scenario.name] <= covered:
            selected.append(scenario)
            covered |= orders_of[scenario.name]
    return [replace(scenario, repeats=min(scenario.repeats, MAX_REPEATS)) for scenario in selected]


def compare_orders(job: Json, passes: Passes, compare: list[Scenario]) -> Json:
    """Run these scenarios eagerly and compiled.

    Returns:
        Fields for the report's `compile`.

    Raises:
        NotApplicable: vLLM does not compile the model here.
        Exception: a step before the compiled passes failed.
    """
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
        first_entry = compiled.run(first)
        if first_entry["status"] == "failed":
            return {"status": "failed", "detail": f"vLLM's first call: {first_entry['detail']}"}
        if not any(part.compiled for part in parts):
            raise NotApplicable(f"{type(parts[0]).__name__} is made to be compiled, but the model does not call it.")
        entries = list(map(compiled.run, compare))
    finally:
        drop_caches(parts)
    how = f"mode {mode}, backend {BACKEND}, experts not computed, first call of {len(first.ids)} tokens"
    return compile_fields(entries, eager, how)


def first_call(vllm_config: VllmConfig, compare: list[Scenario]) -> Scenario:
    """The first call of the model in a server: vLLM's profile run with the largest batch.

    Every token is 0 at position 0, and the attention metadata is None (`profile_run` and `_dummy_run`,
    vllm/v1/worker/gpu_model_runner.py, 0.19.1 and 0.32.0). If vLLM cannot split a prompt, its largest batch is the
    longest sequence, which would take minutes here. So the batch has at most `engine.MAX_TOKENS` tokens.
    """
    tokens = min(vllm_config.scheduler_config.max_num_batched_tokens, engine.MAX_TOKENS)
    return Scenario("first_call", [0] * tokens, [0] * tokens, compare[0].feed if compare else "ids")


def eager_orders(passes: Passes, compare: list[Scenario]) -> tuple[dict[str, list[list[str]]], dict[str, Form]]:
    """Run the scenarios through the eager model of the base probe.

    Returns:
        Scenario name -> the distinct orders of layers in its forward contexts, and registered name -> form of the
        layer's output.

    Raises:
        RuntimeError: the model runs MoE layers without calling `forward`. The compiled model could not be observed.
    """
    recorder = passes.recorder
    orders: dict[str, list[list[str]]] = {}
    forms: dict[str, Form] = {}
    with watch_layers(recorder.layers, forms) as entered_names:
        for scenario in compare:
            entry = without_experts(passes, scenario, entered_names)
            if entry["status"] != "ran":
                continue
            orders[scenario.name] = entry["passes"]
            if set(entered_names) != set(itertools.chain.from_iterable(entry["passes"])):
                raise RuntimeError(f"in scenario {scenario.name} MoE layers ran without a call of their forward")
    return orders, forms


def without_experts(passes: Passes, scenario: Scenario, entered_names: list[str]) -> Json:
    """Run a scenario and return its report entry. The experts compute only if the pass fails without them."""
    recorder, before = passes.recorder, passes.recorder.stubbed
    for stubbed in dict.fromkeys((True, before)):
        entered_names.clear()
        recorder.stubbed = stubbed
        entry = passes.run(scenario)
        recorder.stubbed = before
        if entry["status"] == "ran":
            break
    return entry


def build(job: Json, stubs: Stubs) -> tuple[VllmConfig, Module]:
    """Make the VllmConfig and the model as a launch that compiles does, with another backend and zeros as weights."""
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


def drop_caches(parts: list[Any]) -> None:
    """Drop Dynamo's caches for the compiled classes. Caches for other functions stay: they took seconds to make."""
    import torch

    for part in parts:
        torch._dynamo.eval_frame.remove_from_cache(part.original_code_object())


def compile_fields(entries: list[Json], eager: dict[str, list[list[str]]], how: str) -> Json:
    """Fields for the report's `compile`. If a compiled pass failed, the status is `failed`, unless another one differs.

    Args:
        entries: report entries of the compiled passes.
        eager: scenario name -> its distinct eager orders.
        how: how the model was compiled, for `detail`.
    """
    failures: list[str] = []
    pairs: list[Json] = []
    differ = False
    for entry in entries:
        name, order = entry["name"], entry["passes"]
        if entry["status"] == "failed":
            failures.append(f"{name}: {entry['detail']}")
        elif entry["status"] == "ran" and name in eager:
            pairs.append({"name": name, "eager": eager[name], "compiled": order})
            differ = differ or eager[name] != order
    if failures and not differ:
        return {"status": "failed", "detail": failures[0], "scenarios": pairs}
    return {"detail": "; ".join([how, *failures[:1]]), "scenarios": pairs}


@contextmanager
def clean_state() -> Iterator[None]:
    """Undo what compiling in the block leaves in this process, in its environment variables and on disk.

    vLLM 0.19.1 never removes its bytecode hooks, and they keep the model in memory. Models share rotary embeddings
    (`_ROPE_DICT`, model_executor/layers/rotary_embedding), which store whether they are compiled.
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
            if name.startswith("VLLM_") and name not in VARIABLES_AT_START:
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
