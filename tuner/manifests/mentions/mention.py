"""A place in a file that names a way to start vLLM, before it is known whether a reader took it for a launch."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

MENTION = re.compile(
    r"vllm|engine_kwargs|compilation[-_]config|\bLLM\(|EngineArgs\(|AsyncLLMEngine|kaito\.sh|modelserving|ray\.serve\.llm"
    r"|llm-d|-cc\.[a-z]",
    re.IGNORECASE,
)
"""A text without any of these starts no vLLM, and need not be read closely."""
CONFIG_OPTION = re.compile(r"--compilation[-_]config\b|-cc\.[a-z_]")
"""The option of vLLM's server that sets a compilation config, or one of its keys."""


class Lines:
    """The lines of a text, by offset."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))

    def at(self, offset: int) -> int:
        """The line of an offset, from 1."""
        return bisect_right(self.starts, offset)

    def before(self, offset: int) -> int:
        """The line of the last thing that is written before an offset; empty lines and comments do not count."""
        line = self.at(offset)
        return line if self.text[self.starts[line - 1] : offset].strip() else max(line - 1, 1)


@dataclass(frozen=True)
class Mention:
    """One place.

    Attributes:
        line: where it is, from 1.
        form: what starts vLLM there, as the end of a sentence.
        first: first line of the command, container or service that it belongs to.
        last: last line of that.
        weak: it names arguments alone, which count only where nothing else in the file starts vLLM.
    """

    line: int
    form: str
    first: int
    last: int
    weak: bool = False

    def moved(self, lines: int) -> "Mention":
        """The same place in a file in which the text begins that many lines later."""
        return Mention(self.line + lines, self.form, self.first + lines, self.last + lines, self.weak)

    def within(self, first: int, last: int) -> "Mention":
        """The same place, as a part of a larger block."""
        return Mention(self.line, self.form, first, last, self.weak)
