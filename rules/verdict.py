"""The verdict: what a probe proved about the order of a model's MoE layers."""

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, Self

from msgspec import Struct, ValidationError, convert, field, to_builtins

from rules.ladder_finding import LadderFinding
from rules.proof_finding import ProofFinding
from rules.reason import DEEPEST, Reason

WRONG_LAYER = "wrong_layer"
"""Of an engine: another layer ran than the one that was meant; see `rules.replay`."""


class Word(StrEnum):
    """The seven verdicts. Only `uniform` and `no_moe` are safe."""

    UNIFORM = "uniform"
    """The plain launch is proved, and no pass was seen out of the registered order."""
    NO_MOE = "no_moe"
    """No MoE layer is registered and none ran."""
    REPEATED = "repeated"
    """Some layer ran twice in one pass."""
    CONDITIONAL = "conditional"
    """Passes differ, and at least one is not a prefix of the registered order."""
    REORDERED = "reordered"
    """Every pass ran the same order, and it is not a prefix of the registered order."""
    NOT_COMPILED = "not_compiled"
    """VLLM does not compile this model in the plain launch: the flag would save nothing. Neither safe nor unsafe."""
    INCONCLUSIVE = "inconclusive"
    """Anything less than proof."""

    @property
    def safe(self) -> bool:
        """Whether resolving MoE layers by counting is right for this model in its plain launch."""
        return self in {Word.UNIFORM, Word.NO_MOE}

    @property
    def unsafe(self) -> bool:
        """Whether a pass was seen that counting would resolve wrongly."""
        return self in {Word.REPEATED, Word.CONDITIONAL, Word.REORDERED}


class Witness(Struct, frozen=True):
    """The pass that proves an unsafe verdict.

    Attributes:
        scenario: name of the scenario whose pass is shown.
        registered: MoE layer names in construction order.
        executed: MoE layer names in the order this pass ran them.
        other_scenario: a scenario whose order differs; empty unless `conditional`.
        other_executed: the order of that scenario.
    """

    scenario: str
    registered: tuple[str, ...]
    executed: tuple[str, ...]
    other_scenario: str = ""
    other_executed: tuple[str, ...] = ()


class Verdict(Struct, frozen=True):
    """A judged report.

    Attributes:
        word: the verdict.
        reasons: why, most important first.
        witness: present for unsafe verdicts only.
        proofs: what the trace of each launch proves, by the key of the launch (see `rules.launch_key`).
        compile: `stable`: compiled and eager passes ran the same MoE layers; `frozen`: they did not; `unknown`.
        compile_reasons: why, for `frozen` and `unknown`.
        replays: what engines showed that were watched on the device, by name: `equal`, each call ran the layer that
            was meant; `wrong_layer`; `unknown`.
        replay_reasons: the passes behind each of these.
        ladders: what the arms of each launch show, by the key of the launch.
    """

    word: Word
    reasons: tuple[Reason, ...]
    witness: Witness | None = None
    proofs: Mapping[str, ProofFinding] = field(default_factory=dict)
    compile: str = "unknown"
    compile_reasons: tuple[Reason, ...] = ()
    replays: Mapping[str, str] = field(default_factory=dict)
    replay_reasons: Mapping[str, Reason] = field(default_factory=dict)
    ladders: Mapping[str, LadderFinding] = field(default_factory=dict)

    @property
    def depth(self) -> str:
        """How deep the evidence goes: `replay` once an engine showed its calls, else `order`."""
        return "replay" if set(self.replays.values()) - {"unknown"} else "order"

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which writes tuples as lists; `from_dict` reads both."""
        fields: dict[str, Any] = to_builtins(self)
        return fields

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ValueError: the mapping is not a verdict.
        """
        try:
            verdict = convert(data, cls)
        except (ValidationError, RecursionError) as error:
            raise ValueError(f"{error!s:.200}") from None
        # A field that was lost must not read as its default.
        _require_fields(data, cls)
        for finding in data["proofs"].values():
            _require_fields(finding, ProofFinding)
        for ladder in data["ladders"].values():
            _require_fields(ladder, LadderFinding)
        if any(reason.depth > DEEPEST for reason in verdict.all_reasons()):
            raise ValueError("a reason nests too many reasons")
        return verdict

    def all_reasons(self) -> Iterator[Reason]:
        """Each reason of the verdict and of its findings."""
        yield from self.reasons
        yield from self.compile_reasons
        yield from self.replay_reasons.values()
        for finding in self.proofs.values():
            yield from finding.reasons
        for ladder in self.ladders.values():
            yield from ladder.reasons
            yield from ladder.arm_reasons.values()


def _require_fields(data: Mapping[str, Any], shape: type[Struct]) -> None:
    names = set(shape.__struct_fields__)
    if set(data) != names:
        raise ValueError(f"a {shape.__name__} has the fields {', '.join(sorted(names))}")
