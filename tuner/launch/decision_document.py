"""The document of one decision, read back: what `tuner plan --json` and `tuner export --format json` write."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rules.errors import ErrorKind, TunerError
from tuner.launch.document import SCHEMA_VERSION
from tuner.untrusted.files import read_plain

MAX_BYTES = 16 << 20
"""More is read of no file; a document with every annotation has some ten thousand."""
HINT = "Make it with `tuner export MODEL --format json -- VLLM ARGS`, with the arguments of the launch."


def load_decision(path: Path) -> Mapping[str, Any]:
    """The document of one decision in a file; only its frame is checked.

    Raises:
        TunerError: the file cannot be read, or as `one_decision`.
    """
    try:
        document = json.loads(read_plain(path, MAX_BYTES))
    except OSError as error:
        raise TunerError(f"{path} cannot be read: {error.strerror}.", hint=HINT, kind=ErrorKind.DECISION) from None
    except (ValueError, RecursionError):
        raise TunerError(f"{path} is not a JSON document.", hint=HINT, kind=ErrorKind.DECISION) from None
    return one_decision(document, str(path))


def one_decision(document: object, name: str) -> Mapping[str, Any]:
    """The document itself, if it is that of one decision.

    Args:
        document: what was read.
        name: what it is called in an error.

    Raises:
        TunerError: it is another thing; the sentence says what.
    """
    if not isinstance(document, dict):
        fault = "it is not a JSON object"
    elif isinstance(document.get("error"), dict):
        fault = f"it is the document of a failure: {document['error'].get('message')}"
    elif type(version := document.get("schema_version")) is int and 0 < version < SCHEMA_VERSION:
        fault = f"an older release of the tool made it (schema_version {version}), and this one reads {SCHEMA_VERSION}"
    elif type(version) is not int or version != SCHEMA_VERSION:
        fault = f"it has schema_version {version!r}, and this release reads {SCHEMA_VERSION}"
    elif "results" in document:
        fault = "it is about several models"
    elif "launch" not in document:
        fault = "it is about no launch"
    else:
        return document
    raise not_a_decision(name, fault[:500].rstrip("."))


def not_a_decision(name: str, why: str) -> TunerError:
    """The error for a document that is none; `why` is half a sentence."""
    return TunerError(f"{name} is not a decision: {why}.", hint=HINT, kind=ErrorKind.DECISION)
