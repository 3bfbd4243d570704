"""Where the parser of `vllm serve` stops at an argument list: options it lacks, values it refuses, values not there.

Follows `FlexibleArgumentParser.parse_args` (vllm/utils/argparse_utils.py, 0.14.1 to 0.33.0) and Python's argparse under
it, with the options of `release_options.py`. vLLM stops at the first fault; here the first hundred are named. Two
things are not judged: values whose option reads them by code of its own, and what a config class says of the values of
its keys.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any

from msgspec import Struct

from tuner.arguments.release_options import OptionTable, ReleaseOption, Use, history
from tuner.arguments.serve_arguments import ServeArguments
from tuner.arguments.serving import write_out_numbers
from tuner.text import MAX_BRIEF, brief
from tuner.untrusted.json_text import MAX_NESTING, deeper_than

MAX_FAULTS = 100
"""Faults of one list that are named: who mends these checks again."""
FROM_FILE = -1
"""The index of what stands in the `--config` file."""
REPLACED = {
    "--task": "--runner pooling, with --convert embed or --convert classify where the model generates",
    "--disable-log-requests": "--no-enable-log-requests",
}
"""Options that went, and what took their place: the hint in vllm/utils/argparse_utils.py (0.32.0) for the first, the
text of its deprecation in vllm/engine/arg_utils.py (0.16.0) for the second."""
OTHER_SERVER = "--omni"
"""Starts the server of the package vllm-omni, whose parser has options of its own; nothing is judged there."""
LEFT_OUT = {"...", "\N{HORIZONTAL ELLIPSIS}"}
"""Words that stand for arguments which a document leaves out."""
NO_VALUE = ("", "None")
"""What an option that may be None reads as None (vllm/engine/arg_utils.py, optional_type)."""
LEVEL = "--optimization-level"
"""The option whose value vLLM judges behind its parser: `OptimizationLevel` (vllm/config/vllm.py, 0.14.1 to 0.33.0).
Releases before the table took a compilation config there, as `-O.mode=3`."""
MODEL_FIRST = (0, 17)
"""The first minor series that wants the model in front of `--served-model-name`."""
EXPANDS = (0, 20)
"""The first minor series that writes out numbers such as `80g` in a config before it reads JSON."""


class FaultKind(StrEnum):
    """What is wrong with an argument."""

    UNKNOWN = "unknown"
    """The release has no such option, or takes no further word."""
    VALUE = "value"
    """The option does not take this value, or lacks one."""


class Fault(Struct, frozen=True):
    """One place at which vLLM's parser stops.

    Attributes:
        index: of the argument in the list that was given; `FROM_FILE` for one of the `--config` file.
        text: whole sentences.
        of_number: there is a word too many or too few.
    """

    kind: FaultKind
    index: int
    text: str
    of_number: bool = False


class GivenOption(Struct, frozen=True):
    """One use of an option that the release has.

    Attributes:
        name: its first spelling.
        spelling: the one that is used, in full.
        value: its last value; None without one.
        index: as in `Fault`.
        unknown: the value is not known.
    """

    name: str
    spelling: str
    value: str | None
    index: int
    unknown: bool = False


class OptionReading(Struct, frozen=True):
    """An argument list as the parser of a release reads it: the options in its order, and where it stops."""

    options: tuple[GivenOption, ...] = ()
    faults: tuple[Fault, ...] = ()


class Word(Struct, frozen=True):
    """One argument as argparse sees it.

    Attributes:
        text: with dashes in the option's name.
        index: as in `Fault`.
        unknown: its value, or a part of it, is not known here.
    """

    text: str
    index: int
    unknown: bool = False


class _Refused(Exception):  # noqa: N818  it ends the reading, as it ends vLLM's
    """A text with which vLLM ends before argparse sees the list."""

    def __init__(self, index: int, text: str) -> None:
        super().__init__(text)
        self.fault = Fault(FaultKind.VALUE, index, text)


def read_options(
    arguments: ServeArguments, table: OptionTable, unknown: Collection[int] = (), *, complete: bool = True
) -> OptionReading:
    """The options that the parser of this release reads, and every place at which it stops.

    Args:
        arguments: a list that `parse` took.
        table: the options of the release; of one that is not exact the answer holds for another release.
        unknown: indexes of arguments whose value is not known; they are never judged.
        complete: no argument is hidden; where some are, what seems to be missing or too much may be among them.
    """
    if OTHER_SERVER in arguments.as_written:
        return OptionReading()
    words = [Word(text, index, index in unknown or text in LEFT_OUT) for index, text in enumerate(arguments.as_written)]
    try:
        _require_model_first(words, table)
        words = _gathered([*_spelled(_with_file(_model_first(words), arguments))])
    except _Refused as refused:
        return OptionReading(faults=(refused.fault,) if complete and not unknown else ())
    reading = _Reading(table, words)
    faults = (fault for fault in reading.faults() if complete or not fault.of_number)
    named = tuple(islice(faults, MAX_FAULTS))
    return OptionReading(tuple(reading.options), named)


def _model_first(words: list[Word]) -> list[Word]:
    """The words with the first `--model` as the positional argument, wherever it stands: behind `--`, too.

    Raises:
        _Refused: nothing stands behind it, where vLLM ends with a traceback.
    """
    place = next((number for number, word in enumerate(words) if _names(word.text, "--model")), None)
    if place is None:
        return words
    word, behind = words[place], words[place + 1 :]
    if word.text != "--model":
        return [Word(word.text.removeprefix("--model="), word.index, word.unknown), *words[:place], *behind]
    if not behind:
        raise _Refused(word.index, "The option --model has no value.")
    return [behind[0], *words[:place], *behind[1:]]


def _require_model_first(words: Sequence[Word], table: OptionTable) -> None:
    """Raise where the release wants the model in front of `--served-model-name`."""
    has_model = any(_names(word.text, "--model") or _names(word.text, "--config") for word in words)
    names = [word for word in words if _names(word.text.replace("_", "-"), "--served-model-name")]
    if names and not has_model and words[0].text.startswith("-") and table.numbers >= MODEL_FIRST:
        text = "vLLM refuses --served-model-name where the model is not the first argument. Name it first."
        raise _Refused(names[0].index, text)


def _names(text: str, option: str) -> bool:
    """Whether vLLM, before argparse, takes an argument for this option: bare, or with a value behind `=`."""
    return text == option or (text.startswith(f"{option}=") and len(text) > len(option) + 1)


def _with_file(words: list[Word], arguments: ServeArguments) -> list[Word]:
    """The words with those of the `--config` file in place of its name, behind a model that stands first."""
    texts = [word.text for word in words]
    if "--config" not in texts:
        return words
    place = texts.index("--config")
    first = 0 if arguments.as_written[0].startswith("-") else 1
    count = len(arguments.effective) - len(arguments.as_written) + 2
    file = [Word(text, FROM_FILE) for text in arguments.effective[first : first + count]]
    ahead = 0 if words[0].text.startswith("-") else 1
    return [*words[:ahead], *file, *words[ahead:place], *words[place + 2 :]]


def _spelled(words: Sequence[Word]) -> Iterator[Word]:
    """The words with dashes for underscores in long options, and every form of `-O` in full."""
    for number, word in enumerate(words):
        text = word.text
        if text.startswith("--"):
            name, equals, value = text.partition("=")
            head, dot, path = name.partition(".")
            yield Word(f"{head.replace('_', '-')}{dot}{path}{equals}{value}", word.index, word.unknown)
        elif text.startswith("-O") and text != "-O":
            yield Word(LEVEL, word.index)
            yield Word(text[3:] if text[2] == "=" else text[2:], word.index, word.unknown)
        elif text == "-O" and any(_may_be_level(behind) for behind in words[number + 1 : number + 2]):
            yield Word(LEVEL, word.index)
        else:
            yield word


def _may_be_level(word: Word) -> bool:
    return word.unknown or word.text in {"0", "1", "2", "3"}


def _gathered(words: Sequence[Word]) -> list[Word]:
    """The words with the dotted ones as one JSON object an option, at the end."""
    plain: list[Word] = []
    objects: dict[str, dict[str, Any]] = {}
    uses: dict[str, Word] = {}
    number = 0
    while number < len(words):
        word = words[number]
        number += 1
        name, equals, value = word.text.partition("=")
        dotted = word.text.startswith("-") and "." in name and not (word.text.startswith("--") and "." not in word.text)
        if not dotted:
            plain.append(word)
            continue
        unknown = word.unknown
        if not equals:
            if number == len(words):
                raise _Refused(word.index, f"The option {brief(name)} has no value.")
            value, unknown = words[number].text, unknown or words[number].unknown
            number += 1
        option, *path = name.removesuffix("+").split(".")
        _set(objects.setdefault(option, {}), path, value)
        before = uses.get(option)
        uses[option] = Word(option, word.index, unknown or (before is not None and before.unknown))
    for option, use in uses.items():
        plain += [Word(option, use.index), Word(json.dumps(objects[option]), use.index, use.unknown)]
    return plain


def _set(target: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Put a value at a path; only the keys of the outermost object count here."""
    target[path[0]] = value if len(path) == 1 else {}


class _Reading:
    """One pass over the words, as argparse makes it."""

    def __init__(self, table: OptionTable, words: Sequence[Word]) -> None:
        self._table = table
        self._words = words
        self._stop = next((number for number, word in enumerate(words) if word.text == "--"), len(words))
        self._model_read = False
        self.options: list[GivenOption] = []

    def faults(self) -> Iterator[Fault]:
        """The faults, in the order of the words."""
        number, owned = 0, False
        while number < self._stop:
            word = self._words[number]
            use = self._table.use_of(word.text)
            number += 1
            if use is None:
                yield from self._of_bare(word, owned=owned)
                owned = owned or word.unknown
            elif use.option is None:
                yield from self._of_unknown(word, use)
                owned = use.attached is None
            else:
                values = self._words[number : number + self._count(use, use.option, number)]
                self.options.append(_given_option(word, use, use.option, values))
                yield from self._of_use(word, use, use.option, values)
                number, owned = number + len(values), False
        for word in self._words[self._stop + 1 :]:
            yield from self._of_bare(word, owned=False)

    def _of_bare(self, word: Word, *, owned: bool) -> Iterator[Fault]:
        """The first bare word is the model; a further one may belong to what is not known in front of it."""
        if owned or word.unknown:
            return
        if not self._model_read:
            self._model_read = True
            return
        yield Fault(
            FaultKind.UNKNOWN, word.index, f"vLLM takes no second argument without an option: {brief(word.text)}."
        )

    def _of_unknown(self, word: Word, use: Use) -> Iterator[Fault]:
        if word.unknown and use.attached is None:
            return
        yield Fault(FaultKind.UNKNOWN, word.index, _unknown_text(use, self._table))

    def _count(self, use: Use, option: ReleaseOption, start: int) -> int:
        """How many of the words from `start` on are the option's values."""
        if use.attached is not None or option.takes == "0":
            return 0
        stop = start
        while stop < self._stop and self._table.use_of(self._words[stop].text) is None:
            stop += 1
            if option.takes != "+":
                break
        return stop - start

    def _of_use(self, word: Word, use: Use, option: ReleaseOption, values: Sequence[Word]) -> Iterator[Fault]:
        """The faults of one use of an option that is there."""
        name = use.spelling
        if option.takes == "0":
            if use.attached is not None:
                yield Fault(FaultKind.VALUE, word.index, f"The option {name} takes no value.")
            return
        value_words = [word] if use.attached is not None else [*values]
        if not value_words and option.takes != "?":
            yield Fault(FaultKind.VALUE, word.index, f"The option {name} has no value.", of_number=True)
        for value in value_words:
            text = value.text if use.attached is None else use.attached
            why = "" if value.unknown else why_refused(option, text, name, self._table)
            if why:
                yield Fault(FaultKind.VALUE, value.index, why)


def _given_option(word: Word, use: Use, option: ReleaseOption, values: Sequence[Word]) -> GivenOption:
    """A use, with its last value."""
    last = values[-1].text if values else use.attached
    return GivenOption(option.spellings[0], use.spelling, last, word.index, any(w.unknown for w in (word, *values)))


def why_refused(option: ReleaseOption, text: str, name: str, table: OptionTable) -> str:
    """Why an option does not take a value, as a whole sentence; empty if it does, or if that is not known here."""
    value: Any = text
    if LEVEL in option.spellings:
        is_level = _is_level(text)
        return (
            ""
            if is_level
            else f"The value {brief(text)} of -O is not a level from 0 to 3; -cc sets keys of the config."
        )
    if option.kind == "unknown":
        return ""
    if option.optional and text in NO_VALUE:
        value = None
    elif option.kind == "config":
        return _why_no_config(option, text, name, table)
    elif option.kind in READERS:
        reader, noun = READERS[option.kind]
        try:
            value = reader(text)
        except (ValueError, RecursionError):
            return f"The value {brief(text)} of {name} is not {noun}."
    if option.choices and value not in option.choices:
        choices = ", ".join(str(choice) for choice in option.choices)
        return f"The value {brief(text)} of {name} is not one of {choices}."
    return ""


def _is_level(text: str) -> bool:
    try:
        return float(text) in {0, 1, 2, 3}
    except ValueError:
        return False


def _why_no_config(option: ReleaseOption, text: str, name: str, table: OptionTable) -> str:
    """Why a text is not an object with the keys of this config."""
    try:
        value = json.loads(_expanded(text, table))
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or deeper_than(MAX_NESTING, value):
        return f"The value {brief(text)} of {name} is not a JSON object."
    lacking = [] if option.keys is None else [key for key in value if key not in option.keys]
    if not lacking:
        return ""
    return f"vLLM {table.version} does not know {', '.join(map(brief, lacking))} in {name}{_near_key(lacking, option)}."


def _expanded(text: str, table: OptionTable) -> str:
    """The text with numbers such as `80g` written out, if this release does that."""
    return write_out_numbers(text) if table.numbers >= EXPANDS else text


def _near_key(lacking: Sequence[str], option: ReleaseOption) -> str:
    """A key that may be meant."""
    near = nearest(lacking[0], option.keys or ())
    return f"; {near} may be meant" if near else ""


def _unknown_text(use: Use, table: OptionTable) -> str:
    """That the release lacks an option, since when, and what may be meant."""
    name = brief(use.spelling)
    if use.candidates:
        return f"The option {name} may be short for {', '.join(use.candidates[:4])}; vLLM refuses it. Write it in full."
    was = history(use.spelling)
    aside = f" ({was})" if was else ""
    instead = REPLACED.get(use.spelling) or _nearest_option(use.spelling, table)
    hint = f" Instead of it there is {instead}." if use.spelling in REPLACED else f" The nearest option is {instead}."
    stops = f"vLLM {table.version} does not know the option {name}{aside}"
    return f"{stops}, and does not start with it.{hint if instead else ''}"


def _nearest_option(spelling: str, table: OptionTable) -> str:
    """The option that is spelt most like this one; empty if none is."""
    dashes = [spelling.removeprefix("-"), f"-{spelling}"]
    exact = next((other for other in dashes if table.get(other)), "")
    return exact or nearest(spelling, table.spellings)


def nearest(name: str, names: Sequence[str]) -> str:
    """The one of the names that is spelt most like this one; empty if none is much like it."""
    from difflib import get_close_matches  # noqa: PLC0415  only what is misspelt needs it

    return next(iter(get_close_matches(name[:MAX_BRIEF], names, 1, 0.8)), "")


def _size(text: str) -> int:
    """An integer that may end with a letter: `1k` is 1000 and `1K` 1024 (vLLM's human_readable_int)."""
    number, suffix = text.strip()[:-1], text.strip()[-1:]
    if suffix not in {*"kKmMgGtT"}:
        return int(text.strip())
    whole, point, part = number.partition(".")
    if not whole.isdecimal() or (point and not part.isdecimal()) or (point and suffix.isupper()):
        raise ValueError
    return int(whole)


def _size_or_auto(text: str) -> int:
    return -1 if text.strip().lower() == "auto" else _size(text)


def _json_or_text(text: str) -> Any:
    stripped = text.strip()
    return json.loads(text) if stripped.startswith("{") and stripped.endswith("}") else text


def _folded(text: str) -> str:
    return text.lower().replace("-", "_")


READERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "an integer"),
    "float": (float, "a number"),
    "size": (_size, "an integer, or one that ends with k, m, g or t"),
    "size_or_auto": (_size_or_auto, "an integer, one that ends with k, m, g or t, or auto"),
    "json": (json.loads, "JSON"),
    "json_or_text": (_json_or_text, "JSON"),
    "folded_text": (_folded, "text"),
}
"""Kind of value -> what reads it, raising ValueError for what it is not, and what it is in words."""
