"""The part of a report that the proof of a launch gave: what vLLM's own trace of each of its processes showed."""

from typing import Literal

from pydantic import Field, model_validator

from rules.report_part import Assumption, Part


class Failure(Part):
    """A condition of the proof that does not hold, or an observation that is missing.

    Attributes:
        code: what it is; `rules.proof_finding` has the sentence.
        condition: 1 to 4 (see `rules.proof_finding.CONDITIONS`); 0: the launch could not be built or traced.
        fields: what the sentence needs, such as `file` and `line`.
    """

    code: str = Field(min_length=1)
    condition: int = Field(ge=0, le=4)
    fields: dict[str, str | int]


class Guard(Part):
    """A guard on a size, which vLLM drops: compiled code may differ from eager code there."""

    expression: str
    file: str
    line: int = Field(ge=0)


class Rank(Part):
    """One process of the launch, built and traced by itself.

    Attributes:
        name: such as `rank 0 of 1`, or `pipeline stage 1 of 2, tensor 0 of 2`.
        status: `not_compiled`: vLLM compiles no part of it that holds a MoE layer; `failed`: it could not be built.
        failures: all that speaks against it.
        registered: MoE layer names in construction order (`static_all_moe_layers`).
        calls: the layers in the order in which the traced graph calls them.
        guards: at most 50.
        assumptions: what was otherwise than in the launch.
        seconds: wall seconds by stage.
    """

    name: str = Field(min_length=1)
    status: Literal["traced", "not_compiled", "failed"]
    failures: tuple[Failure, ...]
    registered: tuple[str, ...]
    calls: tuple[str, ...]
    guards: tuple[Guard, ...]
    assumptions: tuple[Assumption, ...]
    seconds: dict[str, float]


class Proof(Part):
    """What the trace of one launch showed.

    Attributes:
        key: of the launch; see `rules.launch_key`.
        arguments: those that can reach the model, for showing.
        platform: that of the machine it was made on: `cpu`, `cuda` and so on.
        made_at: ISO 8601 in UTC.
        worker: digest of the launch worker's files.
        ranks: every process that differs from the others.
        variables: sha256 of the value of each environment variable that was read; empty where it was not set.
        fields: the fields of `VllmConfig` that were read, such as `scheduler_config.max_num_seqs`.
        sources: sha256 of each file whose code ran, by its path below an entry of `sys.path`.
    """

    key: str = Field(min_length=1)
    arguments: tuple[str, ...]
    platform: str = Field(min_length=1)
    made_at: str
    worker: str
    ranks: tuple[Rank, ...]
    variables: dict[str, str]
    fields: tuple[str, ...]
    sources: dict[str, str]

    @model_validator(mode="after")
    def _names_agree(self) -> "Proof":
        if len({rank.name for rank in self.ranks}) != len(self.ranks):
            raise ValueError("a rank is named twice")
        return self
