"""Values as JSON holds them, and nothing in them that is a secret."""

import hashlib
import json
import re

SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)


def plain(value):
    """The value as `json` writes and reads it; what it cannot hold becomes text."""
    return json.loads(json.dumps(value, sort_keys=True, default=_text))


def _text(value) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def concealed(name: str, value):
    """The value, or a digest of it where it is text and its name is that of a secret."""
    if not isinstance(value, str) or not value or not SECRET.search(name):
        return value
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()[:12]
