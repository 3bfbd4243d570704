"""The probe's report, validated where it enters: nothing judged or stored goes round this.

A report holds observations and no conclusion. Where a lost field would read as "nothing was found", it has no default.
Its parts are frozen and of strict types, without infinities; unknown fields are ignored. The order probe gives most of
it; proofs come from the traces of launches, and replays and outputs from engines of a launch.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rules.errors import ReportError


class Part(BaseModel):
    """One part of a report."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)


class Assumption(Part):
    """One thing the probe did otherwise than the launch will: its kind, and what exactly."""

    kind: str
    detail: str


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


class ReplayPass(Part):
    """Equal passes of an engine.

    Attributes:
        request: name of the request that first caused one.
        called: the layer that the model meant, for each MoE call in order; None where something ran uncalled.
        ran: the layer that answered each call; None where none did.
        tokens: of the largest call, padding included.
        count: how often they ran.
        replayed: from captured CUDA graphs, with no Python in between.
        ambiguous: a call was made before the one before had run, so that which run answers which is not told.
    """

    request: str
    called: tuple[str | None, ...]
    ran: tuple[str | None, ...]
    tokens: int = Field(gt=0)
    count: int = Field(gt=0)
    replayed: bool
    ambiguous: bool

    @model_validator(mode="after")
    def _each_call_answered_or_not(self) -> "ReplayPass":
        if len(self.called) != len(self.ran):
            raise ValueError("a pass has as many runs as calls")
        return self


class Replay(Part):
    """An engine as a launch starts it, its MoE calls stamped on the device.

    Attributes:
        name: `flag_on` or `flag_off` where the flag was set for it; `as_launched` where nothing could be set.
        status: `failed`: the engine did not start or could not be watched.
        detail: the reason.
        made_at: ISO 8601 in UTC.
        engine: what the launch became: `mode`, `backend`, `cudagraph_mode`, `flag`, `enforce_eager`; of a replay
            `processes`, each of which has passes of its own.
        changed: what was otherwise than in the launch, in words.
        registered: MoE layer names in construction order.
        lost: records of the trace that did not fit.
        passes: all passes of all requests, equal ones once.
    """

    name: Literal["flag_on", "flag_off", "as_launched"]
    status: Literal["ran", "failed"]
    detail: str
    made_at: str
    engine: dict[str, str | bool | int | None]
    changed: tuple[str, ...]
    registered: tuple[str, ...]
    lost: int = Field(ge=0)
    passes: tuple[ReplayPass, ...]


class OutputPrompt(Part):
    """What an engine answered to one prompt, each time with its likeliest token; log-probabilities are in nats.

    Attributes:
        name: of the prompt, the same in every engine.
        repeats: name of the prompt of the same tokens in the same batch; empty where there is none.
        alone: no other prompt shared its batches, so that each added token was a pass of one token; these were given
            to the engine, and not its likeliest.
        given: log-probability of each token of the prompt after the first; None where it was no finite number.
        tokens: those that the engine added.
        made: log-probability of each of these.
    """

    name: str = Field(min_length=1)
    repeats: str
    alone: bool = False
    given: tuple[float | None, ...]
    tokens: tuple[int, ...]
    made: tuple[float | None, ...]

    @model_validator(mode="after")
    def _each_token_has_a_number(self) -> "OutputPrompt":
        if len(self.tokens) != len(self.made):
            raise ValueError("a prompt has as many added tokens as log-probabilities of them")
        return self


class Output(Part):
    """An engine of a launch as it is, and what it answered to the prompts that every engine gets.

    Attributes:
        name: `eager` and `eager_again`, without compiling and graphs; else as for `Replay`.
        status: `failed`: the engine did not start or did not answer.
        detail: the reason.
        made_at: ISO 8601 in UTC.
        engine: as for `Replay`.
        changed: what was otherwise than in the launch, in words.
        prompts: all of them.
    """

    name: Literal["eager", "eager_again", "flag_on", "flag_off", "as_launched"]
    status: Literal["ran", "failed"]
    detail: str
    made_at: str
    engine: dict[str, str | bool | int | None]
    changed: tuple[str, ...]
    prompts: tuple[OutputPrompt, ...]

    @model_validator(mode="after")
    def _names_agree(self) -> "Output":
        if len({prompt.name for prompt in self.prompts}) != len(self.prompts):
            raise ValueError("a prompt is named twice")
        return self


Order = tuple[str, ...]
"""MoE layer names in the order they ran."""


class Scenario(Part):
    """One kind of forward pass.

    Attributes:
        name: stable name of the scenario.
        tokens: tokens in the batch.
        status: `ran`; `failed`, the model raised; `not_applicable` to this model.
        detail: the exception or the reason.
        passes: executed orders of its forward contexts, which may hold an order only once however often it ran; one
            empty order if no MoE layer was seen.
        contexts: how many forward contexts ran; see `count`.
    """

    name: str = Field(min_length=1)
    tokens: int = Field(gt=0)
    status: Literal["ran", "failed", "not_applicable"]
    detail: str = ""
    passes: tuple[Order, ...] = ()
    contexts: int = Field(default=0, ge=0)

    @property
    def count(self) -> int:
        """How many forward contexts ran; a report that does not count them holds one order for each."""
        return max(self.contexts, len(self.passes))

    @model_validator(mode="after")
    def _passes_exactly_if_ran(self) -> "Scenario":
        if (self.status == "ran") != bool(self.passes):
            raise ValueError("a scenario has passes if and only if it ran")
        return self


class Flag(Part):
    """What the worker detected of `fast_moe_cold_start`; see `rules.releases.flag_status`."""

    field: Literal["absent", "attribute", "field"]
    effective_when_true: bool | None
    counter_ran: bool | None


class Counted(Part):
    """One scenario once more with the flag on.

    Attributes:
        scenario: name of the scenario.
        ran: whether MoE layers were resolved by counting.
        called: the layers the model meant, in order.
        resolved: the layer that ran for each call; None where none was seen.
        error: vLLM's message if the counter ran past its list.
    """

    scenario: str
    ran: bool
    called: Order
    resolved: tuple[str | None, ...]
    error: str


class Whole(Part):
    """The model with every layer, where the one that was probed had fewer.

    Attributes:
        status: `failed`: it could not be built or run here; `not_applicable` to this model.
        detail: the reason.
        registered: MoE layer names in construction order.
        scenarios: those that were run with it.
    """

    status: Literal["ran", "failed", "not_applicable"]
    detail: str
    registered: tuple[str, ...]
    scenarios: tuple[Scenario, ...]


class CompiledScenario(Part):
    """One scenario eager and compiled: the MoE layers that ran in each forward context."""

    name: str
    eager: tuple[Order, ...]
    compiled: tuple[Order, ...]


class Compiled(Part):
    """The scenarios once more in vLLM's compile mode, without CUDA graphs.

    Attributes:
        status: `failed`: the model does not compile, or a compiled pass raised; `not_applicable`: vLLM does not
            compile this class.
        detail: the reason.
    """

    status: Literal["ran", "failed", "not_applicable"]
    detail: str = ""
    scenarios: tuple[CompiledScenario, ...] = ()


class Report(Part):
    """What one probe observed of one model in one environment.

    Attributes:
        architecture: the class name vLLM resolved.
        environment: versions and platform as the worker saw them.
        flag: what was detected of the flag.
        registered: MoE layer names in construction order.
        observation_method: how calls were observed: `call_and_run`, `run`, the weaker `hook`, or `counted`: through the
            counter itself, which shows the registered order for every model.
        declares_experts: whether the config asks for more than one routed expert.
        planned: names of all scenarios that were to run; those without an entry were lost.
        scenarios: every scenario, also those that did not run.
        assumptions: what was done otherwise than the launch will.
        seconds: wall seconds by stage.
        sources: sha256 of each source file behind the model.
        counter: one pass with the flag on, where it can be: which layers were meant and which ran.
        whole: the model with every layer; None if no layer was cut. Absent only in an older report, without proofs.
        compile: eager against compiled; None if it was not tried.
        replays: engines of a launch, watched on the device; none unless a replay probe was asked for.
        outputs: what engines of a launch answered; none unless an output probe was asked for.
        proofs: what the traces of launches showed, each launch once.
    """

    result: Literal["ok"]
    architecture: str = Field(min_length=1)
    environment: dict[str, str | None]
    flag: Flag
    registered: tuple[str, ...]
    observation_method: Literal["call_and_run", "run", "hook", "counted"]
    declares_experts: bool
    planned: tuple[str, ...] = Field(min_length=1)
    scenarios: tuple[Scenario, ...] = Field(min_length=1)
    assumptions: tuple[Assumption, ...]
    seconds: dict[str, float]
    sources: dict[str, str] = Field(min_length=1)
    counter: Counted | None = None
    whole: Whole | None = None
    compile: Compiled | None = None
    replays: tuple[Replay, ...] = ()
    outputs: tuple[Output, ...] = ()
    proofs: tuple[Proof, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> "Report":
        if len(set(self.registered)) != len(self.registered):
            raise ValueError("a registered layer is named twice")
        if len({scenario.name for scenario in self.scenarios}) != len(self.scenarios):
            raise ValueError("a scenario is named twice")
        if not {scenario.name for scenario in self.scenarios} <= set(self.planned):
            raise ValueError("a scenario was not planned")
        if len({replay.name for replay in self.replays}) != len(self.replays):
            raise ValueError("a replay is named twice")
        if len({output.name for output in self.outputs}) != len(self.outputs):
            raise ValueError("an output is named twice")
        if len({proof.key for proof in self.proofs}) != len(self.proofs):
            raise ValueError("a launch is proved twice")
        if self.proofs and "whole" not in self.model_fields_set:
            raise ValueError("the whole model is missing")
        return self


def parse_report(data: Mapping[str, Any]) -> Report:
    """The report in `data`.

    Raises:
        ReportError: a field is missing, of another type, or contradicts another.
    """
    try:
        return Report.model_validate_json(json.dumps(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "report"
        raise ReportError(
            f"the probe report is damaged at {where}: {first['msg']}", hint="probe the model again"
        ) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise ReportError(f"the probe report is no JSON: {error}", hint="probe the model again") from None
