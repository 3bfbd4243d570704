"""What is true of each hostile model in the plain launch, and the launches in which some of them are unsafe.

Established with real engines of vLLM 0.19.1 (`tools/evidence/make_hostile.py`, hostile.md); where no engine can show it
here, by construction, and `why` says so.
"""

from enum import StrEnum
from typing import Any, NamedTuple


class Word(StrEnum):
    """What `true` is in a launch."""

    SAFE = "safe"
    """Right, and the proof must give it once what speaks of every plugin is set aside."""
    RIGHT = "right"
    """Right; the proof may refuse it."""
    WRONG = "wrong"
    """Wrong experts run, silently."""
    UNORDERED = "unordered"
    """The right experts ran, and nothing keeps a compiler from another order or from leaving a call out."""
    LOUD = "loud"
    """vLLM's own assertion stops the engine, which would have run without the flag."""
    BROKEN = "broken"
    """vLLM cannot compile the model: the engine does not start, whatever the flag is."""


ALLOWED = frozenset({Word.SAFE, Word.RIGHT})
"""Words with which a `true` may be written."""


class Launch(NamedTuple):
    """A launch that is not the plain one.

    Attributes:
        arguments: of `vllm serve`, behind the model.
        variables: of the server's environment.
        options: the same for an engine in Python; None where no engine can be run here.
    """

    arguments: tuple[str, ...] = ()
    variables: dict[str, str] = {}  # noqa: RUF012  nobody changes it
    options: dict[str, Any] | None = {}  # noqa: RUF012  as above


class Truth(NamedTuple):
    """One model.

    Attributes:
        word: what `true` is in the plain launch.
        why: a sentence.
        launch: a launch in which `true` is wrong although it may be right in the plain one.
    """

    word: Word
    why: str
    launch: Launch | None = None


TRACED_ONCE = "One trace decides for good, and the batch that vLLM traces is another one: all layers run, in order."
ROUND = "A batch of 300 tokens goes round the region: 0, 2, 3 were meant and 0, 1, 2 ran."
NO_TRACE = "Dynamo cannot trace it."
KINDS = (
    "ShapeLast",
    "NamedDim",
    "NamedDtype",
    "ConfigMethod",
    "Lambda",
    "HelperTry",
    "HelperFor",
    "HelperMatch",
    "OtherModule",
    "MutableDefault",
    "CountedPasses",
    "Truthiness",
    "Contains",
    "Descriptor",
    "Setattr",
    "Numpy",
    "TensorValue",
    "Suppress",
    "Finally",
    "Chained",
    "AnyOf",
    "ComprehensionIf",
    "ShortZip",
    "Index",
    "Checkpoint",
    "Map",
    "OperatorCall",
    "ContextRun",
    "WeakReference",
    "GlobalTable",
    "SwappedForward",
    "Thread",
    "Pool",
    "Exec",
    "ExecNow",
    "FolderTorch",
    "FolderTriton",
    "TracedArm",
    "SmallBatch",
    "LargestBatch",
)
"""Kinds of branches, as in `hostile_kinds`."""
NOT_TRACED = frozenset({"Numpy", "TensorValue", "Suppress", "ContextRun", "Index", "Thread", "Pool", "ExecNow"})
"""Those that Dynamo cannot trace."""
LAUNCHES = {
    "MaxNumSeqs": Launch(("--max-num-seqs", "3"), options={"max_num_seqs": 3}),
    "MaxNumBatchedTokens": Launch(("--max-num-batched-tokens", "777"), options={"max_num_batched_tokens": 777}),
    "MaxModelLen": Launch(("--max-model-len", "444"), options={"max_model_len": 444}),
    "Dtype": Launch(("--dtype", "float32"), options={"dtype": "float32"}),
    "AdditionalConfig": Launch(("--additional-config", '{"odd": 1}'), options={"additional_config": {"odd": 1}}),
    "TensorParallel": Launch(("--tensor-parallel-size", "2"), options=None),
    "PipelineParallel": Launch(("--pipeline-parallel-size", "2"), options=None),
    "Variable": Launch(variables={"HOSTILE_SKIP": "1"}),
    "LateVariable": Launch(variables={"HOSTILE_SKIP": "1"}),
    "EnforceEager": Launch(("--enforce-eager",), options={"enforce_eager": True}),
    "ServedName": Launch(("--served-model-name", "odd"), options={"served_model_name": "odd"}),
    "Seed": Launch(("--seed", "3"), options={"seed": 3}),
}
"""Kinds that a launch decides, as in `hostile_launches`, and that launch."""
DECIDED_BY_LAUNCH = "In the plain launch all layers run, in order; in the other one 0, 2, 3 were meant and 0, 1, 2 ran."
BY_CONSTRUCTION = (
    "In the plain launch all layers run, in order; in the other one, by construction, layer 1 is left out."
)
PROCESS = {
    "HashSeed": "The hash of a text decides when the model is built; it is another one in each process.",
    "Clock": "The time at which the model is built decides, so about half of the starts leave out layer 1.",
}
EITHER = {
    "NotEager": "0, 2, 3 were meant in every pass and 0, 1, 2 ran; with --enforce-eager nothing is compiled.",
    "WeightsName": "`load_weights` takes out layer 1: 0, 2, 3 were meant and 0, 1, 2 ran.",
}
"""The same for both twins."""


def twins() -> dict[str, Truth]:
    """Name -> truth of every kind, in the region and around it."""
    truths: dict[str, Truth] = {}
    for kind in KINDS:
        traced = kind not in NOT_TRACED
        truths[f"{kind}Inside"] = Truth(Word.RIGHT, TRACED_ONCE) if traced else Truth(Word.BROKEN, NO_TRACE)
        truths[f"{kind}Outside"] = Truth(Word.WRONG, ROUND)
    for kind, launch in LAUNCHES.items():
        why = BY_CONSTRUCTION if launch.options is None else DECIDED_BY_LAUNCH
        for place in ("Inside", "Outside"):
            truths[f"{kind}{place}"] = Truth(Word.RIGHT, why, launch)
    for kind, why in {**PROCESS, **EITHER}.items():
        for place in ("Inside", "Outside"):
            truths[f"{kind}{place}"] = Truth(Word.WRONG, why)
    for place in ("Inside", "Outside"):
        why = "In order, unless a file outside the model's folder exists: by construction wrong where it does."
        truths[f"OutsideFile{place}"] = Truth(Word.WRONG, why)
    return truths


DROPPED = "The compiler drops the first call: 1, 2, 3 are left and 0, 1, 2 ran."
UNUSED = "The four calls ran in order, but nothing that lasts orders the first before the others."
ALWAYS = "{} were meant in every pass and {} ran."
EAGER_ROUND = "In a batch of 300 tokens 0, 2, 3 were meant and 0, 1, 2 ran: {}."

TRUTH: dict[str, Truth] = {
    **twins(),
    # kinds of which something else is true than of the others
    "ShapeLastInside": Truth(Word.SAFE, TRACED_ONCE),
    "TracedArmInside": Truth(
        Word.WRONG, "The batch that vLLM traces leaves out layer 1, so each pass does: 0, 2, 3 became 0, 1, 2."
    ),
    "TracedArmOutside": Truth(Word.WRONG, "As the others, in every batch but small ones."),
    "SmallBatchOutside": Truth(Word.WRONG, "As the others, in every batch of at most 8 tokens."),
    "LargestBatchInside": Truth(
        Word.RIGHT, "A CPU's vLLM traces a batch of 16 tokens; a GPU's traces the largest and leaves out layer 1."
    ),
    "LargestBatchOutside": Truth(Word.WRONG, "As the others, in a batch of as many tokens as the launch allows."),
    "TruthinessInside": Truth(
        Word.WRONG, "Dynamo takes the object for true, so the one trace leaves out layer 1: 0, 2, 3 became 0, 1, 2."
    ),
    "TensorValueOutside": Truth(Word.WRONG, "As the others, in a pass with the token 77."),
    "CountedPassesOutside": Truth(Word.WRONG, "As the others, in every pass after the first four."),
    "SwappedForwardOutside": Truth(
        Word.RIGHT, "The compiled code does not look at the replaced `forward`: all layers ran, in order."
    ),
    "WeightsValueInside": Truth(Word.BROKEN, NO_TRACE),
    "WeightsValueOutside": Truth(Word.WRONG, EITHER["WeightsName"]),
    # safe
    "Plain": Truth(Word.SAFE, "No branch."),
    "ConstantBranch": Truth(Word.SAFE, "The config decides once."),
    "Frozen": Truth(Word.SAFE, TRACED_ONCE),
    "DecoratedTwice": Truth(Word.SAFE, "No branch; a subclass of vLLM's own region."),
    "Chain": Truth(Word.SAFE, "Each set of experts reads what the one before gave."),
    # the order inside the region
    "DeadResult": Truth(Word.WRONG, DROPPED),
    "DeadTail": Truth(
        Word.UNORDERED, "Nobody reads the last result; only what vLLM says of the operator keeps the call."
    ),
    "TimesZero": Truth(Word.UNORDERED, UNUSED),
    "TimesZeroAlpha": Truth(Word.UNORDERED, UNUSED),
    "TimesZeroBuffer": Truth(Word.RIGHT, "No compiler knows that the buffer holds a zero, so the call stays."),
    "EmptySlice": Truth(Word.UNORDERED, UNUSED),
    "ZerosLike": Truth(Word.WRONG, DROPPED),
    "ZeroedInPlace": Truth(Word.WRONG, DROPPED),
    "PowerZero": Truth(Word.UNORDERED, UNUSED),
    "Dropped": Truth(Word.WRONG, DROPPED),
    "SideBySide": Truth(Word.UNORDERED, "Two sets read the same input: they ran in order, and nothing orders them."),
    "SideBySideSwapped": Truth(Word.WRONG, ALWAYS.format("1, 0, 2, 3", "0, 1, 2, 3")),
    "SwappedPair": Truth(Word.WRONG, ALWAYS.format("1, 0, 2, 3", "0, 1, 2, 3")),
    "CalledTwice": Truth(Word.WRONG, ALWAYS.format("0, 0, 2, 3", "0, 1, 2, 3")),
    "OnceTooOften": Truth(Word.LOUD, "The fifth call runs past the end of the counter: the engine does not start."),
    "RewindingOperator": Truth(Word.WRONG, ALWAYS.format("0, 1, 2, 3", "0, 0, 1, 2")),
    "HiddenName": Truth(Word.WRONG, ALWAYS.format("0, 1, 2, 3", "0, 0, 1, 2")),
    "BakedName": Truth(Word.WRONG, ALWAYS.format("0, 1, 2, 3", "0, 0, 1, 2")),
    # around the region
    "SecondRegion": Truth(
        Word.WRONG, "In a batch of 300 tokens the second region comes first, and the layers of the first ran."
    ),
    "EnteredTwice": Truth(Word.LOUD, "In a batch of 300 tokens the second entry runs past the end of the counter."),
    "CaughtOverrun": Truth(Word.WRONG, "In a batch of 300 tokens 2, 0, 1, 2, 3 were meant and 0 to 3 ran, in silence."),
    "AlwaysCaught": Truth(Word.WRONG, "The second entry ends in vLLM's assertion, which is caught: half of it ran."),
    "OneLayer": Truth(Word.WRONG, "In a batch of 300 tokens layer 2 was meant and layer 0 ran."),
    "ForwardPastCall": Truth(Word.WRONG, EAGER_ROUND.format("`forward` runs as plain Python")),
    "OverridesCall": Truth(Word.WRONG, EAGER_ROUND.format("`__call__` goes round the compiled code")),
    "DoNotCompile": Truth(Word.WRONG, EAGER_ROUND.format("nothing is compiled")),
    "EnableIf": Truth(Word.WRONG, EAGER_ROUND.format("nothing is compiled")),
    "NotDecorated": Truth(Word.WRONG, EAGER_ROUND.format("nothing is compiled")),
    "SkipCompiled": Truth(Word.WRONG, EAGER_ROUND.format("vLLM skips the compiled code")),
    "LateDoNotCompile": Truth(Word.WRONG, EAGER_ROUND.format("vLLM skips the compiled code")),
    "LogitsContext": Truth(Word.WRONG, "`compute_logits` meant layer 2 in a context of its own, and layer 0 ran."),
    "LazyLayer": Truth(Word.WRONG, "A layer that is built late was meant first; 0, 1, 2, 3 and that layer ran."),
    "SwitchedWrapper": Truth(Word.WRONG, "Once `compute_logits` ran: 0, 2, 3 were meant and 0, 1, 2 ran."),
}
"""Name of the class without `ForCausalLM` -> what is true of it."""
