"""The list of models of one request, one report each, or what vLLM registers.

Files in the control folder: `request.json` (from the host); `environment.json`
once vLLM is imported; `report-N.json` for each model in the order of the request,
so that the first one missing names the model that crashed or hung; `registry.json`
in their place for a request with `list` true.
"""

import os
import time
import traceback
from pathlib import Path

from moe_probe_worker import engine, probe, registry
from shared_worker.control import read_json, write_json
from shared_worker.errors import described
from shared_worker.parent import end_with_parent
from shared_worker.vllm_types import Json


def main(control: Path) -> None:
    """Probe every model of the request, in order, or list what vLLM registers."""
    end_with_parent()
    request = read_json(control / "request.json")
    try:
        facts = engine.start(control)
    except Exception as error:
        traceback.print_exc()
        failure = {"plugin": getattr(error, "plugin", ""), **described(error)}
        write_json(control / "environment.json", {"result": "failed", **failure})
        return
    write_json(control / "environment.json", {"result": "ok", **facts})
    if request.get("list"):
        write_json(control / "registry.json", listed(facts))
        return
    for job in request["models"]:
        write_json(control / f"report-{job['index']}.json", attempt(job, facts))


def listed(facts: Json) -> Json:
    """Every registered architecture and the environment, or the failure to list them as data."""
    begin = time.monotonic()
    try:
        architectures = registry.listing()
    except Exception as error:
        traceback.print_exc()
        return {"result": "failed", **described(error)}
    seconds = round(time.monotonic() - begin, 3)
    return {"result": "ok", "environment": facts["environment"], "seconds": seconds, "architectures": architectures}


def attempt(job: Json, facts: Json) -> Json:
    """One model's report, or its failure as data; vLLM's changes to the environment end with it.

    vLLM 0.32.0 turns compiling off for some models by setting a variable (vllm/config/vllm.py), for all that follow.
    """
    before = dict(os.environ)
    try:
        return observed(job, facts)
    finally:
        os.environ.clear()
        os.environ.update(before)


def observed(job: Json, facts: Json) -> Json:
    """`attempt`, with the environment left as it may be."""
    try:
        return probe.observe(job, facts)
    except probe.NotProbed as error:
        return {"result": "failed", "kind": error.kind, "message": str(error)}
    except NotImplementedError as error:  # vLLM's word for a kernel this platform lacks
        return {"result": "failed", "kind": "kernel_missing", **described(error)}
    except Exception as error:
        traceback.print_exc()
        return {"result": "failed", "kind": "model", **described(error)}
