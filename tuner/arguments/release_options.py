"""The options of `vllm serve`, release by release: what each is called, how many words it takes, and which values.

The table is `release_options.json`. `tools/make_release_options.py` reads it from the parsers of the releases that it
lists. A release that it does not list is answered by the nearest older one, and is not `exact`.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from rules.releases import is_source_build, named_release, numbers_of
from tuner.arguments.vllm_options import is_negative_number

FILE = Path(__file__).with_name("release_options.json")

ValueKind = Literal[
    "none",
    "text",
    "folded_text",
    "int",
    "float",
    "size",
    "size_or_auto",
    "json",
    "json_or_text",
    "config",
    "unknown",
]
"""How an option reads a word.

`folded_text` is text in which case and dashes do not count. `size` is an integer that may end with `k`, `M` and the
like, and `size_or_auto` may be `auto`, too. `json_or_text` is JSON where it stands in braces. `config` is a JSON object
whose keys are fields of one of vLLM's config classes. `unknown` is code of its own, which may refuse anything.
"""


class ReleaseOption(Struct, frozen=True, omit_defaults=True):
    """One option, as it is in a run of releases.

    Attributes:
        spellings: long forms first, as vLLM declares them; a flag's `--no-` form among them.
        takes: how many words: none, one, one or none, one or more.
        kind: how each word is read.
        first: index of the first release that has it in this form.
        last: index of the last one.
        optional: an empty word, or `None`, stands for none.
        choices: the values that are taken, None among them where `optional` ones are; empty: any.
        keys: the keys of a `config`; None where it takes any.
    """

    spellings: tuple[str, ...]
    takes: Literal["0", "1", "?", "+"]
    kind: ValueKind
    first: int
    last: int
    optional: bool = False
    choices: tuple[str | int | None, ...] = ()
    keys: tuple[str, ...] | None = None


class ReleaseOptions(Struct, frozen=True):
    """All options of all releases.

    Attributes:
        releases: `major.minor.patch`, oldest first.
        options: by spelling and release.
    """

    releases: tuple[str, ...]
    options: tuple[ReleaseOption, ...]


class Use(Struct, frozen=True):
    """What one argument means to the parser.

    Attributes:
        option: None if there is no such option, or several.
        spelling: the option in full; as written where there is no such option.
        attached: the value in the same argument; None without one.
        candidates: the options that a shortened name may stand for, where that are several.
    """

    option: ReleaseOption | None
    spelling: str
    attached: str | None = None
    candidates: tuple[str, ...] = ()


class OptionTable:
    """The options of one release.

    Attributes:
        version: the release that was asked for.
        basis: the release that the table was read from.
        exact: the two are the same, so what is not in the table is refused.
        numbers: those of `basis`.
    """

    def __init__(self, version: str, basis: str, by_spelling: Mapping[str, ReleaseOption]) -> None:
        self.version = version
        self.basis = basis
        self.exact = version == basis
        self.numbers = numbers_of(basis)
        self._by_spelling = by_spelling
        self._sorted = sorted(by_spelling)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every spelling, sorted."""
        return tuple(self._sorted)

    def get(self, spelling: str) -> ReleaseOption | None:
        """The option of exactly this spelling."""
        return self._by_spelling.get(spelling)

    def use_of(self, text: str) -> Use | None:
        """What an argument means; None if it is a bare word. As Python's argparse decides it (3.11 to 3.13).

        Args:
            text: with dashes for underscores in the option's name, as vLLM writes it before argparse sees it.
        """
        if not text.startswith("-") or text == "-":
            return None
        if option := self._by_spelling.get(text):
            return Use(option, text)
        name, equals, value = text.partition("=")
        attached = value if equals else None
        if equals and (option := self._by_spelling.get(name)):
            return Use(option, name, attached)
        uses = [*self._shortened(name, attached)] if text.startswith("--") else [*self._short(text)]
        if len(uses) == 1:
            return uses[0]
        if uses:
            return Use(None, name, attached, tuple(use.spelling for use in uses))
        return None if is_negative_number(text) or " " in text else Use(None, name, attached)

    def _shortened(self, prefix: str, attached: str | None) -> Iterator[Use]:
        """The long options that begin so."""
        for index in range(bisect_left(self._sorted, prefix), len(self._sorted)):
            spelling = self._sorted[index]
            if not spelling.startswith(prefix):
                return
            yield Use(self._by_spelling[spelling], spelling, attached)

    def _short(self, text: str) -> Iterator[Use]:
        """A one-letter option with its value behind it, and the short options that begin so."""
        if option := self._by_spelling.get(text[:2]):
            yield Use(option, text[:2], text[2:])
        yield from (use for use in self._shortened(text, None) if use.spelling != text[:2])


def positional_in(args: Sequence[str], table: OptionTable) -> str | None:
    """The first argument that no option takes, as the parser of a release finds it.

    None where there is none, or where an option stands in front of it that the table lacks.
    """
    index = 0
    while index < len(args) and args[index] != "--":
        use = _use_in(args[index], table)
        if use is None:
            return args[index]
        if use.option is None:
            return None
        index += 1 + _words_taken(use, args, index + 1, table)
    return next(iter(args[index + 1 :]), None)


def _use_in(argument: str, table: OptionTable) -> Use | None:
    """What an argument means, its underscores read as vLLM reads them."""
    name, equals, value = argument.partition("=")
    dashed = name.replace("_", "-") if name.startswith("--") else name
    head, dot, _ = dashed.partition(".")
    if dot and table.get(head):
        return Use(table.get(head), head, value if equals else None)
    return table.use_of(f"{dashed}{equals}{value}")


def _words_taken(use: Use, args: Sequence[str], start: int, table: OptionTable) -> int:
    """How many arguments from `start` on are values of an option."""
    if use.option is None or use.attached is not None or use.option.takes == "0":
        return 0
    bare = 0
    for argument in args[start:]:
        if argument == "--" or _use_in(argument, table) is not None:
            break
        bare += 1
    most = {"1": 1, "?": 1}.get(use.option.takes, bare)
    return min(bare, most)


def option_table(vllm: str | None) -> OptionTable | None:
    """The options of a release, or of the nearest older one; None for a version that names no release.

    None as well for one that was built between releases, and for one that is older than the table.
    """
    version = named_release(vllm)
    if version is None or version.preview:
        return None
    table = _table()
    older = [number for number, release in enumerate(table.releases) if numbers_of(release) <= version.release]
    if not older:
        return None
    basis = table.releases[older[-1]]
    exact = numbers_of(basis) == version.release and not is_source_build(vllm)
    return OptionTable(basis if exact else str(vllm), basis, _by_spelling(older[-1]))


def history(spelling: str) -> str:
    """When an option of another release was there, as half a sentence; empty if it never was."""
    table = _table()
    runs: list[tuple[int, int]] = []
    for option in sorted(table.options, key=lambda option: option.first):
        if spelling not in option.spellings:
            continue
        if runs and runs[-1][1] + 1 >= option.first:
            runs[-1] = (runs[-1][0], option.last)
        else:
            runs.append((option.first, option.last))
    texts = [_run_text(first, last, table.releases) for first, last in runs]
    return f"an option {', and '.join(texts)}" if texts else ""


def _run_text(first: int, last: int, releases: Sequence[str]) -> str:
    """From which release on an option was there, and until which."""
    if last + 1 == len(releases):
        return f"from {releases[first]} on"
    until = f"until {releases[last + 1]}"
    return f"from {releases[first]} {until}" if first else until


@cache
def _table() -> ReleaseOptions:
    return msgspec.json.decode(FILE.read_bytes(), type=ReleaseOptions)


@cache
def _by_spelling(release: int) -> Mapping[str, ReleaseOption]:
    options = (option for option in _table().options if option.first <= release <= option.last)
    return {spelling: option for option in options for spelling in option.spellings}
