"""One model: build it, run every scenario, report what was seen."""

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
    """The model cannot be built here, for a reason with a name.

    Args:
        kind: `unknown_architecture`, `remote_code` or `plugin`.
        message: one sentence.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Stages:
    """Wall seconds by stage; a stage that comes again adds to its own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block under this name."""
        begin = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - begin, 3)


def observe(job: Json, facts: Json) -> Json:
    """The report of one model.

    Raises:
        NotProbed: vLLM has no class for the architecture, or only remote code does.
    """
    check_architecture(job, facts["failed_plugins"])
    plain, stages = ensure_config_class(job["config"]), Stages()
    report = look(job, facts, stages)
    with stages.stage("depth"):
        whole = depth.observe_whole(job, report)
    return {
        **report,
        "whole": whole,
        "declares_experts": job["declares_experts"],
        "assumptions": [*job["assumptions"], *report["assumptions"], *made_up(plain, job["config"])],
        "seconds": {"import": facts["import_seconds"], **stages.seconds},
    }


def look(job: Json, facts: Json, stages: Stages) -> Json:
    """What the model itself shows: layers, scenarios, counter, and what compiling changes."""
    with Stubs() as stubs:
        with stages.stage("build"):
            vllm_config, model = engine.construct(job, stubs)
        with stages.stage("weights"):
            engine.fill_weights(model)
            engine.finish_weights(model, vllm_config, stubs)
        recorder = Recorder(registered_layers(vllm_config))
        passes = Passes(model, vllm_config, recorder, stubs)
        planned = scenarios(*passes.inputs(job["special_tokens"]))
        with stages.stage("passes"):
            ran = run_all(passes, planned)
        with stages.stage("guards"):
            behind_guards = guards.derived(passes, planned)
            planned += behind_guards
            ran += run_all(passes, behind_guards)
        observation_method = "counted" if recorder.counted else recorder.method
        telling = most_telling(planned, ran, list(recorder.layers))
        counter = passes.run_counted(telling) if telling and facts["flag"]["effective_when_true"] else None
        with stages.stage("compile"):
            compile_part = compiled.observe_compiled(job, passes, planned, {entry["name"]: entry for entry in ran})
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
            "scenarios": ran,
            "compile": compile_part,
            "assumptions": stubs.used,
            "sources": source_hashes(model, recorder.layers),
        }
    del model, vllm_config, recorder, passes
    gc.collect()
    return report


def most_telling(planned: list[Scenario], ran: list[Json], registered: list[str]) -> Scenario | None:
    """The first scenario whose order a counter would resolve wrongly, else the first with MoE calls."""
    orders = {entry["name"]: entry["passes"] for entry in ran}
    first = None
    for scenario in planned:
        for order in filter(None, orders[scenario.name]):
            if order != registered[: len(order)]:
                return scenario
            first = first or scenario
    return first


def made_up(plain: bool, config: Json) -> list[dict[str, str]]:
    """What stands in for the checkpoint, the encoder and a remote config class."""
    assumptions = [{"kind": "weights_random", "detail": "uniform in +-1e-3"}]
    if engine.is_multimodal(config):
        assumptions.append({"kind": "encoder_skipped", "detail": "encoder outputs are zeros"})
    if plain:
        assumptions.append({"kind": "plain_config", "detail": f"model_type {config['model_type']}"})
    return assumptions


def check_architecture(job: Json, failed_plugins: list[dict[str, str]]) -> None:
    """Refuse early, in words, what vLLM would refuse with a long list.

    Args:
        job: the model.
        failed_plugins: as of `plugins.load`; one of them may have been to register the architecture.
    """
    import transformers
    from vllm import ModelRegistry

    architectures = job["config"]["architectures"]
    supported = ModelRegistry.get_supported_archs()
    if any(name in supported or hasattr(transformers, name) for name in architectures) or job["trust_remote_code"]:
        return
    if "auto_map" in job["config"]:
        raise NotProbed("remote_code", f"{architectures[0]} exists only as remote code, which was not run.")
    unknown = f"This vLLM registers no architecture {architectures[0]}"
    if failed_plugins:
        raise NotProbed("plugin", f"{unknown}, and could not load its plugin {plugins.words(failed_plugins)}.")
    raise NotProbed("unknown_architecture", f"{unknown}.")
