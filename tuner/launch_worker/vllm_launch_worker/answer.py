"""One request, one answer: `request.json` holds a launch and a question, `result.json` the answer or why there is none.

The questions: `factors`, what the compile cache's keys are made of; `replay`, which MoE layers run in its engine; and
`output`, what its engine answers.
"""

import ctypes
import os
import signal
import traceback
from contextlib import suppress
from pathlib import Path

from vllm_launch_worker import configs, construction, key, launch, output, replay, sources, system, variables
from vllm_launch_worker.control import read_json, write_json

PR_SET_PDEATHSIG = 1
"""Of Linux's `prctl`."""


def main(control: Path) -> None:
    """Answer the request in the control folder."""
    with suppress(OSError, AttributeError):  # the kernel ends this process when the host is gone; Linux alone offers it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    request = read_json(control / "request.json")
    try:
        os.chdir(request["folder"])  # a model may be named by a relative path
        question = request["question"]
        answer = {"result": "ok", question: QUESTIONS[question](request, control)}
    except (Exception, SystemExit) as error:  # vLLM's parser ends the process for arguments that it refuses
        traceback.print_exc()
        answer = {"result": "failed", **described(error)}
    write_json(control / "result.json", answer)


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


QUESTIONS = {"factors": factors, "replay": replay.observe, "output": output.observe}


def described(error: BaseException) -> dict:
    """The exception in one line, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:3])[:400]
    return {"message": f"{type(error).__name__}: {said}" if said else type(error).__name__, "where": where}
