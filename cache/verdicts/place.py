"""The file of a verdict store, and how a command to run next names it."""

import shlex
from pathlib import Path
from typing import NamedTuple


class Place(NamedTuple):
    """Where a verdict store lies.

    Attributes:
        path: the file.
        named: the user named it by an option, which a command to run next needs, too.
    """

    path: Path
    named: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The option that names the store in a command to run next; none where the user gave none."""
        return ("--store", str(self.path)) if self.named else ()

    def command(self, *words: str) -> str:
        """A command of this tool for the store, as a shell takes it.

        Args:
            words: what stands behind `tuner`.
        """
        return shlex.join(["tuner", *words, *self.options])
