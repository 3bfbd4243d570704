"""The shape of a document of factors, which a worker or a record of a warm-up gives. Pure.

`tuner.compile_cache.factors` says what the parts mean. Fields that are not named here are allowed.
"""

from collections.abc import Mapping
from typing import Any, TypedDict

import msgspec

from tuner.untrusted.fitting import fitted

SCHEMA_VERSION = 1
PARTS = ("system", "variables", "config", "keys", "compiles", "sources", "paths")


class System(TypedDict):
    """Versions, platform and GPU."""

    vllm: str
    torch: str | None
    triton: str | None
    python: str
    platform: str
    gpu: str | None
    inductor: dict[str, Any]


class Variables(TypedDict):
    """The environment variables that this release hashes."""

    values: dict[str, Any]
    hash: str


class ConfigPart(TypedDict, total=False):
    """One config; a part that vLLM hashes as a whole has no factors."""

    factors: dict[str, Any]
    hash: str | None


class Config(TypedDict):
    """All configs."""

    parts: dict[str, ConfigPart]
    hash: str


class Module(TypedDict):
    """A compiled module; `line`: where its function begins."""

    file: str
    line: int


class Artifact(Module):
    """A compiled module with an artifact ahead of time."""

    module: str
    function: str
    key: str


class Graphs(TypedDict):
    """What names the folder of graphs."""

    compiler_hash: str
    modules: list[Module]
    cache_dir: str
    disabled: bool
    unknown: str


class Keys(TypedDict):
    """The names of folders, and what they were made of."""

    aot: list[Artifact]
    parts: dict[str, Any]
    unknown: str
    graphs: Graphs


class Compiles(TypedDict):
    """How the launch compiles."""

    aot: bool
    mega: bool
    disabled: bool
    loads_own_alone: bool
    mode: Any
    backend: Any


class Factors(TypedDict):
    """The document."""

    system: System
    variables: Variables
    config: Config
    keys: Keys
    compiles: Compiles
    sources: dict[str, Any]
    paths: dict[str, Any]


def is_factors(document: Mapping[str, Any]) -> bool:
    """Whether this is meant as a document of this release; it may be damaged inside."""
    parts = map(document.get, PARTS)
    return document.get("schema_version") == SCHEMA_VERSION and all(isinstance(part, Mapping) for part in parts)


def is_whole(document: Mapping[str, Any]) -> bool:
    """Whether a document has every field that is read, each of its type."""
    try:
        fitted(document, Factors)
    except (msgspec.ValidationError, RecursionError):
        return False
    return True
