"""What the arms of a launch show."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct, field

from rules.arms import FLAG_OFF, FLAG_ON
from rules.reason import Reason


class ArmWord(StrEnum):
    """What an arm's answers are."""

    RIGHT = "right"
    """They agree with those of the eager engine, step by step along the ladder."""
    WRONG = "wrong"
    """They differ by more than rounding and noise, or what enters the experts is frozen."""
    UNKNOWN = "unknown"
    """They could not be compared, or the noise hides what differs."""
    NOT_STARTED = "not_started"
    """The arm does not start, or it does not answer."""


class Remedy(Struct, frozen=True):
    """The change that is written into a launch.

    Attributes:
        arm: the name of the arm that was tried with it.
        config: keys of the compilation config.
        options: further arguments.
    """

    arm: str
    config: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


class LadderFinding(Struct, frozen=True):
    """What the arms of one launch show.

    Attributes:
        word: what the launch's own arm is.
        reasons: why, most important first.
        arms: name of each arm -> its word.
        arm_reasons: why.
        remedy: what to write into the launch; None if it is right as it stands, or if nothing that was tried helps.
        users: settings of the user that would have to change, because no other arm is right; empty if none would.
        instead: what would make the launch right if these settings changed; None without any.
        platform: on which it was tried.
        gpu: on which it was tried; empty without one.
    """

    word: ArmWord
    reasons: tuple[Reason, ...] = ()
    arms: Mapping[str, ArmWord] = field(default_factory=dict)
    arm_reasons: Mapping[str, Reason] = field(default_factory=dict)
    remedy: Remedy | None = None
    users: tuple[str, ...] = ()
    instead: Remedy | None = None
    platform: str = ""
    gpu: str = ""

    @property
    def flag_moves_answers(self) -> bool:
        """Whether the answers are wrong with the flag on and not with it off."""
        return self.arms.get(FLAG_ON) is ArmWord.WRONG and self.arms.get(FLAG_OFF) is not ArmWord.WRONG

    @property
    def users_keys_alone(self) -> bool:
        """Whether all settings of the user that would have to change are keys of the compilation config."""
        return not any(name.startswith("-") for name in self.users)
