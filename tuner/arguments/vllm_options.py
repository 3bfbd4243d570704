"""How `vllm serve` reads an argument list: which options it uses, with which values.

Follows vLLM's own parser (`FlexibleArgumentParser`, vllm/utils/argparse_utils.py, over Python's argparse; the options
themselves from `EngineArgs.add_cli_args`, vllm/engine/arg_utils.py; the seven releases from 0.16.0 to 0.32.0 that the
tests ask agree):

- Long options may be written with underscores, and shortened while that stays unambiguous.
- `--option.key value`, `--option.key=value` and `--option.key+ value` (a list) spell one key of a JSON option.
- Everything behind `--` is positional.
"""

from collections.abc import Mapping, Sequence
from enum import Enum, auto

from msgspec import Struct

from rules.errors import ErrorKind, TunerError
from tuner.text import brief


class Kind(Enum):
    """How an option takes its value."""

    TEXT = auto()
    INTEGER = auto()
    FLAG = auto()
    """Takes no value; `--no-…` is its opposite."""
    OBJECT = auto()
    """A JSON object, or its keys one by one."""


class Option(Struct, frozen=True):
    """One option of `vllm serve`.

    Attributes:
        field: the attribute of `Serving` it sets, or one of `model`, `config`, `compilation_config`, `kernel_config`,
            `flashinfer_autotune`, and `tokenizer` (no fact; listed because its name begins another's).
        kind: how it takes its value.
        spellings: long form first, with dashes.
        key: the key of an object-valued `field` that it sets; empty where it sets all of it.
    """

    field: str
    kind: Kind
    spellings: tuple[str, ...]
    key: str = ""


OPTIONS = (
    Option("model", Kind.TEXT, ("--model",)),
    Option("config", Kind.TEXT, ("--config",)),
    Option("compilation_config", Kind.OBJECT, ("--compilation-config", "-cc")),
    Option("model_impl", Kind.TEXT, ("--model-impl",)),
    Option("revision", Kind.TEXT, ("--revision",)),
    Option("quantization", Kind.TEXT, ("--quantization", "-q")),
    Option("tokenizer", Kind.TEXT, ("--tokenizer",)),
    Option("tokenizer_mode", Kind.TEXT, ("--tokenizer-mode",)),
    Option("config_format", Kind.TEXT, ("--config-format",)),
    Option("hf_config_path", Kind.TEXT, ("--hf-config-path",)),
    Option("hf_overrides", Kind.OBJECT, ("--hf-overrides",)),
    Option("speculative", Kind.OBJECT, ("--speculative-config", "-sc")),
    Option("speculative", Kind.TEXT, ("--spec-method",), key="method"),
    Option("speculative", Kind.TEXT, ("--spec-model",), key="model"),
    Option("speculative", Kind.INTEGER, ("--spec-tokens",), key="num_speculative_tokens"),
    Option("kernel_config", Kind.OBJECT, ("--kernel-config",)),
    Option("flashinfer_autotune", Kind.FLAG, ("--enable-flashinfer-autotune", "--disable-flashinfer-autotune")),
    Option("enforce_eager", Kind.FLAG, ("--enforce-eager",)),
    Option("optimization_level", Kind.TEXT, ("--optimization-level", "-O")),
    Option("trust_remote_code", Kind.FLAG, ("--trust-remote-code",)),
    Option("enable_lora", Kind.FLAG, ("--enable-lora",)),
    Option("enable_eplb", Kind.FLAG, ("--enable-eplb",)),
    Option("enable_dbo", Kind.FLAG, ("--enable-dbo",)),
    Option("enable_expert_parallel", Kind.FLAG, ("--enable-expert-parallel", "-ep")),
    Option("kv_sharing_fast_prefill", Kind.FLAG, ("--kv-sharing-fast-prefill",)),
    Option("tensor_parallel_size", Kind.INTEGER, ("--tensor-parallel-size", "-tp")),
    Option("pipeline_parallel_size", Kind.INTEGER, ("--pipeline-parallel-size", "-pp")),
    Option("data_parallel_size", Kind.INTEGER, ("--data-parallel-size", "-dp")),
    Option("decode_context_parallel_size", Kind.INTEGER, ("--decode-context-parallel-size", "-dcp")),
    Option("prefill_context_parallel_size", Kind.INTEGER, ("--prefill-context-parallel-size", "-pcp")),
)
"""Every option this tool reads. A new serving fact is a line here and an attribute of `Serving`."""


class Setting(Struct, frozen=True):
    """One use of an option in an argument list.

    Attributes:
        spelling: the option as vLLM reads it, underscores made dashes.
        negated: the `--no-…` form of a flag was used.
        value: its text; empty for a flag.
        path: the dotted keys behind the option; empty in the plain form.
        start: index of its first argument.
        stop: index behind its last argument.
    """

    option: Option
    spelling: str
    negated: bool
    value: str
    path: tuple[str, ...]
    start: int
    stop: int


def scan(args: Sequence[str]) -> tuple[list[Setting], str | None]:
    """Find the uses of the options we know, in order, and the positional argument.

    The bare words behind an option we do not know count as its values: whether it takes none, one or many depends on
    the release. So a positional argument is found only where no such option could own it.

    Raises:
        TunerError: an option of ours lacks its value.
    """
    settings: list[Setting] = []
    positional: str | None = None
    index, owned = 0, False
    while index < len(args) and args[index] != "--":
        if not args[index].startswith("-"):
            positional = args[index] if positional is None and not owned else positional
            index += 1
        elif setting := _setting(args, index):
            settings.append(setting)
            index, owned = setting.stop, False
        else:
            index, owned = _past_unknown(args, index)
    if positional is None:
        positional = next(iter(args[index + 1 :]), None)
    return settings, positional


def option_names(args: Sequence[str]) -> set[str]:
    """What stands before `=` in each argument, with dashes as vLLM reads them; a bare value is among them, too."""
    return {argument.partition("=")[0].replace("_", "-") for argument in args}


def indexes_of_field(args: Sequence[str], field: str) -> set[int]:
    """The indexes of all arguments that set a field, values included.

    Raises:
        TunerError: an option of ours lacks its value.
    """
    indexes: set[int] = set()
    for setting in scan(args)[0]:
        if setting.option.field == field:
            indexes.update(range(setting.start, setting.stop))
    return indexes


def _past_unknown(args: Sequence[str], index: int) -> tuple[int, bool]:
    """The index behind an option we do not know, and whether the words there may belong to that option."""
    name, equals, _ = args[index].partition("=")
    if equals:
        return index + 1, False
    if "." in name:  # a dotted key takes the next argument, whatever it looks like
        return index + 2, False
    return index + 1, True


def _spellings() -> Mapping[str, tuple[Option, bool]]:
    """Every exact spelling, with its option and whether the spelling negates it."""
    table = {spelling: (option, False) for option in OPTIONS for spelling in option.spellings}
    flags = [option for option in OPTIONS if option.kind is Kind.FLAG]
    return table | {f"--no-{option.spellings[0].removeprefix('--')}": (option, True) for option in flags}


_SPELLINGS = _spellings()


def _option(name: str) -> tuple[Option, bool] | None:
    """The option that `name` spells, in full or shortened, and whether the spelling negates it.

    `-dc`, the start of our `-dcp`, is itself an option in 0.32.0. vLLM stops at a shortened name that is ambiguous with
    an option we do not know.
    """
    if name in _SPELLINGS:
        return _SPELLINGS[name]
    if name in {"--", "-", "-dc"} or not name.startswith("-"):
        return None
    longer = [spelling for spelling in _SPELLINGS if spelling.startswith(name)]
    return _SPELLINGS[longer[0]] if len(longer) == 1 else None


def _setting(args: Sequence[str], index: int) -> Setting | None:
    """The use of one of our options that starts at `index`."""
    name, equals, value = args[index].partition("=")
    head, dot, path = name.partition(".")
    spelling = head.replace("_", "-") if head.startswith("--") else head
    match = _option(spelling)
    if match is None:
        return _attached(args[index], index)
    option, negated = match
    stop = index + 1
    if not equals and (dot or option.kind is not Kind.FLAG):
        value = _next_value(args, index, dotted=bool(dot))
        stop += 1
    return Setting(option, spelling, negated, value, tuple(path.split(".")) if dot else (), index, stop)


def _attached(token: str, index: int) -> Setting | None:
    """`-qfp8`: a one-letter option with its value in the same argument, as argparse reads it."""
    match = _SPELLINGS.get(token[:2])
    if match is None or "." in token.partition("=")[0]:
        return None
    option, negated = match
    return Setting(option, token[:2], negated, token[2:], (), index, index + 1)


def _next_value(args: Sequence[str], index: int, *, dotted: bool) -> str:
    """The argument behind `index`. Only a dotted option takes one that looks like an option."""
    value = next(iter(args[index + 1 : index + 2]), None)
    like_option = value is not None and value.startswith("-") and not is_negative_number(value)
    if value is None or (like_option and not dotted):
        # vLLM itself looks for these before its parser does
        raises = dotted or args[index] == "--model"
        kind = ErrorKind.ARGUMENTS if raises else ErrorKind.USAGE
        message = f"The option {brief(args[index])} has no value."
        raise TunerError(message, hint="Give the value after the option.", kind=kind)
    return value


def is_negative_number(text: str) -> bool:
    """Whether argparse takes a text with a dash for a value: digits with at most one point, and digits behind it."""
    if not text.startswith("-"):
        return False
    whole, point, part = text[1:].partition(".")
    digits = part if point else whole
    return digits.isdecimal() and (not point or not whole or whole.isdecimal())
