"""What the files of one vLLM say of `fast_moe_cold_start`. They decide where a version names no release."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from rules.releases import FlagForm


class Counting(StrEnum):
    """When a forward context counts MoE calls, by vllm/forward_context.py."""

    NEVER = "never"
    """Nothing there lists MoE layers."""
    ALWAYS = "always"
    """It lists them, and asks no flag (0.15.0)."""
    FLAG = "flag"
    """It lists them if the flag is true (0.15.1 to 0.33.0)."""


@dataclass(frozen=True)
class FlagFacts:
    """The facts, each None where the files were not read or say something else than in the releases that were read.

    Attributes:
        form: how `CompilationConfig` in vllm/config/compilation.py knows the flag.
        counting: when MoE calls are counted.
        forced_off_from: the first torch with which vllm/config/vllm.py forces the flag to false, `2.11.0.dev` in 0.17.0
            to 0.33.0; empty: it is never forced.
    """

    form: FlagForm | None = None
    counting: Counting | None = None
    forced_off_from: str | None = None

    @property
    def takes_key(self) -> bool | None:
        """Whether a launch may set the flag; a vLLM that does not take the key does not start with it."""
        return None if self.form is None else self.form is FlagForm.FIELD

    def to_dict(self) -> dict[str, str | None]:
        """Plain JSON values; `from_dict` reads them back."""
        return {
            "form": _plain(self.form),
            "counting": _plain(self.counting),
            "forced_off_from": self.forced_off_from,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; a fact that is missing is unknown, and other names are left out.

        Raises:
            ValueError: a fact is none of those that can be.
        """
        form, counting, forced = (data.get(name) for name in ("form", "counting", "forced_off_from"))
        if forced is not None and not (isinstance(forced, str) and TORCH_BOUND.fullmatch(forced)):
            raise ValueError(f"{forced!r:.80} is no version of torch")
        return cls(
            form=None if form is None else FlagForm(form),
            counting=None if counting is None else Counting(counting),
            forced_off_from=forced,
        )


TORCH_BOUND = re.compile(r"(?:[0-9]{1,4}(?:\.[0-9]{1,4}){1,2}(?:\.dev)?)?", re.ASCII)
"""What `forced_off_from` may be: a release of torch, the lowest build of one (`.dev`), or nothing."""


def _plain(word: StrEnum | None) -> str | None:
    return None if word is None else str(word)
