"""Why `fast_moe_cold_start` has the value that an engine runs with. Pure.

vLLM decides in this order (vllm/config/vllm.py and vllm/model_executor/models/config.py, 0.17.0 to 0.33.0). It turns
the flag off for an architecture by its name. It forces it off with torch 2.11 or later. Where nothing has set it, it
turns it off beside a draft, and on without one. A log does not say which torch runs: the decision tells, or what the
other facts leave over.
"""

from dataclasses import dataclass
from enum import StrEnum

from rules.releases import Counter, FlagStatus, is_same_version, named_release, releases_for, turns_off_by_itself
from tuner.confirm.expected import Written
from tuner.server_log.engine_line import EngineConfig, FlagValue, NoDraft, Speculative
from tuner.server_log.log import Start


class FlagCause(StrEnum):
    """Who gave the flag its value."""

    RELEASE = "release"
    """vLLM forces it off with this torch, whatever the launch says."""
    ARCHITECTURE = "architecture"
    """vLLM turns it off for this architecture by its name."""
    DRAFT = "draft"
    """vLLM turns it off beside speculative decoding."""
    LAUNCH = "launch"
    """The arguments of the launch set it."""
    DEFAULT = "default"
    """Nothing set it: on is what vLLM does without a draft."""
    UNKNOWN = "unknown"
    """The log does not tell."""


@dataclass(frozen=True)
class _Facts:
    """What the cause depends on.

    Attributes:
        config: what the engine's line says.
        launch: what the launch says of the flag.
        status: what the flag can do there.
        architecture: the class of the model; None if it is not known.
    """

    config: EngineConfig
    launch: FlagValue
    status: FlagStatus
    architecture: str | None


def flag_cause(config: EngineConfig, start: Start, written: Written | None) -> FlagCause:
    """Who gave the flag its value in an engine; for a flag that is on or off."""
    is_of_this_release = written is not None and is_same_version(written.vllm, config.vllm or "")
    status = written.status if written is not None and is_of_this_release else FlagStatus.UNKNOWN
    architecture = start.architecture or (written.architecture if written else None)
    facts = _Facts(config, _launch_flag(start, written), status, architecture)
    return _why_on(facts) if config.flag is FlagValue.ON else _why_off(facts)


def cause_text(cause: FlagCause, config: EngineConfig) -> str:
    """The cause as half a sentence for people."""
    version = f"vLLM {config.vllm}" if config.vllm else "vLLM"
    return {
        FlagCause.RELEASE: f"{version} forces it off with torch 2.11 or later",
        FlagCause.ARCHITECTURE: f"{version} turns it off for this architecture",
        FlagCause.DRAFT: f"{version} turns it off beside speculative decoding",
        FlagCause.LAUNCH: "the launch sets it",
        FlagCause.DEFAULT: "the launch does not set it, and on is vLLM's default",
        FlagCause.UNKNOWN: "the log does not say why",
    }[cause]


def _launch_flag(start: Start, written: Written | None) -> FlagValue:
    """What the launch says: as vLLM printed its arguments, else as the decision wrote them."""
    if start.launch_flag is not FlagValue.UNSAID or written is None:
        return start.launch_flag
    if written.flag is None:
        return FlagValue.UNSET
    return FlagValue.ON if written.flag else FlagValue.OFF


def _why_on(facts: _Facts) -> FlagCause:
    if facts.launch is FlagValue.ON:
        return FlagCause.LAUNCH
    is_default = facts.launch is FlagValue.UNSET and facts.config.speculative is NoDraft.NONE
    return FlagCause.DEFAULT if is_default else FlagCause.UNKNOWN


def _why_off(facts: _Facts) -> FlagCause:
    if facts.status is FlagStatus.INERT:
        return FlagCause.RELEASE
    if facts.architecture is not None and turns_off_by_itself(facts.config.vllm, facts.architecture):
        return FlagCause.ARCHITECTURE
    if facts.launch is FlagValue.OFF:
        return FlagCause.LAUNCH
    if facts.launch is FlagValue.UNSAID:
        return FlagCause.UNKNOWN
    return _why_off_against_the_launch(facts)


def _why_off_against_the_launch(facts: _Facts) -> FlagCause:
    """The launch does not turn it off, and the release was not read to force it off: what else may have."""
    may_be_guard = facts.launch is FlagValue.UNSET and facts.config.speculative is not NoDraft.NONE
    if facts.status is FlagStatus.SETTABLE:
        has_draft = isinstance(facts.config.speculative, Speculative)
        return FlagCause.DRAFT if may_be_guard and has_draft else FlagCause.UNKNOWN
    if may_be_guard or facts.architecture is None or not _forces_off_with_new_torch(facts.config.vllm):
        return FlagCause.UNKNOWN
    return FlagCause.RELEASE


def _forces_off_with_new_torch(vllm: str | None) -> bool:
    version = named_release(vllm)
    rows = releases_for(version) if version is not None else ()
    return bool(rows) and all(row.gpu is Counter.FLAG_OLD_TORCH for row in rows)
