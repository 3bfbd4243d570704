"""Runs a few scenarios through the model with every layer, if the probe cut it to a few layers.

The whole model may behave differently from the cut one. For example, its code may
skip layers in the middle, or test for a layer number that the cut model lacks.
The experts do not compute in this run.
"""

import gc

from moe_probe_worker import engine
from moe_probe_worker.passes import Passes, run_all
from moe_probe_worker.recorder import Recorder, registered_layers
from moe_probe_worker.scenarios import learning, scenarios
from moe_probe_worker.stubs import Stubs
from shared_worker.errors import is_out_of_memory, with_place
from shared_worker.vllm_types import Json

MOST_SCENARIOS = 4
"""How many scenarios run at most."""


def observe_whole(job: Json, report: Json) -> Json | None:
    """Observe the model with every layer. An exception becomes part of the result, unless memory ran out.

    Args:
        job: the model.
        report: the report of the cut model.

    Returns:
        The report's `whole`. None if no layer was cut, else `status` (`ran`, `failed`, or `not_applicable`: the cut
        model already left the registered order), `detail` (the reason), `registered` and `scenarios`.
    """
    if job["deep"] is None:
        return None
    entry = {"status": "ran", "detail": "", "registered": [], "scenarios": []}
    if leaves_the_order(report):
        return {**entry, "status": "not_applicable", "detail": "The cut model left the registered order already."}
    try:
        return {**entry, **run_whole(job)}
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return {**entry, "status": "failed", "detail": with_place(error)}
    finally:
        gc.collect()


def run_whole(job: Json) -> Json:
    """Build the model with every layer and run the scenarios.

    Returns:
        `registered`: names of the MoE layers; `scenarios`: report entries.

    Raises:
        Exception: the model could not be built.
    """
    with Stubs() as stubs:
        vllm_config, model = engine.construct({**job, "config": job["deep"]}, stubs)
        engine.leave_experts(model)
        engine.fill_weights(model)
        engine.finish_weights(model, vllm_config, stubs)
        recorder = Recorder(registered_layers(vllm_config))
        recorder.stubbed = True
        passes = Passes(model, vllm_config, recorder, stubs)
        planned = learning(scenarios(*passes.inputs([])))[:MOST_SCENARIOS]
        return {"registered": list(recorder.layers), "scenarios": run_all(passes, planned)}


def leaves_the_order(report: Json) -> bool:
    """Whether any pass called other layers than the first ones of the registered order."""
    registered = report["registered"]
    for scenario in report["scenarios"]:
        for order in scenario["passes"]:
            if order != registered[: len(order)]:
                return True
    return False
