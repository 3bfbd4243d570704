"""Digests of the source files that a trace may visit. If a visited file changed, vLLM does not load the artifact."""

from pathlib import Path

from shared_worker.installed import digest
from shared_worker.vllm_types import VllmConfig

TRACED = ("model_executor/models", "model_executor/layers", "models")
"""The folders of vLLM with code that runs inside a traced `forward`. `models` exists only in releases after 0.26.0."""


def digests(vllm_config: VllmConfig) -> dict[str, str]:
    """Name of each source file -> sha256 in hexadecimal digits.

    The files of vLLM are named `vllm/PATH`, and the files of the model's own code `model/FILE`. Which of the files a
    trace visits is known only after the trace, so the result may hold files that it does not visit.
    """
    import vllm

    package = Path(vllm.__file__).parent
    by_name: dict[str, str] = {}
    for folder in TRACED:
        for file in (package / folder).rglob("*.py"):
            by_name[name_of(str(file))] = digest(file)
    model = Path(vllm_config.model_config.model)
    if model.is_dir():
        for file in model.glob("*.py"):
            by_name[f"model/{file.name}"] = digest(file)
    return dict(sorted(by_name.items()))


def name_of(file: str) -> str:
    """The name of a source file as in `digests`. For a file outside of vLLM's folder it is the path itself."""
    import vllm

    package = Path(vllm.__file__).parent
    path = Path(file)
    return str(Path("vllm", path.relative_to(package))) if path.is_relative_to(package) else file
