"""The source files that a trace may visit: vLLM loads an artifact only if the visited files are unchanged."""

from pathlib import Path

from shared_worker.installed import digest
from shared_worker.vllm_types import VllmConfig

TRACED = ("model_executor/models", "model_executor/layers", "models")
"""Folders of vLLM with code that runs inside a traced forward; `models` is newer than 0.26.0."""


def digests(vllm_config: VllmConfig) -> dict[str, str]:
    """Name of each source file -> sha256. vLLM's files are `vllm/PATH`, those of the model's own code `model/FILE`.

    Only vLLM knows, after a trace, which files the trace visited. A file that differs may be one that it did not visit.
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
    """The name of a source file as in `digests`; the path itself for a file that is not vLLM's."""
    import vllm

    package = Path(vllm.__file__).parent
    path = Path(file)
    return str(Path("vllm", path.relative_to(package))) if path.is_relative_to(package) else file
