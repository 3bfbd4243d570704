"""The probe's report, validated where it enters: nothing judged or stored goes round this.

A report holds observations and no conclusion. Where a lost field would read as "nothing was found", it has no default.
Its parts are frozen and of strict types, without infinities; unknown fields are ignored. The order probe gives most of
it; proofs come from the traces of launches, and replays and ladders from engines of a launch.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, ValidationError, convert, field

from rules.errors import ReportError

Text = Annotated[str, Meta(min_length=1)]
"""A text that is not empty."""
Snippet = Annotated[str, Meta(max_length=1000)]
"""A short text; the tool itself keeps less (`rules.answers.LONGEST_TEXT`)."""
Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[int, Meta(gt=0)]
LARGEST = 1.7976931348623157e308
"""The largest finite number."""
Finite = Annotated[float, Meta(ge=-LARGEST, le=LARGEST)]
"""A number that is neither NaN nor an infinity."""
Nats = Annotated[float, Meta(ge=0, le=LARGEST)]
"""A distance of log-probabilities."""
ROUNDING = 1e-9
"""The part of a mean that rounding may change."""
MOST_ARMS = 128
"""Arms of a ladder. A release with twice as many compiler passes as 0.33.0 would have about 100."""


class Part(Struct, frozen=True):
    """One part of a report."""


class Assumption(Part, frozen=True):
    """One thing the probe did otherwise than the launch will: its kind, and what exactly."""

    kind: str
    detail: str


class Failure(Part, frozen=True):
    """A condition of the proof that does not hold, or an observation that is missing.

    Attributes:
        code: what it is; `rules.reason` has the sentence.
        condition: 1 to 4 (see `rules.reason.CONDITIONS`); 0: the launch could not be built or traced.
        fields: what the sentence needs, such as `file` and `line`.
    """

    code: Text
    condition: Annotated[int, Meta(ge=0, le=4)]
    fields: dict[str, str | int]


class Guard(Part, frozen=True):
    """A guard on a size, which vLLM drops: compiled code may differ from eager code there."""

    expression: str
    file: str
    line: Count


class Rank(Part, frozen=True):
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

    name: Text
    status: Literal["traced", "not_compiled", "failed"]
    failures: tuple[Failure, ...]
    registered: tuple[str, ...]
    calls: tuple[str, ...]
    guards: tuple[Guard, ...]
    assumptions: tuple[Assumption, ...]
    seconds: dict[str, Finite]


class Proof(Part, frozen=True):
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

    key: Text
    arguments: tuple[str, ...]
    platform: Text
    made_at: str
    worker: str
    ranks: tuple[Rank, ...]
    variables: dict[str, str]
    fields: tuple[str, ...]
    sources: dict[str, str]

    def __post_init__(self) -> None:
        if len({rank.name for rank in self.ranks}) != len(self.ranks):
            raise ValueError("a rank is named twice")


class ReplayPass(Part, frozen=True):
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
    tokens: Positive
    count: Positive
    replayed: bool
    ambiguous: bool

    def __post_init__(self) -> None:
        if len(self.called) != len(self.ran):
            raise ValueError("a pass has as many runs as calls")


class Replay(Part, frozen=True):
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
    lost: Count
    passes: tuple[ReplayPass, ...]


Order = tuple[str, ...]
"""MoE layer names in the order they ran."""


class Distance(Part, frozen=True):
    """How far the answers of two engines to the same prompts are apart.

    Attributes:
        mean: mean absolute difference of all compared log-probabilities, in nats.
        worst: the largest such mean of one prompt.
        prompt: the name of that prompt.
        parted: how many prompts go on with another token.
        layer: the first MoE layer whose input differs; empty if none does, or if inputs were not compared.
    """

    mean: Nats
    worst: Nats
    prompt: str
    parted: Count = 0
    layer: str = ""

    def __post_init__(self) -> None:
        if self.mean > self.worst * (1 + ROUNDING):
            raise ValueError("the mean of a distance is above the worst prompt")


class Texts(Part, frozen=True):
    """What two engines would say after the same words, for the prompt in which they are furthest apart and say another.

    Attributes:
        prompt: the name of the prompt.
        own: of the arm: the likeliest token at each step, as text, or as numbers with spaces.
        below: of the arm that it is compared with.
        are_numbers: the model had no tokenizer, so that both are numbers of tokens.
    """

    prompt: str
    own: Snippet
    below: Snippet
    are_numbers: bool


class ArmRun(Part, frozen=True):
    """One arm of a launch: an engine with settings of its own.

    Attributes:
        name: its name (see `rules.arms`).
        kind: what it differs in from the arm that it is compared with, as a word of `rules.arms.Kind`.
        against: the name of that arm; empty for a root.
        also: the name of an arm that must be right besides; empty without one.
        config: what it sets in the compilation config.
        options: the arguments that it adds.
        is_setting: a launch may be written like this.
        users: the settings of the user that it changes, which are never written.
        status: `failed`: the engine did not start or did not answer.
        detail: the reason.
        engine: what the arm became: as for `Replay`, and `dtype`, `quantization`, `moe_backend`, `captured`, `largest`,
            `weights` (bytes).
        passes: each compiler pass that is a switch, and whether it is on.
        backends: the MoE backends that it uses, in vLLM's words.
        candidates: values of `--moe-backend` that vLLM's oracle allows for it.
        seconds: by phase of its start, and of a decode step.
        cache: bytes of what this start compiled.
        changed: what was otherwise than in the launch, in words.
        broken: it answered with numbers that are not finite.
        noise: how far its answers to equal prompts are apart; None if it got none.
        distance: how far it is from the arm that it is compared with; None if nothing was compared.
        frozen: MoE layers whose input does not depend on the prompt.
        texts: where the answers part from those of the arm that it is compared with; None if they do not, or if an
            earlier release stored it.
    """

    name: Text
    kind: Text
    against: str
    also: str
    config: dict[str, Any]
    options: tuple[str, ...]
    is_setting: bool
    users: tuple[str, ...]
    status: Literal["ran", "failed"]
    detail: str
    engine: dict[str, str | bool | int | None]
    passes: dict[str, bool]
    backends: tuple[str, ...]
    candidates: tuple[str, ...]
    seconds: dict[str, Finite]
    cache: Count
    changed: tuple[str, ...]
    broken: bool
    noise: Distance | None
    distance: Distance | None
    frozen: tuple[str, ...]
    texts: Texts | None = None


class Ladder(Part, frozen=True):
    """The arms of one launch.

    Attributes:
        key: of the launch; see `rules.launch_key`.
        arguments: those that can reach the model, for showing.
        platform: that of the machine it was made on.
        gpu: the name of its GPU; empty without one.
        made_at: ISO 8601 in UTC.
        worker: digest of the workers' files.
        prefer: what to choose right arms by: `start`, `step`, or empty, which changes a launch only if it is wrong.
        variables: sha256 of the value of each variable that may change how an engine computes.
        arms: all arms, in the order in which they were tried.
    """

    key: Text
    arguments: tuple[str, ...]
    platform: Text
    gpu: str
    made_at: str
    worker: str
    prefer: Literal["", "start", "step"]
    variables: dict[str, str]
    arms: tuple[ArmRun, ...]

    def __post_init__(self) -> None:
        if len({arm.name for arm in self.arms}) != len(self.arms):
            raise ValueError("an arm is named twice")
        if len(self.arms) > MOST_ARMS:
            raise ValueError(f"a ladder has more than {MOST_ARMS} arms")


class Scenario(Part, frozen=True):
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

    name: Text
    tokens: Positive
    status: Literal["ran", "failed", "not_applicable"]
    detail: str = ""
    passes: tuple[Order, ...] = ()
    contexts: Count = 0

    @property
    def count(self) -> int:
        """How many forward contexts ran; a report that does not count them holds one order for each."""
        return max(self.contexts, len(self.passes))

    def __post_init__(self) -> None:
        if (self.status == "ran") != bool(self.passes):
            raise ValueError("a scenario has passes if and only if it ran")


class FlagObservation(Part, frozen=True):
    """What the worker detected of `fast_moe_cold_start`; see `rules.releases.flag_status`.

    Attributes:
        field: how `CompilationConfig` knows the flag.
        effective_when_true: its value after vLLM resolved an explicit true; None if that was not observed.
        counter_ran: whether a pass was seen counting; None if no MoE layer ran.
    """

    field: Literal["absent", "attribute", "field"]
    effective_when_true: bool | None
    counter_ran: bool | None


class Counted(Part, frozen=True):
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


class Whole(Part, frozen=True):
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


class CompiledScenario(Part, frozen=True):
    """One scenario eager and compiled: the MoE layers that ran in each forward context."""

    name: str
    eager: tuple[Order, ...]
    compiled: tuple[Order, ...]


class Compiled(Part, frozen=True):
    """The scenarios once more in vLLM's compile mode, without CUDA graphs.

    Attributes:
        status: `failed`: the model does not compile, or a compiled pass raised; `not_applicable`: vLLM does not
            compile this class.
        detail: the reason.
    """

    status: Literal["ran", "failed", "not_applicable"]
    detail: str = ""
    scenarios: tuple[CompiledScenario, ...] = ()


class Report(Part, frozen=True):
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
        whole_if_reported: `whole` of the JSON; absent only in an older report, which has no proofs.
        compile: eager against compiled; None if it was not tried.
        replays: engines of a launch, watched on the device; none unless a replay probe was asked for.
        proofs: what the traces of launches showed, each launch once.
        ladders: what the arms of launches showed, each launch once.
    """

    result: Literal["ok"]
    architecture: Text
    environment: dict[str, str | None]
    flag: FlagObservation
    registered: tuple[str, ...]
    observation_method: Literal["call_and_run", "run", "hook", "counted"]
    declares_experts: bool
    planned: Annotated[tuple[str, ...], Meta(min_length=1)]
    scenarios: Annotated[tuple[Scenario, ...], Meta(min_length=1)]
    assumptions: tuple[Assumption, ...]
    seconds: dict[str, Finite]
    sources: Annotated[dict[str, str], Meta(min_length=1)]
    counter: Counted | None = None
    whole_if_reported: Whole | UnsetType | None = field(default=UNSET, name="whole")
    compile: Compiled | None = None
    replays: tuple[Replay, ...] = ()
    proofs: tuple[Proof, ...] = ()
    ladders: tuple[Ladder, ...] = ()

    @property
    def whole(self) -> Whole | None:
        """The model with every layer; None if no layer was cut, or if the report does not say."""
        return None if self.whole_if_reported is UNSET else self.whole_if_reported

    @property
    def reports_whole(self) -> bool:
        """Whether the report says what became of the model with every layer."""
        return self.whole_if_reported is not UNSET

    def __post_init__(self) -> None:
        if len(set(self.registered)) != len(self.registered):
            raise ValueError("a registered layer is named twice")
        if len({scenario.name for scenario in self.scenarios}) != len(self.scenarios):
            raise ValueError("a scenario is named twice")
        if not {scenario.name for scenario in self.scenarios} <= set(self.planned):
            raise ValueError("a scenario was not planned")
        if len({replay.name for replay in self.replays}) != len(self.replays):
            raise ValueError("a replay is named twice")
        if len({proof.key for proof in self.proofs}) != len(self.proofs):
            raise ValueError("a launch is proved twice")
        if len({ladder.key for ladder in self.ladders}) != len(self.ladders):
            raise ValueError("a launch has two ladders")
        if self.proofs and not self.reports_whole:
            raise ValueError("the whole model is missing")


PATH_PART = re.compile(r"\w+")
MISSING_FIELD = re.compile(r"Object missing required field `(\w+)`")
"""What msgspec says of an object that lacks a field."""


def parse_report(data: Mapping[str, Any]) -> Report:
    """The report in `data`, which holds JSON values.

    Raises:
        ReportError: a field is missing, of another type, or contradicts another.
    """
    try:
        return convert(data, Report)
    except ValidationError as error:
        place, problem = _place_and_problem(str(error))
        raise ReportError(
            f"the probe report is damaged at {place or 'report'}: {problem:.200}", hint="probe the model again"
        ) from None
    except UnicodeEncodeError:  # msgspec looks an enum's words up as UTF-8, which has no surrogates
        raise ReportError(
            "the probe report is damaged: it holds text that is not Unicode", hint="probe the model again"
        ) from None


def _place_and_problem(message: str) -> tuple[str, str]:
    """The place, such as `scenarios.0.tokens`, and the problem in a message of msgspec: `PROBLEM - at `$.PLACE``."""
    problem, _, path = message.partition(" - at ")
    parts = PATH_PART.findall(path.rpartition("$")[2])
    missing = MISSING_FIELD.match(problem)
    if missing:
        return ".".join([*parts, missing[1]]), "it is missing"
    return ".".join(parts), problem
