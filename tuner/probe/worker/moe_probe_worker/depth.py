"""The model once more with every layer, if layers were cut: this shows what the cut model cannot.

A model cut to a few layers no longer skips its middle ones, and code that asks
for a layer by number may never find it. Every layer is built, without expert
compute, and a few scenarios run.
"""

import gc

from moe_probe_worker import engine
from moe_probe_worker.passes import Passes, run_all
from moe_probe_worker.recorder import Recorder, registered_layers
from moe_probe_worker.scenarios import learning, scenarios
from moe_probe_worker.stubs import Stubs
from shared_worker.errors import in_one_line
from shared_worker.vllm_types import Json

MOST_SCENARIOS = 4


def observe_whole(job: Json, report: Json) -> Json | None:
    """The report's `whole`; a failure here does not affect the rest of the report.

    Args:
        job: the model.
        report: what its cut form showed.

    Returns:
        None where no layer was cut, else `status` (`ran`, `failed`, `not_applicable`: the cut form left the registered
        order already), `detail` (the reason), `registered` and `scenarios`.
    """
    if job["deep"] is None:
        return None
    entry = {"status": "ran", "detail": "", "registered": [], "scenarios": []}
    if leaves_the_order(report):
        return {**entry, "status": "not_applicable", "detail": "The cut model left the registered order already."}
    try:
        return {**entry, **run_whole(job)}
    except Exception as error:
        return {**entry, "status": "failed", "detail": in_one_line(error)}
    finally:
        gc.collect()


def run_whole(job: Json) -> Json:
    """Layers and scenarios of the model with every layer; a failure is raised."""
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
    """Whether the layers of some pass are not a prefix of the registered order."""
    registered = report["registered"]
    for scenario in report["scenarios"]:
        for order in scenario["passes"]:
            if order != registered[: len(order)]:
                return True
    return False
