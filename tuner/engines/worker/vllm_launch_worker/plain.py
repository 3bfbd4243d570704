"""Turns values into JSON values and hides secrets."""

import hashlib
import json
import re
from typing import Any

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def plain(value: Any) -> Any:
    """The value as a JSON value. Values that JSON does not have become strings."""
    return json.loads(json.dumps(value, sort_keys=True, default=_text))


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def conceal(name: str, value: Any) -> Any:
    """The value, or its digest if it is a string and its name is the name of a secret.

    The digest is `sha256:` and the first 12 hexadecimal digits.
    """
    if not isinstance(value, str) or not value or not SECRET.search(name):
        return value
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()[:12]
