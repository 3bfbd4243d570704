"""One request, its answers: `request.json` holds a launch and a question, `result-N.json` what came of it.

Where there is an answer for each of several engines, `ready.json` says that vLLM is imported.

The questions: `factors`, what the compile cache's keys are made of, has one answer. `replay`, which MoE layers run in
its engine, and `output`, what its engine answers, have one for each of the request's `engines`; so has `proof`, how a
launch's model is traced, where each of `engines` is a launch with `args` of its own.
"""

import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

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


def answer_each(request: dict, control: Path) -> None:
    """One answer for each engine, whose failure is its own."""
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


def prepare(request: dict, control: Path) -> None:
    """Import vLLM once for all that is asked: engines of one launch, or launches."""
    if request["question"] == "proof":
        observe.prepare(control)
    else:
        forks.prepare(request["args"], control)


def answer_of_engine(request: dict, file: Path, folder: Path) -> None:
    """The answer of one engine, in its own process."""
    end_with_parent()
    question = request["question"]
    write_json(file, answered(question, lambda: OF_ENGINES[question](request, folder)))


def answered(name: str, function: Callable[[], object]) -> dict:
    """What a function returns under this name, or why it returned nothing."""
    try:
        return {"result": "ok", name: function()}
    except (Exception, SystemExit) as error:  # vLLM's parser ends the process for arguments that it refuses
        traceback.print_exc()
        return {"result": "failed", **described(error)}


def result(control: Path, number: int) -> Path:
    """The file of an answer."""
    return control / f"result-{number}.json"


def factors(request: dict, control: Path) -> dict:
    """Everything that vLLM's keys for this launch are made of, as JSON values.

    Args:
        request: `args`, what stands behind `vllm serve`.
        control: a folder of this process alone.
    """
    given = dict(os.environ)
    vllm_config = launch.engine_config(request["args"])
    built = construction.construct(vllm_config, control)
    return {
        "system": system.described(),
        "variables": variables.factors(),
        "config": configs.factors(vllm_config),
        "keys": key.keys(vllm_config, built),
        "compiles": key.compiles(vllm_config),
        "sources": sources.digests(vllm_config),
        "paths": system.paths(given),
    }


ALONE = {"factors": factors}
OF_ENGINES = {"proof": observe.observe, "replay": replay.observe, "output": output.observe}
