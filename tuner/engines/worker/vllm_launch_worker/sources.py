"""The source files that a trace may run through: an artifact is loaded only if those that it did are unchanged."""

from pathlib import Path

from shared_worker.installed import digest

TRACED = ("model_executor/models", "model_executor/layers", "models")
"""Folders of vLLM with code that runs inside a traced forward; `models` is newer than 0.26.0."""


def digests(vllm_config) -> dict:
    """sha256 of each file, by `vllm/` and its path there; of the model's own code, by `model/` and its name.

    Which files a trace really visits is known to vLLM alone, after it: a file here that differs may be one that is not.
    """
    import vllm

    package = Path(vllm.__file__).parent
    found = {name_of(str(file)): digest(file) for folder in TRACED for file in (package / folder).rglob("*.py")}
    own = Path(vllm_config.model_config.model)
    files = own.glob("*.py") if own.is_dir() else ()
    return dict(sorted((found | {f"model/{file.name}": digest(file) for file in files}).items()))


def name_of(file: str) -> str:
    """The name of a source file as in `digests`; the path itself for one that is not vLLM's."""
    import vllm

    package = Path(vllm.__file__).parent
    path = Path(file)
    return str(Path("vllm", path.relative_to(package))) if path.is_relative_to(package) else file
