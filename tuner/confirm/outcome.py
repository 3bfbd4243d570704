"""What comes of comparing a decision with a server's log, as values."""

from dataclasses import dataclass
from enum import StrEnum

from tuner.confirm.flag_cause import FlagCause
from tuner.server_log.log import ServerLog


class FactResult(StrEnum):
    """What came of one fact."""

    SAME = "same"
    """The log says what was written."""
    REPORTED = "reported"
    """Nothing was written about it, or there is no decision to compare with."""
    NOT_SAID = "not_said"
    """The log does not say it, or what it says proves nothing."""
    DIFFERS = "differs"
    """The log says otherwise."""


class Result(StrEnum):
    """What came of a whole log."""

    CONFIRMED = "confirmed"
    REPORTED = "reported"
    """There was no decision to compare with."""
    NOT_SAID = "not_said"
    DIFFERS = "differs"


@dataclass(frozen=True)
class Fact:
    """One fact.

    Attributes:
        name: what it is about.
        written: what the decision wrote, for people.
        effective: what the log says, for people.
        outcome: how the two compare.
        line: number of the line that says it, from 1; None if none does.
        note: why, where the values alone do not tell; may be empty.
        cause: of the flag alone: who gave it its value; None if the log does not say the value.
        why: the cause, for people; may be empty.
    """

    name: str
    written: str
    effective: str
    outcome: FactResult
    line: int | None
    note: str = ""
    cause: FlagCause | None = None
    why: str = ""


class Alarm(StrEnum):
    """What is wrong with a server that answers now."""

    NONE = "none"
    WRONG = "wrong_experts"
    """The flag is on, and the verdict says that it makes the server run wrong experts."""
    WRONG_SETTING = "wrong_setting"
    """It runs without the setting with which alone its answers are right, or its own settings were found wrong."""
    UNPROVED = "perhaps_wrong_experts"
    """The flag is on against the decision, and nothing proves that it is safe there."""


@dataclass(frozen=True)
class Confirmation:
    """A log and what came of it.

    Attributes:
        compared: there was a decision.
        facts: one for each thing that is looked at, always the same ones in the same order.
        log: what was read.
        notes: what a reader must know of the log itself; whole sentences.
        alarm: what is wrong with a server of this log that answers now.
    """

    compared: bool
    facts: tuple[Fact, ...]
    log: ServerLog
    notes: tuple[str, ...]
    alarm: Alarm

    @property
    def result(self) -> Result:
        """What came of the whole."""
        outcomes = {fact.outcome for fact in self.facts}
        if not self.log.engines:
            return Result.NOT_SAID
        if not self.compared:
            return Result.REPORTED
        if FactResult.DIFFERS in outcomes:
            return Result.DIFFERS
        return Result.NOT_SAID if FactResult.NOT_SAID in outcomes or self.log.cut else Result.CONFIRMED
