"""The probe's report, validated where it enters: nothing judged or stored goes round this.

A report holds observations and no conclusion. Where a lost field would read as "nothing was found", it has no default.
"""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from rules.errors import ReportError
from rules.report_engines import Output, Replay
from rules.report_part import Assumption, Part
from rules.report_proof import Proof

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
        recording: how calls were observed: `call_and_run`, `run`, the weaker `hook`, or `counted`: through the
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
    recording: Literal["call_and_run", "run", "hook", "counted"]
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
