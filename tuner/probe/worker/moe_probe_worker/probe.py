"""Probes one model: builds it, runs every scenario and makes the report."""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager

from moe_probe_worker import compiled, depth, engine, guards, plugins
from moe_probe_worker.passes import Passes, run_all
from moe_probe_worker.recorder import Recorder, registered_layers
from moe_probe_worker.scenarios import Scenario, scenarios
from moe_probe_worker.sources import source_hashes
from moe_probe_worker.stubs import Stubs
from shared_worker.plain_config import ensure_config_class
from shared_worker.vllm_types import Json


class NotProbed(Exception):  # noqa: N818  an outcome, not an error of ours
    """The model cannot be built here, for a known reason.

    Args:
        kind: the reason: `unknown_architecture`, `remote_code` or `plugin`.
        message: one sentence.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Stages:
    """Seconds of wall time by stage. If a stage runs again, its time is added."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the block and add its wall time to this stage."""
        begin = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 3)


def observe(job: Json, facts: Json) -> Json:
    """Probe one model.

    Args:
        job: the model.
        facts: as from `engine.start`.

    Returns:
        The report.

    Raises:
        NotProbed: vLLM has no class for the architecture, only remote code has one, or a plugin may have failed to
            register one.
        Exception: the model could not be built, or a step failed.
    """
    check_architecture(job, facts["failed_plugins"])
    is_plain = ensure_config_class(job["config"])
    stages = Stages()
    report = observe_model(job, facts, stages)
    with stages.stage("depth"):
        whole = depth.observe_whole(job, report)
    return {
        **report,
        "whole": whole,
        "declares_experts": job["declares_experts"],
        "assumptions": [*job["assumptions"], *report["assumptions"], *basic_assumptions(is_plain, job["config"])],
        "seconds": {"import": facts["import_seconds"], **stages.seconds},
    }


def observe_model(job: Json, facts: Json, stages: Stages) -> Json:
    """Build the model and observe its layers, scenarios and counter, and what compiling changes."""
    with Stubs() as stubs:
        with stages.stage("build"):
            vllm_config, model = engine.construct(job, stubs)
        with stages.stage("weights"):
            if stubs.replaces_experts():
                engine.leave_experts(model)
            engine.fill_weights(model)
            engine.finish_weights(model, vllm_config, stubs)
        recorder = Recorder(registered_layers(vllm_config))
        recorder.stubbed = stubs.replaces_experts()
        passes = Passes(model, vllm_config, recorder, stubs)
        planned = scenarios(*passes.inputs(job["special_tokens"]))
        with stages.stage("passes"):
            entries = run_all(passes, planned)
        with stages.stage("guards"):
            behind_guards = guards.derive_scenarios(passes, planned)
            planned += behind_guards
            entries += run_all(passes, behind_guards)
        observation_method = "counted" if recorder.counted else recorder.method
        scenario = most_telling(planned, entries, list(recorder.layers))
        counter = passes.run_counted(scenario) if scenario and facts["flag"]["effective_when_true"] else None
        with stages.stage("compile"):
            compile_part = compiled.observe_compiled(job, passes, planned, {entry["name"]: entry for entry in entries})
        report = {
            "result": "ok",
            "architecture": vllm_config.model_config.architecture,
            "model_class": f"{type(model).__module__}.{type(model).__qualname__}",
            "environment": facts["environment"],
            "flag": {**facts["flag"], "counter_ran": None if counter is None else counter["ran"]},
            "counter": counter,
            "registered": list(recorder.layers),
            "observation_method": observation_method,
            "planned": [scenario.name for scenario in planned],
            "scenarios": entries,
            "compile": compile_part,
            "assumptions": stubs.assumptions,
            "sources": source_hashes(model, recorder.layers),
        }
    del model, vllm_config, recorder, passes
    gc.collect()
    return report


def most_telling(planned: list[Scenario], entries: list[Json], registered: list[str]) -> Scenario | None:
    """The first scenario in which a counter would pick a wrong layer, else the first one with MoE calls, or None."""
    orders = {entry["name"]: entry["passes"] for entry in entries}
    first = None
    for scenario in planned:
        for order in filter(None, orders[scenario.name]):
            if order != registered[: len(order)]:
                return scenario
            first = first or scenario
    return first


def basic_assumptions(is_plain: bool, config: Json) -> list[dict[str, str]]:
    """The assumptions about weights, encoder and config class, for the report.

    Args:
        is_plain: whether a plain config class replaces the one from remote code.
        config: the model's config.
    """
    assumptions = [{"kind": "weights_random", "detail": "uniform in +-1e-3"}]
    if engine.is_multimodal(config):
        assumptions.append({"kind": "encoder_skipped", "detail": "encoder outputs are zeros"})
    if is_plain:
        assumptions.append({"kind": "plain_config", "detail": f"model_type {config['model_type']}"})
    return assumptions


def check_architecture(job: Json, failed_plugins: list[dict[str, str]]) -> None:
    """Check that vLLM or transformers has a class for the architecture. vLLM's own error is a long list.

    Args:
        job: the model.
        failed_plugins: as from `plugins.load`. One of them may be the plugin that registers the architecture.

    Raises:
        NotProbed: there is no class, and remote code may not run.
    """
    import transformers
    from vllm import ModelRegistry

    architectures = job["config"]["architectures"]
    supported = ModelRegistry.get_supported_archs()
    if job["trust_remote_code"]:
        return
    if any(name in supported or hasattr(transformers, name) for name in architectures):
        return
    if "auto_map" in job["config"]:
        raise NotProbed("remote_code", f"{architectures[0]} exists only as remote code, which was not run.")
    unknown = f"This vLLM registers no architecture {architectures[0]}"
    if failed_plugins:
        raise NotProbed("plugin", f"{unknown}, and could not load its plugin {plugins.words(failed_plugins)}.")
    raise NotProbed("unknown_architecture", f"{unknown}.")
