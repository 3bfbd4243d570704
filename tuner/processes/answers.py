"""The answers that a worker writes into its control folder: read within bounds, and checked against their types."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct, ValidationError

from cache.secrets import redacted_values
from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain
from tuner.untrusted.fitting import fitted

LARGEST = 32 * 2**20
"""Bytes of an answer. The answer for a real model has 0.1 MB, and the list of a whole registry 1 MB."""
_Answer = TypeVar("_Answer")


class Failed(Struct, frozen=True):
    """Every answer that says why there is no other one.

    Attributes:
        result: anything but `ok`.
        message: what went wrong.
        where: the place in the code that raised it.
    """

    result: str
    message: str
    where: str


def read_answer(path: Path, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object in a file that a worker wrote, with every text in it redacted.

    Args:
        path: the file.
        secrets: values that are masked, beside everything that looks like a secret.

    Raises:
        TunerError: kind `report`: it is not a regular file, is too large, or does not hold a JSON object.
    """
    try:
        data = read_plain(path, LARGEST + 1)
        if len(data) > LARGEST:
            raise damaged(path.name, f"it is larger than {LARGEST >> 20} MiB")
        answer = redacted_values(json.loads(data.decode("utf-8")), secrets)
    except OSError as error:
        raise damaged(path.name, error.strerror or "it cannot be read") from None
    except RecursionError:
        raise damaged(path.name, "it is nested too deeply") from None
    except ValueError as error:
        raise damaged(path.name, f"{error!s:.80}") from None
    if not isinstance(answer, dict):
        raise damaged(path.name, "it is not a JSON object")
    return answer


def checked(name: str, answer: Any, shape: type[_Answer]) -> _Answer:
    """An answer as its type; fields that the type does not name are dropped.

    Raises:
        TunerError: kind `report`: a field is missing, or has another type.
    """
    try:
        return fitted(answer, shape)
    except ValidationError as error:
        raise damaged(name, f"{error!s:.160}") from None


def damaged(name: str, why: str) -> TunerError:
    """The failure for an answer that cannot be used."""
    return TunerError(
        f"The worker's answer {name} is damaged: {why}.",
        hint="Nothing was stored. If it happens again, the model's code or the environment's vLLM meddles with it.",
        kind=ErrorKind.REPORT,
    )
