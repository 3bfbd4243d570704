"""One request and its answers: `request.json` holds a launch and a question, `result-N.json` the answer number N.

The question `factors` (what the compile cache's keys are made of) has one answer. These have one answer for each of
the request's `engines`, and `ready.json` says that vLLM is imported:

- `replay`: which MoE layers run in the engine.
- `output`: what the engine answers.
- `proof`: how a launch's model is traced. Each of `engines` is then a launch with its own `args`.
"""

import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared_worker.control import read_json, write_json
from shared_worker.errors import described
from shared_worker.parent import end_with_parent
from vllm_launch_worker import configs, construction, forks, key, launch, output, replay, sources, system, variables
from vllm_launch_worker.proof import observe


def main(control: Path) -> None:
    """Answer the request in the control folder."""
    end_with_parent()
    request = read_json(control / "request.json")
    os.chdir(request["folder"])  # a model may be named by a relative path
    question = request["question"]
    if question in OF_ENGINES:
        answer_each(request, control)
    else:
        write_json(result(control, 0), answered(question, lambda: ALONE[question](request, control)))


def answer_each(request: dict[str, Any], control: Path) -> None:
    """Write one answer for each engine. The failure of one engine does not touch the others."""
    ready = answered("ready", lambda: prepare(request, control))
    write_json(control / "ready.json", {"result": "ok"})  # the host counts an engine's seconds from here on
    for number, engine in enumerate(request["engines"]):
        file = result(control, number)
        if ready["result"] != "ok":
            write_json(file, ready)
            continue
        how = forks.forked(partial(answer_of_engine, {**request, **engine}, file), control / f"engine-{number}")
        if not file.exists():
            write_json(file, {"result": "ended", "how": how})


def prepare(request: dict[str, Any], control: Path) -> None:
    """Import vLLM once for all engines of the request."""
    if request["question"] == "proof":
        observe.prepare(control)
    else:
        forks.prepare(request["args"], control)


def answer_of_engine(request: dict[str, Any], file: Path, folder: Path) -> None:
    """Write the answer of one engine; runs in the engine's own process."""
    end_with_parent()
    question = request["question"]
    write_json(file, answered(question, lambda: OF_ENGINES[question](request, folder)))


def answered(name: str, function: Callable[[], object]) -> dict[str, Any]:
    """The result of a function under this name, or why there is none."""
    try:
        return {"result": "ok", name: function()}
    except (Exception, SystemExit) as error:  # vLLM's parser ends the process for arguments that it refuses
        traceback.print_exc()
        return {"result": "failed", **described(error)}


def result(control: Path, number: int) -> Path:
    """The file of an answer."""
    return control / f"result-{number}.json"


def factors(request: dict[str, Any], control: Path) -> dict[str, Any]:
    """Everything that vLLM's keys for this launch are made of, as JSON values.

    Args:
        request: `args`, what stands behind `vllm serve`.
        control: a folder of this process alone.
    """
    environ = dict(os.environ)  # before vLLM sets some itself
    vllm_config = launch.engine_config(request["args"])
    built = construction.construct(vllm_config, control)
    return {
        "system": system.described(),
        "variables": variables.factors(),
        "config": configs.factors(vllm_config),
        "keys": key.keys(vllm_config, built),
        "compiles": key.compiles(vllm_config),
        "sources": sources.digests(vllm_config),
        "paths": system.paths(environ),
    }


ALONE = {"factors": factors}
OF_ENGINES = {"proof": observe.observe, "replay": replay.observe, "output": output.observe}
