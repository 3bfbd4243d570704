"""Reads one request and writes its answers.

The file `request.json` holds a launch and a question. The file `result-N.json` holds answer number N.

The question `factors` asks for the values from which vLLM makes the keys of its compile cache. It has one answer.
The other questions have one answer for each entry of `engines` in the request. For them the worker also writes
`ready.json`, once vLLM is imported:

- `replay`: which MoE layers run in the engine.
- `proof`: how vLLM traces the model of a launch. Here each entry of `engines` is a launch with its own `args`.
"""

import os
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from shared_worker.control import read_json, write_json
from shared_worker.errors import error_fields
from shared_worker.parent import end_with_parent
from vllm_launch_worker import (
    configs,
    construction,
    forks,
    key,
    launch,
    replay,
    sources,
    stand_ins,
    system,
    variables,
)
from vllm_launch_worker.proof import observe


def main(control: Path) -> None:
    """Answer the request in the control folder."""
    end_with_parent()
    request = read_json(control / "request.json")
    os.chdir(request["folder"])  # the path of a model may be relative
    question = request["question"]
    if question in OF_ENGINES:
        answer_each(request, control)
    else:
        write_json(result_file(control, 0), result_of(question, lambda: ALONE[question](request, control)))


def answer_each(request: dict[str, Any], control: Path) -> None:
    """Write one answer for each engine. If one engine fails, the others still run."""
    ready = result_of("ready", lambda: prepare(request, control))
    write_json(control / "ready.json", {"result": "ok"})  # the host's time limit for an engine starts here
    for number, engine in enumerate(request["engines"]):
        file = result_file(control, number)
        if ready["result"] != "ok":
            write_json(file, ready)
            continue
        ending = forks.run_in_fork(partial(answer_of_engine, {**request, **engine}, file), control / f"engine-{number}")
        if not file.exists():
            write_json(file, {"result": "ended", "how": ending})


def prepare(request: dict[str, Any], control: Path) -> None:
    """Import vLLM once for all engines of the request."""
    if request["question"] == "proof":
        observe.prepare(control)
    else:
        forks.prepare(request["args"], control)


def answer_of_engine(request: dict[str, Any], file: Path, folder: Path) -> None:
    """Write the answer of one engine. This function runs in the engine's own process."""
    end_with_parent()
    question = request["question"]
    write_json(file, result_of(question, lambda: OF_ENGINES[question](request, folder)))


def result_of(name: str, function: Callable[[], object]) -> dict[str, Any]:
    """Call a function.

    Returns:
        `result`: `ok` or `failed`. If `ok`, the function's value is stored under `name`. If `failed`, see
        `errors.error_fields`.
    """
    try:
        return {"result": "ok", name: function()}
    except (Exception, SystemExit) as error:  # vLLM's parser raises SystemExit if it refuses an argument
        traceback.print_exc()
        return {"result": "failed", **error_fields(error)}


def result_file(control: Path, number: int) -> Path:
    """The file for answer number `number`."""
    return control / f"result-{number}.json"


def factors(request: dict[str, Any], control: Path) -> dict[str, Any]:
    """The values from which vLLM makes the keys of its compile cache for this launch.

    Args:
        request: `args`: the arguments of `vllm serve`.
        control: a folder that only this process uses.

    Returns:
        JSON values. `system`: versions and the device (`system.versions`). `variables`: environment variables
        (`variables.factors`). `config`: the hash of vLLM's config and its parts (`configs.factors`). `keys`: the names
        of the artifact folders (`key.keys`). `compiles`: how the launch compiles (`key.compiles`). `sources`: digests
        of source files (`sources.digests`). `paths`: folders that are part of a key (`system.paths`).
    """
    environ = dict(os.environ)  # a copy, because vLLM sets variables later
    vllm_config = launch.engine_config(request["args"])
    built_model = construction.construct(vllm_config, control)
    return {
        "system": system.versions(),
        "variables": variables.factors(),
        "config": configs.factors(vllm_config),
        "keys": key.keys(vllm_config, built_model),
        "compiles": key.compiles(vllm_config),
        "sources": sources.digests(vllm_config),
        "paths": system.paths(environ),
    }


ALONE = {"factors": factors}
"""Question with one answer -> the function that answers it."""
OF_ENGINES = {"proof": stand_ins.observe, "replay": replay.observe}
"""Question with one answer for each engine -> the function that answers it for one engine."""
