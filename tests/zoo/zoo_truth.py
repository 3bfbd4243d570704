"""The models of the zoo: what is true of each by construction, and what the probe may say of it."""

from typing import NamedTuple


class Truth(NamedTuple):
    """One model.

    Attributes:
        verdict: what is true of it.
        accepted: what the probe may answer. `inconclusive` stands beside the truth only where no input can be
            derived from the code; `uniform` never stands beside an unsafe truth.
        layers: layers of its config.
    """

    verdict: str
    accepted: tuple[str, ...]
    layers: int = 6


SURE = {word: (word,) for word in ("uniform", "conditional", "reordered", "repeated")}
DOUBTED = ("conditional", "inconclusive")

ZOO = {
    "Plain": Truth("uniform", SURE["uniform"]),
    "ConfigBranch": Truth("uniform", SURE["uniform"]),
    "PrefixExit": Truth("uniform", SURE["uniform"]),
    "HarmlessBranch": Truth("uniform", SURE["uniform"]),
    "SameCalls": Truth("uniform", SURE["uniform"]),
    "RareRaise": Truth("uniform", SURE["uniform"]),
    "UnusedExperts": Truth("reordered", SURE["reordered"]),
    "Reverse": Truth("reordered", SURE["reordered"]),
    "Tied": Truth("repeated", SURE["repeated"]),
    "DecodeOnlySkip": Truth("conditional", SURE["conditional"]),
    "TokenSwitch": Truth("conditional", SURE["conditional"]),
    "HiddenTokenSwitch": Truth("conditional", SURE["conditional"]),
    "LongContextSwitch": Truth("conditional", SURE["conditional"]),
    "LargePrefillSwitch": Truth("conditional", SURE["conditional"]),
    "PositionsSwitch": Truth("conditional", SURE["conditional"]),
    "ExactBatchSwitch": Truth("conditional", SURE["conditional"]),
    "RemainderSwitch": Truth("conditional", SURE["conditional"]),
    "NestedSizesSwitch": Truth("conditional", SURE["conditional"]),
    "OrderSwap": Truth("conditional", SURE["conditional"]),
    "MaskSwitch": Truth("conditional", SURE["conditional"]),
    "RandomSkip": Truth("conditional", SURE["conditional"]),
    "TrySwitch": Truth("conditional", SURE["conditional"]),
    "StatefulSwitch": Truth("conditional", SURE["conditional"]),
    "HelperSwitch": Truth("conditional", SURE["conditional"]),
    "MiddleSkip": Truth("conditional", SURE["conditional"], layers=16),
    "ConstantMiddleSkip": Truth("reordered", SURE["reordered"], layers=16),
    "ModalitySwitch": Truth("conditional", SURE["conditional"]),
    "Locals": Truth("uniform", SURE["uniform"]),
    "Parity": Truth("conditional", DOUBTED),
    "Marked": Truth("conditional", DOUBTED),
    "HelperObject": Truth("conditional", DOUBTED),
    "Closure": Truth("conditional", DOUBTED),
    "Partial": Truth("conditional", DOUBTED),
    "Nested": Truth("conditional", DOUBTED),
    "Generator": Truth("conditional", DOUBTED),
    "Filter": Truth("conditional", DOUBTED),
    "Sorted": Truth("conditional", DOUBTED),
    "Dispatch": Truth("conditional", DOUBTED),
    "Getattr": Truth("conditional", DOUBTED),
    "While": Truth("conditional", DOUBTED),
    "Match": Truth("conditional", DOUBTED),
    "Swapped": Truth("conditional", DOUBTED),
    "Raised": Truth("conditional", DOUBTED),
    "ExtraLoop": Truth("conditional", DOUBTED),
    "NoCase": Truth("conditional", DOUBTED),
    "HiddenClock": Truth("conditional", DOUBTED),
    "GlobalNumber": Truth("conditional", DOUBTED),
    "GlobalDict": Truth("conditional", DOUBTED),
    "Property": Truth("conditional", DOUBTED),
    "TensorList": Truth("conditional", DOUBTED),
    "Hasattr": Truth("conditional", DOUBTED),
    "ClassCounter": Truth("conditional", DOUBTED),
    "OverflowSkip": Truth("conditional", DOUBTED),
    "OverflowChoice": Truth("conditional", DOUBTED),
    "OverflowIndex": Truth("conditional", DOUBTED),
    "OverflowLoop": Truth("conditional", DOUBTED),
    "OverflowHandler": Truth("conditional", DOUBTED),
    "OverflowAnd": Truth("conditional", DOUBTED),
}
"""Name without `ForCausalLM` -> truth. Where doubt is accepted, the branch depends on a sum that no derived input
reaches (or on a remainder), each time hidden in another construct of Python."""
