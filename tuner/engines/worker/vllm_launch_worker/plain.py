"""Values as JSON holds them, without secrets."""

import hashlib
import json
import re
from typing import Any

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def plain(value: Any) -> Any:
    """The value as `json` writes and reads it; what JSON cannot hold becomes text."""
    return json.loads(json.dumps(value, sort_keys=True, default=_text))


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def concealed(name: str, value: Any) -> Any:
    """The value, or its digest where the value is text and the name is that of a secret."""
    if not isinstance(value, str) or not value or not SECRET.search(name):
        return value
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()[:12]
