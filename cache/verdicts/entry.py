"""What the store keeps for one verdict."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Self

from cache.errors import StoreError
from cache.key import digest

_KEY = re.compile(r"[0-9A-F]{16}")
"""Identifier of a minisign key, as minisign shows it."""


@dataclass(frozen=True)
class Entry:
    """A verdict with all it rests on, enough to judge again without probing.

    Attributes:
        key: named factors that decide whether the verdict applies; `architecture` is always one of them.
        sources: the source files the probe hashed, relative to the site-packages folder, each with its SHA-256.
        report: what the probe observed, as JSON values.
        verdict: what the rules made of the report, as JSON values.
        rules: digest of the rule set that judged.
        probed_at: when the probe ran, ISO 8601 in UTC.
        provenance: None for what was probed here. For what a bundle brought: `imported_from`, the file's name,
            `imported_at`, ISO 8601 in UTC, `command`, what is said to have made it, or None, and, only if a signature
            was required and right when it was imported, `signed_by`, the identifier of the key.

    Raises:
        StoreError: a field has the wrong type; such an entry is never made.
    """

    key: dict[str, Any]
    sources: dict[str, str]
    report: dict[str, Any]
    verdict: dict[str, Any]
    rules: str
    probed_at: str
    provenance: dict[str, str | None] | None = None

    def __post_init__(self) -> None:
        for name in ("key", "sources", "report", "verdict"):
            _require(_is_object(getattr(self, name)), f"`{name}` is no object with text keys")
        architecture = self.key.get("architecture")
        _require(isinstance(architecture, str) and architecture != "", "`key` names no architecture")
        _require(all(isinstance(value, str) for value in self.sources.values()), "`sources` holds more than text")
        _require(isinstance(self.rules, str), "`rules` is no text")
        _require(_is_utc(self.probed_at), "`probed_at` is no ISO 8601 time in UTC")
        _require(self.provenance is None or _is_provenance(self.provenance), "`provenance` does not say whence it came")

    @property
    def digest(self) -> str:
        """Digest of the key: 64 hexadecimal characters, the name of the entry everywhere."""
        return digest(self.key)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back.

        `provenance` is left out where there is none, so that a release without that field reads the rest.
        """
        data = asdict(self)
        if self.provenance is None:
            del data["provenance"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; without `provenance` it was probed here.

        Raises:
            StoreError: the fields are not exactly those of an entry, or one has the wrong type.
        """
        names = {field.name for field in fields(cls)} - {"provenance"}
        whole = isinstance(data, Mapping) and set(data) - {"provenance"} == names
        _require(whole, f"its fields are not {', '.join(sorted(names))}")
        return cls(**data)


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise StoreError(f"This is no verdict entry: {otherwise}.")


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_provenance(value: object) -> bool:
    if not isinstance(value, dict) or set(value) - {"signed_by"} != {"imported_from", "imported_at", "command"}:
        return False
    command = value["command"]
    said = command is None or isinstance(command, str)
    signed = "signed_by" not in value or _is_key(value["signed_by"])
    return said and signed and isinstance(value["imported_from"], str) and _is_utc(value["imported_at"])


def _is_key(value: object) -> bool:
    return isinstance(value, str) and _KEY.fullmatch(value) is not None


def _is_utc(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except ValueError:
        return False
