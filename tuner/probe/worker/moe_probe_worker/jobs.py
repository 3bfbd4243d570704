"""Handles one request: probes its models, or lists the architectures that vLLM registers.

Files in the control folder:
- `request.json`: written by the host.
- `environment.json`: written after vLLM is imported.
- `report-N.json`: one for each model, in the order of the request. The first
  missing file shows which model crashed or hung.
- `registry.json`: written in place of the reports if the request has `list` true.
"""

import os
import time
import traceback
from pathlib import Path

from moe_probe_worker import engine, probe, registry
from shared_worker.control import read_json, write_json
from shared_worker.errors import error_fields, is_out_of_memory
from shared_worker.parent import end_with_parent
from shared_worker.vllm_types import Json


def main(control: Path) -> None:
    """Probe every model of the request in order, or list what vLLM registers.

    Args:
        control: the control folder.
    """
    end_with_parent()
    request = read_json(control / "request.json")
    try:
        facts = engine.start(control)
    except Exception as error:
        traceback.print_exc()
        failure = {"plugin": getattr(error, "plugin", ""), **error_fields(error)}
        write_json(control / "environment.json", {"result": "failed", **failure})
        return
    write_json(control / "environment.json", {"result": "ok", **facts})
    if request.get("list"):
        write_json(control / "registry.json", list_registered(facts))
        return
    for job in request["models"]:
        write_json(control / f"report-{job['index']}.json", attempt(job, facts))


def list_registered(facts: Json) -> Json:
    """The content of `registry.json`: every registered architecture, or the error. It does not raise an exception."""
    begin = time.monotonic()
    try:
        architectures = registry.listing()
    except Exception as error:
        traceback.print_exc()
        return {"result": "failed", **error_fields(error)}
    seconds = round(time.monotonic() - begin, 3)
    return {"result": "ok", "environment": facts["environment"], "seconds": seconds, "architectures": architectures}


def attempt(job: Json, facts: Json) -> Json:
    """Probe one model and restore the environment variables. It does not raise an exception.

    vLLM 0.32.0 sets a variable for some models to turn compiling off (vllm/config/vllm.py). The next model must not
    see it.

    Returns:
        The content of `report-N.json`: the report, or `result` `failed` with the error.
    """
    before = dict(os.environ)
    try:
        return probe_model(job, facts)
    finally:
        os.environ.clear()
        os.environ.update(before)


def probe_model(job: Json, facts: Json) -> Json:
    """As `attempt`, but does not restore the environment variables."""
    try:
        return probe.observe(job, facts)
    except probe.NotProbed as error:
        return {"result": "failed", "kind": error.kind, "message": str(error)}
    except NotImplementedError as error:  # vLLM raises it if the platform lacks a kernel
        return {"result": "failed", "kind": "kernel_missing", **error_fields(error)}
    except Exception as error:
        traceback.print_exc()
        kind = "memory" if is_out_of_memory(error) else "model"
        return {"result": "failed", "kind": kind, **error_fields(error)}
