"""What the trace of a launch proves."""

from enum import StrEnum

from msgspec import Struct

from rules.launch_key import launch_key
from rules.reason import Reason

PLAIN = launch_key((), {})
"""Key of the launch of the model alone, without any argument that can reach it."""
BLIND = frozenset({"counted", "scenario_lost", "side_file"})
"""Codes of a verdict with which a wrong pass may have gone unseen, so that no launch gets a `true`."""


class ProofWord(StrEnum):
    """What the trace of a launch proves."""

    PROVED = "proved"
    """All conditions hold in every process: counting resolves every call of compiled code rightly."""
    NOT_COMPILED = "not_compiled"
    """vLLM compiles no part of the model that holds a MoE layer."""
    REFUTED = "refuted"
    """The compiled code calls the layers in an order that a counter resolves wrongly."""
    NOT_PROVED = "not_proved"
    """Anything less than proof."""


class ProofFinding(Struct, frozen=True):
    """What the trace of one launch proves.

    Attributes:
        word: the finding.
        reasons: why it is not proved, most important first, each once; empty for `proved`.
        arguments: those of the launch that can reach the model; empty for the plain launch.
        platform: on which it was traced.
        layers: how many MoE layers its processes register.
    """

    word: ProofWord
    reasons: tuple[Reason, ...] = ()
    arguments: tuple[str, ...] = ()
    platform: str = ""
    layers: int = 0

    @property
    def proved(self) -> bool:
        """Whether counting is right in this launch."""
        return self.word is ProofWord.PROVED
