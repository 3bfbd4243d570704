"""The source files that a trace may run through: an artifact is loaded only if those that it did are unchanged."""

import hashlib
from pathlib import Path

TRACED = ("model_executor/models", "model_executor/layers", "models")
"""Folders of vLLM with code that runs inside a traced forward; `models` is newer than 0.26.0."""


def digests(vllm_config) -> dict:
    """sha256 of each file, by its path below the folder of the packages; of the model's own code, `model/` and its path.

    Which files a trace really visits is known to vLLM alone, after it: a file here that differs may be one that is not.
    """
    import vllm

    package = Path(vllm.__file__).parent
    found = {
        str(Path("vllm", file.relative_to(package))): digest(file)
        for folder in TRACED
        for file in (package / folder).rglob("*.py")
    }
    own = Path(vllm_config.model_config.model)
    files = own.glob("*.py") if own.is_dir() else ()
    return dict(sorted((found | {f"model/{file.name}": digest(file) for file in files}).items()))


def digest(file: Path) -> str:
    """sha256 of the file's bytes, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
