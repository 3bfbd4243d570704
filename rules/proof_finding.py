"""What the trace of a launch proves, and the one place where the codes of its reasons become sentences."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from rules.launch_key import launch_key

PLAIN = launch_key((), {})
"""Key of the launch of the model alone, without any argument that can reach it."""
CONDITIONS = {
    0: "the launch must be built and traced",
    1: "the model must be compiled in one region, once for good",
    2: "the graph must call every MoE layer once, in order, each behind the one before",
    3: "a call too many must not stay silent",
    4: "nothing outside the compiled region may call a MoE layer",
}
"""Number of a condition -> what it asks for."""
BLIND = frozenset({"recording_counted", "scenario_lost", "side_file"})
"""Codes of a verdict with which a wrong pass may have gone unseen, so that no launch gets a `true`."""
LONGEST = 300
"""Characters of a field that a sentence shows."""


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


@dataclass(frozen=True)
class Reason:
    """A condition that does not hold, as data.

    Attributes:
        code: what it is.
        condition: its number; see `CONDITIONS`.
        fields: what the sentence needs.
    """

    code: str
    condition: int
    fields: Mapping[str, str | int] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote.

        Raises:
            KeyError, TypeError, ValueError: the mapping is no reason.
        """
        code, condition, fields = data["code"], data["condition"], dict(data["fields"])
        texts = [code, *fields]
        if not all(isinstance(text, str) for text in texts) or type(condition) is not int:
            raise TypeError("a reason has a code, a number and named fields")
        if not all(isinstance(value, str | int) for value in fields.values()):
            raise TypeError("a field of a reason is a text or a number")
        return cls(code, condition, fields)


@dataclass(frozen=True)
class ProofFinding:
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

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote.

        Raises:
            KeyError, TypeError, ValueError: the mapping is no finding.
        """
        return cls(
            word=ProofWord(data["word"]),
            reasons=tuple(Reason.from_dict(reason) for reason in data["reasons"]),
            arguments=tuple(str(argument) for argument in data["arguments"]),
            platform=str(data["platform"]),
            layers=int(data["layers"]),
        )


def sentence(reason: Reason) -> str:
    """What a reason says, as half a sentence without a full stop."""
    template = SENTENCES.get(reason.code)
    fields = {name: str(value)[:LONGEST] for name, value in reason.fields.items()}
    if template is None:
        told = ", ".join(f"{name}: {value}" for name, value in sorted(fields.items()))
        return f"{reason.code.replace('_', ' ')}{f' ({told})' if told else ''}"
    return template.format_map(_Fields(fields, place=_place(fields)))


def with_condition(reason: Reason) -> str:
    """The sentence behind the condition that it fails."""
    name = CONDITIONS.get(reason.condition)
    return f"{name}: {sentence(reason)}" if name else sentence(reason)


class _Fields(dict[str, str]):
    """Fields of a reason; one that is missing says so."""

    def __missing__(self, name: str) -> str:
        return f"unknown {name}"


def _place(fields: Mapping[str, str]) -> str:
    """` at FILE:LINE` where a file is named, else nothing."""
    if not fields.get("file"):
        return ""
    line = fields.get("line", "0")
    return f" at {fields['file']}" + (f":{line}" if line != "0" else "")


SENTENCES = {
    # 0: built and traced
    "not_built": "vLLM could not build the model{place}: {error}",
    "not_traced": "Dynamo could not trace the model as one graph{place}: {error}",
    "rank_not_traced": "{rank} was not traced: {how}",
    "not_followed": "the proof does not follow the setting {setting}",
    "no_rank": "no process of the launch was traced",
    "no_layers": "{rank} registers no MoE layer",
    "no_moe_layer": "the model registers no MoE layer",
    "side_file": "vLLM also reads {file} beside config.json, and may build another model by it",
    "no_sources": "the files whose code ran were not noted",
    "patched": "{function} of vLLM is replaced by code of {file}",
    "outer_passed_by": "the code around the compiled region calls its `forward` past the compiled code",
    "no_proof": "no proof of the plain launch is stored; `tuner probe MODEL` makes it",
    "proof_outdated": "the proof of the plain launch does not apply here any more: {why}; `tuner probe MODEL` makes "
    "it anew",
    "scenario_lost": "scenario {scenario} was planned and is missing from the report",
    "recording_counted": "MoE calls were resolved by the counter during the probe, which hides the order that was "
    "meant",
    "assumption": "no rule covers what the proof did otherwise than the launch: {kind}",
    "other_hash_seed": "with another hash seed the trace is another one",
    "reads_all_variables": "the model's code reads all environment variables at once{place}",
    "reads_file": "the model's code reads a file that the key does not cover{place}",
    # 1: compiled in one region, once for good
    "not_decorated": "vLLM does not compile this model: no part of {class} with a MoE layer is under "
    "support_torch_compile",
    "compilation_off": "the launch does not compile the model: its compile mode is {mode}",
    "do_not_compile": "vLLM does not compile {class} in this launch",
    "dynamo_disabled": "Dynamo is switched off by {variable}",
    "errors_suppressed": "Dynamo's errors are suppressed, so code may run eagerly in silence",
    "guards_kept": "the compile mode {mode} keeps guards and may trace again",
    "skip_compiled": "some passes of {class} skip the compiled code",
    "no_region": "no compiled region holds the MoE layers",
    "regions": "the model has {count} compiled regions with MoE layers, and one is needed",
    "graphs": "the region was compiled into {count} graphs, and one is needed",
    "layer_outside": "{layer} lies outside the compiled region",
    "call_wrapped": "the call of {class} is not the one that support_torch_compile made",
    "guards_not_seen": "the guards of the trace were not seen",
    "elastic": "elastic expert parallelism drops the compiled code and traces again",
    "encoder_decoder": "passes of an encoder-decoder model skip the compiled code",
    "draft": "a draft model's MoE layers share the counter",
    "lora_not_wrapped": "the LoRA layers of this launch could not be put in place",
    "dbo": "micro-batches (DBO) were never seen with the flag on",
    # 2: every layer once, in order, each behind the one before
    "calls": "the graph calls {seen} MoE layers, and {expected} are registered, or calls them in another order",
    "not_behind": "{layer} does not depend on the MoE layer called before it{place}",
    "result_not_behind": "the result does not depend on {layer}, so the compiler may drop it",
    "overwritten": "{operator} writes over what an earlier MoE layer gave{place}",
    "opaque_operator": "the graph holds {operator}, which is neither torch's nor vLLM's{place}",
    "nested_call": "a MoE layer is called in a graph inside the graph: {layer}",
    "name_in_graph": "the graph holds the name of {layer} itself, so that call is not counted",
    # 3: nothing silent
    "counter_wraps": "the counter of {release} starts anew at its end, so a call too many is not noticed",
    "counter_form": "this vLLM counts in a way that is not known",
    "mixed_graphs": "splitting_ops names some of the MoE operators only ({setting}), so part of a pass may be replayed",
    "inductor_partition": "Inductor's graph partition may put part of the MoE calls outside of CUDA graphs",
    # 4: nothing outside
    "outer_guard": "code around the compiled region depends on `{guard}`{place}",
    "outer_not_traced": "the code around the compiled region could not be traced{place}: {error}",
    "outer_calls_layer": "code outside the compiled region calls {layer}",
    "outer_entries": "a pass enters the compiled region {count} times, and once is needed",
    "outer_call": "a call of {class} runs more than its `forward`: a `__call__` of its own, or a hook",
    "outer_handler": "code around the compiled region catches exceptions{place}",
    "foreign_code": "code that is not vLLM's own takes part: {file}",
    "context_word": "{file} names {word}, with which it may change the counter",
    "cut_guard": "`{guard}` depends on a size that the proof made smaller{place}",
}
"""Code -> the sentence; `{place}` stands for ` at FILE:LINE`."""
