"""What vLLM's compile-cache keys are made of for one launch, as the vLLM that will serve it says.

The document (`SCHEMA_VERSION`) is made by `launch_worker`, which computes with the installed release's own functions:

- `system`: versions, platform, GPU, and `inductor`'s digests of the machine and of torch;
- `variables`: `values` of each environment variable that this release hashes, and the `hash`;
- `config`: `parts`, each with its `hash` and `factors`, by name; and the `hash` of the whole;
- `keys`: `aot`, for each compiled module the folder's name below `torch_compile_cache/torch_aot_compile`; `parts`, what
  the names were made of; `unknown`, why there are none; `graphs`, what names `torch_compile_cache/<10 hex>` beside
  variables and config (`graphs.py` of the worker says what is in it);
- `compiles`: mode and backend, and how artifacts are stored;
- `sources`: sha256 of each source file that a trace may run through;
- `paths`: HOME, the XDG folders, and where vLLM is installed.

Values of variables and settings that look secret are replaced by the start of their sha256.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cache.secrets import without_secrets
from tuner.compile_cache.factors_document import SCHEMA_VERSION, is_whole
from tuner.engines.question import WorkerQuery, query_worker
from tuner.processes.answers import damaged

API_KEY = "VLLM_API_KEY"
LIMIT = 600.0
"""Seconds; 34 to 86 s were measured on two busy cores."""


def launch_factors(python: str, args: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    """The factors document of a launch from this working directory; the model is built without weights.

    Args:
        python: interpreter of the serving environment.
        args: what stands behind `vllm serve`.
        variables: all environment variables of the launch; its cache root is left alone.

    Raises:
        TunerError: kind `environment`, `control_folder` or `factors`: the interpreter does not start, no folder can be
            written, or vLLM refuses the launch; `memory` or `report`: the worker took too much, or answered nonsense.
    """
    answer = query_worker(WorkerQuery("factors", args, LIMIT), python, lambda control: _environment(control, variables))
    document = {"schema_version": SCHEMA_VERSION, **answer}
    if not is_whole(document):
        raise damaged("result.json", "its factors are not whole")
    return document


def _environment(control: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """The launch's own, without the cache root, which no release hashes: helpers of vLLM's write there.

    Of the secrets it keeps the one that vLLM hashes through 0.28.0; the worker names it by a digest.
    """
    hashed = {name: variables[name] for name in (API_KEY,) if name in variables}
    settings = {"VLLM_CACHE_ROOT": str(control / "cache"), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    return {**without_secrets(variables), **hashed, **settings}
