"""The parts of a report that engines of a launch gave: what ran in them, and what they answered."""

from typing import Literal

from pydantic import Field, model_validator

from rules.report_part import Part


class ReplayPass(Part):
    """Equal passes of an engine.

    Attributes:
        request: name of the request that first caused one.
        called: the layer that the model meant, for each MoE call in order; None where something ran uncalled.
        ran: the layer that answered each call; None where none did.
        tokens: of the largest call, padding included.
        count: how often they ran.
        replayed: from captured CUDA graphs, with no Python in between.
        entangled: a call was made before the one before had run, so that which run answers which is not told.
    """

    request: str
    called: tuple[str | None, ...]
    ran: tuple[str | None, ...]
    tokens: int = Field(gt=0)
    count: int = Field(gt=0)
    replayed: bool
    entangled: bool

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
