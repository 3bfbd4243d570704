"""The models of the zoo: what is true of each by construction, and what the probe may say of it."""

from typing import NamedTuple

UNDECIDED = ("not_compiled", "inconclusive")
"""Words that claim nothing; vLLM compiles no class of the zoo."""


class Truth(NamedTuple):
    """One model.

    Attributes:
        verdict: what is true of it.
        witnessed: whether some scenario of the order probe makes it leave the registered order.
        layers: layers of its config.
    """

    verdict: str
    witnessed: bool = False
    layers: int = 6

    @property
    def accepted(self) -> tuple[str, ...]:
        """What a probe may answer: the truth alone where it has a witness; never `uniform` for an unsafe model."""
        return (self.verdict,) if self.witnessed else (self.verdict, *UNDECIDED)


ZOO = {
    "Plain": Truth("uniform"),
    "ConfigBranch": Truth("uniform"),
    "PrefixExit": Truth("uniform"),
    "HarmlessBranch": Truth("uniform"),
    "SameCalls": Truth("uniform"),
    "RareRaise": Truth("uniform"),
    "UnusedExperts": Truth("reordered", witnessed=True),
    "Reverse": Truth("reordered", witnessed=True),
    "Tied": Truth("repeated", witnessed=True),
    "DecodeOnlySkip": Truth("conditional", witnessed=True),
    "TokenSwitch": Truth("conditional", witnessed=True),
    "HiddenTokenSwitch": Truth("conditional", witnessed=False),
    "LongContextSwitch": Truth("conditional", witnessed=False),
    "LargePrefillSwitch": Truth("conditional", witnessed=True),
    "PositionsSwitch": Truth("conditional", witnessed=True),
    "ExactBatchSwitch": Truth("conditional", witnessed=True),
    "RemainderSwitch": Truth("conditional", witnessed=True),
    "NestedSizesSwitch": Truth("conditional", witnessed=True),
    "OrderSwap": Truth("conditional", witnessed=True),
    "MaskSwitch": Truth("conditional", witnessed=False),
    "RandomSkip": Truth("conditional", witnessed=True),
    "TrySwitch": Truth("conditional", witnessed=True),
    "StatefulSwitch": Truth("conditional", witnessed=True),
    "HelperSwitch": Truth("conditional", witnessed=False),
    "MiddleSkip": Truth("conditional", witnessed=True, layers=16),
    "ConstantMiddleSkip": Truth("reordered", witnessed=True, layers=16),
    "ModalitySwitch": Truth("conditional", witnessed=True),
    "Locals": Truth("uniform"),
    "Parity": Truth("conditional", witnessed=True),
    "Marked": Truth("conditional", witnessed=False),
    "HelperObject": Truth("conditional", witnessed=False),
    "Closure": Truth("conditional", witnessed=False),
    "Partial": Truth("conditional", witnessed=False),
    "Nested": Truth("conditional", witnessed=False),
    "Generator": Truth("conditional", witnessed=False),
    "Filter": Truth("conditional", witnessed=False),
    "Sorted": Truth("conditional", witnessed=False),
    "Dispatch": Truth("conditional", witnessed=False),
    "Getattr": Truth("conditional", witnessed=False),
    "While": Truth("conditional", witnessed=False),
    "Match": Truth("conditional", witnessed=False),
    "Swapped": Truth("conditional", witnessed=False),
    "Raised": Truth("conditional", witnessed=False),
    "ExtraLoop": Truth("conditional", witnessed=False),
    "NoCase": Truth("conditional", witnessed=False),
    "HiddenClock": Truth("conditional", witnessed=False),
    "GlobalNumber": Truth("conditional", witnessed=False),
    "GlobalDict": Truth("conditional", witnessed=False),
    "Property": Truth("conditional", witnessed=False),
    "TensorList": Truth("conditional", witnessed=False),
    "Hasattr": Truth("conditional", witnessed=False),
    "ClassCounter": Truth("conditional", witnessed=False),
    "OverflowSkip": Truth("conditional", witnessed=False),
    "OverflowChoice": Truth("conditional", witnessed=False),
    "OverflowIndex": Truth("conditional", witnessed=False),
    "OverflowLoop": Truth("conditional", witnessed=False),
    "OverflowHandler": Truth("conditional", witnessed=False),
    "OverflowAnd": Truth("conditional", witnessed=False),
}
"""Name without `ForCausalLM` -> truth. Without a witness the branch depends on the values of a tensor, which no derived
input reaches, or on a number of passes, each time hidden in another construct of Python."""
