"""Reasons as data, and the one place where their codes become sentences."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

from msgspec import Struct, field
from msgspec.structs import replace

FieldValue = str | int | float
"""What a field of a reason holds."""
CONDITIONS = {
    0: "the launch must be built and traced",
    1: "the model must be compiled in one region, once for good",
    2: "the graph must call every MoE layer once, in order, each behind the one before",
    3: "a call too many must not stay silent",
    4: "nothing outside the compiled region may call a MoE layer",
}
"""Number of a condition of the proof -> what it asks for."""
LONGEST = 300
"""Characters of a field that a sentence on a proof shows: a worker wrote it."""
SHOWN = 5
"""Reasons of a verdict that a text shows; JSON holds all."""
DEEPEST = 8
"""Reasons behind one another that a stored verdict may hold."""
DEEPEST_OF_ALL = 16
"""Reasons behind one another that any reason may hold: a decision puts at most 4 in front of a stored one."""


class Reason(Struct, frozen=True):
    """Why something was found or decided, as data. `str` gives its sentence.

    Attributes:
        code: what it is; see `SENTENCES`.
        condition: of a proof that does not hold, the number of its condition (`CONDITIONS`); else None.
        fields: what the sentence needs.
        because: the reason behind it; None if there is none.
    """

    code: str
    condition: int | None = None
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    because: "Reason | None" = None

    def __post_init__(self) -> None:
        """Limit what a reason may nest.

        Raises:
            ValueError: it is more than `DEEPEST_OF_ALL` reasons.
        """
        if self.depth > DEEPEST_OF_ALL:
            raise ValueError("a reason nests too many reasons")

    @property
    def depth(self) -> int:
        """How many reasons it is, with those behind it."""
        depth, behind = 1, self.because
        while behind is not None:
            depth, behind = depth + 1, behind.because
        return depth

    def __str__(self) -> str:
        """The sentence, behind the condition that does not hold."""
        name = CONDITIONS.get(self.condition) if self.condition is not None else None
        return f"{name}: {sentence(self)}" if name else sentence(self)

    def part(self) -> dict[str, Any]:
        """The reason for JSON, with its sentence as `text`."""
        return {
            "code": self.code,
            "condition": self.condition,
            "fields": dict(self.fields),
            "because": self.because.part() if self.because else None,
            "text": str(self),
        }

    def without_condition(self) -> Self:
        """The reason alone, where no proof was asked for."""
        return replace(self, condition=None)


def reason(code: str, because: Reason | None = None, /, **fields: FieldValue) -> Reason:
    """A reason that is not a condition of the proof."""
    return Reason(code, None, fields, because)


def sentence(reason: Reason) -> str:
    """What a reason says, as half a sentence without a full stop and without its condition."""
    from_worker = reason.condition is not None or reason.code in OF_PROOF
    longest = LONGEST if from_worker else None
    values = {name: value[:longest] if isinstance(value, str) else value for name, value in reason.fields.items()}
    template = SENTENCES.get(reason.code)
    if template is not None:
        try:
            return _filled(template, values | _fragments(values, reason.because))
        except (ArithmeticError, TypeError, ValueError):  # a stored field is of another type than the sentence needs
            pass
    details = ", ".join(f"{name}: {value}" for name, value in sorted(values.items()))
    return reason.code.replace("_", " ") + (f" ({details})" if details else "")


def sentences(reasons: Iterable[Reason]) -> list[str]:
    """The reasons as sentences, all of them."""
    return [str(reason) for reason in reasons]


def first_sentences(reasons: Iterable[Reason]) -> list[str]:
    """The first reasons of a verdict as sentences, and how many more there are."""
    texts = sentences(reasons)
    more = len(texts) - SHOWN
    return texts if more <= 0 else [*texts[:SHOWN], f"{more} more reasons are in the JSON document"]


def parts(reasons: Iterable[Reason]) -> list[dict[str, Any]]:
    """The reasons for JSON."""
    return [reason.part() for reason in reasons]


class _Values(dict[str, FieldValue]):
    """Values for a template; one that is missing says so."""

    def __missing__(self, name: str) -> str:
        return f"unknown {name}"


def _filled(template: str, values: Mapping[str, FieldValue]) -> str:
    return template.format_map(_Values(values))


def _fragments(values: Mapping[str, FieldValue], because: Reason | None) -> dict[str, FieldValue]:
    """The parts of a sentence that depend on whether a field is there."""
    fragments: dict[str, FieldValue] = {}
    for name, (needed, template) in FRAGMENTS.items():
        fragments[name] = _filled(template, values) if values.get(needed) else ""
    fragments["place"] = f"{fragments['at_file']}{fragments['at_line']}" if fragments["at_file"] else ""
    behind = "" if because is None else str(because)
    fragments |= {"because": behind, "explained": f" ({behind})" if behind else ""}
    return fragments


FRAGMENTS = {
    "at_file": ("file", " at {file}"),
    "at_line": ("line", ":{line}"),
    "remedy": ("command", "; `{command}` would try to prove it"),
    "with_key": ("key", ", key {key:.12}"),
    "of_processes": ("processes", " of {processes} processes"),
    "and_more": ("more", ", and {more} more of its files differ"),
    "and_gone": ("gone", "; {gone} of them are gone"),
    "and_more_layers": ("more", " (and of {more} more layers)"),
    "from_layer": ("layer", "; the input of {layer} differs"),
}
"""Name in a template -> the field that it needs, and what it becomes where that field has a value."""

OF_PROOF = {
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
    "assumption": "the proof differs from the launch in a way that no rule covers: {kind}",
    "other_hash_seed": "the trace changes with the hash seed",
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
"""Failures of a proof; `{place}` stands for ` at FILE:LINE`."""
OF_VERDICT = {
    "repeated": "scenario {scenario} ran a MoE layer more than once in one pass",
    "conditional": "which MoE layers run depends on the input: scenario {scenario} left the registered order",
    "reordered": "every pass ran the same order, and it is not the registered one (seen in scenario {scenario})",
    "wrong_call": "call {call} of that pass ran {ran}; a counter would resolve it to {counted}",
    "other_order": "scenario {scenario} ran another order",
    "seen_in_whole": "seen with every layer of the model",
    "traced_wrong": "traced in {rank} of this launch: {launch}",
    "plain_proved": "the code that vLLM compiles for the plain launch calls every MoE layer once, in the registered "
    "order ({layers} in all)",
    "order_kept": "none of {passes} passes of {scenarios} scenarios left that order",
    "none_registered": "the model registers no MoE layer and ran none in {scenarios} scenarios",
    "whole_missing": "the report does not say what the whole model registered",
    "experts_declared": "the config declares experts, but the model registered no MoE layer",
    "experts_elsewhere": "the config declares experts, and the whole model computes them without vLLM's MoE layer",
    "scenario_not_run": "scenario {scenario} did not run",
    "scenario_failed": "scenario {scenario} failed: {detail}",
    "scenario_lost": "scenario {scenario} was planned and is missing from the report",
    "counted": "MoE calls were resolved by the counter during the probe, which hides the order that was meant",
    "probe_assumption": "the probe differs from the launch in a way that no rule covers: {kind}",
    "no_proof": "no proof of the plain launch is stored; `tuner probe MODEL` makes it",
    "proof_outdated": "the proof of the plain launch does not apply here any more: {because}; `tuner probe MODEL` "
    "makes it anew",
    "replay_contradicts": "replay probe, {engine}: {because}",
}
"""Why a verdict is what it is."""

OF_COMPILING = {
    "compiled_not_run": "the compiled model was not run",
    "compiled_not_compared": "the compiled model was not compared: {detail}",
    "compiled_moved": "compiled, scenario {scenario} ran other MoE layers than eager ({compiled} calls against "
    "{eager}): a branch was fixed when the model was traced",
    "compiled_by_chance": "equal passes of {scenario} differ by themselves, so this may be chance",
    "compiled_no_call": "no MoE call was recorded in the passes that were compared",
}
"""What was seen of the compiled model."""

OF_ENGINES = {
    "engine_failed": "{detail}",
    "engine_not_run": "the engine did not run",
    "flag_switched_off": "vLLM switched the flag off in this engine, so it does not show what the flag does",
    "wrong_layer": "call {call} of a pass of request {request} meant {meant}, and {ran} ran ({passes} such passes, "
    "{replayed} of them replayed from CUDA graphs)",
    "replay_equal": "{passes} passes{of_processes}, {replayed} of them replayed from CUDA graphs",
    "records_lost": "{count} records of the trace were lost",
    "no_call_recorded": "no MoE call was recorded",
    "call_without_run": "a call without a run, or a run without a call, was recorded",
    "calls_overlapped": "calls overlapped, so it is not known which run belongs to which call",
    "none_replayed": "no pass was replayed from a CUDA graph, although the launch asks for them",
}
"""What the engines of a launch showed."""

OF_ARMS = {
    "arm_missing": "the arm {arm} was not tried",
    "arm_in_circle": "the arm {arm} is compared with itself",
    "arm_failed": "it does not start or does not answer: {detail}",
    "arm_root": "the eager engine is the reference",
    "arm_broken": "{arm} answers with log-probabilities that are not numbers",
    "arm_noisy": "{arm} gives different answers to equal prompts, {noise:.4f} nats apart",
    "arm_frozen": "what enters the experts of {layer} does not depend on the prompt{and_more_layers}",
    "arm_not_compared": "it could not be compared with {arm}{explained}",
    "arm_not_eager": "the engine of {arm} was compiled, although it was to be eager",
    "arm_noise_unknown": "how much {arm} moves by itself is not known",
    "apart_from_unsure": "it differs from {arm}, which is not known to be right either: {because}",
    "arm_distance": "{mean:.4f} nats from {arm}, {worst:.4f} in {prompt}, threshold {threshold:.4f}{from_layer}",
    "quantised_apart": "the weights are quantised, and rounding alone may move their answers so far: {because}",
    "noise_too_large": "the noise is too large: {because}",
    "as_wrong_as": "it agrees with {arm}, which is wrong: {because}",
    "as_unknown_as": "it agrees with {arm}, and whether that is right is not known: {because}",
    "wrong_in_float32": "in float32, where rounding is small, compiled answers differ from eager ones: {because}",
    "not_in_float32": "compiling could not be judged in float32, where rounding is small: {because}",
    "arms_contradict": "the answers with the flag on differ from those with it off: {because}",
    "launch_wrong": "the launch as it stands answers wrongly: {because}",
    "launch_not_started": "the launch as it stands does not start: {because}",
    "arm_right": "{arm} answers rightly",
    "arm_faster": "{arm} answers rightly too, and is faster",
    "launch_right": "the launch as it stands answers rightly ({arms} arms were compared)",
    "launch_not_judged": "whether the launch answers rightly is not known: {because}",
    "nothing_helps": "nothing that was tried helps",
    "users_setting_wrong": "the user's own settings are kept, and other values of them would be right: {settings}",
    "ladder_not_used": "nothing is written from the arms that were tried: {because}",
    "ladder_of_other_tool": "the arms were tried by another release of this tool",
    "ladder_on_other_device": "the arms were tried on {stored}, and this is {device}",
    "ladder_with_other_variable": "the environment variable {variable} has another value than when the arms were tried",
}
"""What the arms of a launch show."""

OF_DECISION = {
    # the flag in this environment
    "flag_does_nothing": "fast_moe_cold_start is {status} here: {why}",
    "flag_always_on": "fast_moe_cold_start cannot be changed here: {why}",
    "flag_unknown": "what fast_moe_cold_start does here is not known: {why}",
    "key_taken": "this vLLM takes the key, so it is switched off{explained}",
    "key_not_everywhere": "{why} A release without the key does not start with it.",
    "other_release": "use vLLM 0.16 or later, where the launch can switch it off, or one with torch 2.11 or later, "
    "where it is gone",
    "drafts_counted": "this release counts the draft model's MoE layers too and resolves them wrongly",
    "drafts_switch_off": "with speculative decoding this release turns it off by itself",
    # what is safe
    "safe": "{because}: that is safe",
    "safe_to_count": "{because}: counting would be safe",
    "safe_as_read": "{because}, and that holds where MoE layers are counted as in releases that were read",
    "no_moe_layers": "the model has no MoE layers",
    "launch_proved": "this launch is proved",
    "proved": "this launch is proved: the code that vLLM compiles calls every MoE layer once, in the registered order, "
    "so counting resolves each rightly, and the start is faster",
    # what is not
    "runs_wrong_experts": "the verdict is {verdict}: this release would run wrong experts",
    "may_run_wrong_experts": "the verdict is {verdict}: if this vLLM counts MoE layers, it runs wrong experts",
    "would_run_wrong_experts": "the verdict is {verdict}: counting would run wrong experts",
    "draft_shares": "speculative decoding: a draft model's MoE layers share the target's counter",
    "default_is_off": "vLLM's own default is off for the same reason",
    "not_proved_safe": "not proved safe: {because}",
    "slower_start": "not proved safe{explained}, so the slower start is the safe choice{remedy}",
    "nothing_proves": "nothing proves that counting MoE layers is safe here{explained}{remedy}",
    # why it is not proved safe
    "no_verdict": "no verdict is stored",
    "draft_alone": "the model looks like a draft of speculative decoding, by {sign}, which runs only "
    "beside its target; judge it beside {target}: `{command}`",
    "draft_counter": "a draft model's MoE layers share the target's counter",
    "unsafe_verdict": "the verdict is {verdict}",
    "other_model": "{settings}: vLLM may serve another model than the one that was probed",
    "compiled_differs": "compiled, the model runs other MoE layers than eager",
    "replay_wrong": "the replay probe saw a wrong layer run",
    "answers_differ": "the answers with the flag on differ from those with it off",
    "platform_of_a_plugin": "no trace proves a launch on this platform, because {why}; only a replay on such a device "
    "would show which experts run",
    "proof_is": "its proof is {word}",
    "own_cache_folder": "the launch names a cache_dir, which may hold code that another launch compiled",
    "root_not_written": "{why}, so {variable} is not written; without it code that another launch compiled may run",
    "no_proof_of_launch": "no proof is stored for {launch}",
    "proof_of_other_tool": "the proof was made by another release of this tool",
    "proof_file_gone": "since the proof {file} is gone{and_more}",
    "proof_file_changed": "since the proof {file} changed{and_more}",
    "proof_on_other_platform": "the proof was made on platform {stored}, and this is {platform}",
    "proof_with_other_variable": "the environment variable {variable} has another value than in the proof",
    # what the flag would save
    "nothing_to_count": "the model has no MoE layers, so the flag does nothing",
    "launch_not_seen": "the plain launch has no MoE layers, and this one was not looked at: false costs nothing",
    "launch_does_not_compile": "the launch does not compile the model, so the flag would save nothing",
    "run_without_compiling": "the model is run without compiling, so the flag would save nothing",
    "vllm_does_not_compile": "vLLM does not compile this model here, so the flag would save nothing{explained}",
    # the user's own settings
    "users_flag": "fast_moe_cold_start={value} was given by the user and is kept",
    "contradicts": "fast_moe_cold_start=true contradicts what is known: {because}",
    "users_compiling": "The launch compiles the model as the user asks, and runs wrong experts for some inputs: "
    "{because}.",
    "users_eager": "eager, as the user asks, is right: {because}",
    "compiling_off": "the model is run without compiling: {because}",
    "graphs_not_probed": "CUDA graphs were not probed, and a full graph fixes branches too; --enforce-eager switches "
    "both off",
    # a decision file
    "decided_by_file": "decided by {path} (verdict {verdict}{with_key})",
    "against_file": "fast_moe_cold_start={value} was given by the user and is kept; {path} says otherwise",
    "none_behind_file": "none stood behind {path}",
    # what must stay true for a `true`
    "holds_for": "holds for: {launch}",
    "no_draft": "no speculative decoding: an explicit true switches off vLLM's own guard for draft models",
    "stays_not_compiled": "the model is not compiled: compiled, it runs other MoE layers",
    "platform_accepted": "that the launch compiles to the same MoE calls here as on the platform {platform}, where it "
    "was proved, is taken on the user's word",
    # why no verdict was found
    "not_looked_up": "{why}",
    "no_verdict_for": "no verdict is stored for {what}",
    "stored_on_other_platforms": "one is stored for {platforms}; --accept-platform {first} lets it decide",
    "nearest_differs": "the nearest stored verdict, {key:.12}, differs in {changes}",
    "sources_differ": "of the {total} source files behind the stored verdict {changed} differ here, first "
    "{first}{and_gone}",
    "plugins_unknown": "the saved environment does not tell its vLLM plugins: write it anew with `tuner env --json`",
    "plugin_files_unknown": "the files of the vLLM plugin {plugins} cannot be found, so no stored verdict is known to "
    "hold beside it",
    "platform_is_own": "--accept-platform {platform} names the platform of this environment itself",
    "missed_on_platform": "with --accept-platform {platform}: {because}",
    # beside the decision
    "arguments": "{text}",
    "origin": "{text}",
}
"""Why a launch is decided as it is, what is warned of, and what must stay true."""

SENTENCES = OF_PROOF | OF_VERDICT | OF_COMPILING | OF_ENGINES | OF_ARMS | OF_DECISION
"""Code -> the sentence. Names in braces are fields, or parts of `FRAGMENTS`; `{because}` is the reason behind."""
