"""An environment as a document: what `tuner env --json` prints and `--environment FILE` reads back."""

from typing import TYPE_CHECKING, Any

from rules.platforms import platform_of
from rules.releases import Flag, flag_status
from tuner.environment.environment import Environment

if TYPE_CHECKING:
    from rules.report import FlagObservation

SCHEMA_VERSION = 2
"""Of every document; changed when a field is removed or means something else, and not for new fields."""


def environment_document(environment: Environment) -> dict[str, Any]:
    """The whole document of one environment."""
    return {"schema_version": SCHEMA_VERSION, "environment": environment_part(environment, flag_in(environment))}


def environment_part(environment: Environment, flag: Flag) -> dict[str, Any]:
    """The serving environment and what the flag can do there."""
    return environment.to_dict() | {
        "flag_status": str(flag.status),
        "flag_reason": flag.reason,
        "flag_source": flag.source,
    }


def flag_in(environment: Environment, detected: "FlagObservation | None" = None) -> Flag:
    """What the flag can do in an environment: by what a probe observed there, its versions, its files, its plugins."""
    platform = platform_of(environment.platform, environment.platform_packages)
    return flag_status(environment.vllm, environment.torch, platform, detected, environment.flag_facts)
