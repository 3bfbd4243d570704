"""What a worker wrote into its control folder: read within bounds, and no farther believed than its shape goes."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cache.secrets import redacted_values
from rules.errors import ErrorKind, TunerError
from tuner.untrusted.files import read_plain

LARGEST = 32 * 2**20
"""Bytes of an answer; those of real models take 0.1 MB, and the list of a whole registry 1 MB."""

Shape = Mapping[str, type | tuple[type, ...]]
"""Field -> its type, or types."""
FAILED: Shape = {"result": str, "message": str, "where": str}
"""The shape of every answer that says why there is no other."""


def read_answer(path: Path, secrets: Iterable[str] = ()) -> dict[str, Any]:
    """The JSON object in a file of the worker's, every text in it redacted.

    Args:
        path: the file.
        secrets: values that are masked, beside all that looks like one.

    Raises:
        TunerError: kind `report`: it is no regular file, too large, or no JSON object.
    """
    try:
        data = read_plain(path, LARGEST + 1)
        if len(data) > LARGEST:
            raise damaged(path.name, f"it is larger than {LARGEST >> 20} MiB")
        found = redacted_values(json.loads(data.decode("utf-8")), secrets)
    except OSError as error:
        raise damaged(path.name, error.strerror or "it cannot be read") from None
    except RecursionError:
        raise damaged(path.name, "it is nested too deeply") from None
    except ValueError as error:
        raise damaged(path.name, f"{error!s:.80}") from None
    if not isinstance(found, dict):
        raise damaged(path.name, "it is no JSON object")
    return found


def require(name: str, answer: Mapping[str, Any], shape: Shape) -> None:
    """See that an answer has the fields that will be read.

    Raises:
        TunerError: kind `report`: one is missing, or of another type.
    """
    for field, kind in shape.items():
        if not isinstance(answer.get(field), kind):
            raise damaged(name, f"it has no usable `{field}`")


def damaged(name: str, why: str) -> TunerError:
    """The failure for an answer that cannot be used."""
    return TunerError(
        f"The worker's answer {name} is damaged: {why}.",
        hint="Nothing was stored. If it happens again, the model's code or the environment's vLLM meddles with it.",
        kind=ErrorKind.REPORT,
    )
