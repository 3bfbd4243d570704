"""What the store keeps for one verdict."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Self

from cache.errors import StoreError
from cache.key import digest


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

    Raises:
        StoreError: a field has the wrong type; such an entry is never made.
    """

    key: dict[str, Any]
    sources: dict[str, str]
    report: dict[str, Any]
    verdict: dict[str, Any]
    rules: str
    probed_at: str

    def __post_init__(self) -> None:
        for name in ("key", "sources", "report", "verdict"):
            _require(_is_object(getattr(self, name)), f"`{name}` is no object with text keys")
        architecture = self.key.get("architecture")
        _require(isinstance(architecture, str) and architecture != "", "`key` names no architecture")
        _require(all(isinstance(value, str) for value in self.sources.values()), "`sources` holds more than text")
        _require(isinstance(self.rules, str), "`rules` is no text")
        _require(_is_utc(self.probed_at), "`probed_at` is no ISO 8601 time in UTC")

    @property
    def digest(self) -> str:
        """Digest of the key: 64 hexadecimal characters, the name of the entry everywhere."""
        return digest(self.key)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            StoreError: the fields are not exactly those of an entry, or one has the wrong type.
        """
        names = {field.name for field in fields(cls)}
        _require(isinstance(data, Mapping) and set(data) == names, f"its fields are not {', '.join(sorted(names))}")
        return cls(**data)


def _require(held: bool, otherwise: str) -> None:
    if not held:
        raise StoreError(f"This is no verdict entry: {otherwise}.")


def _is_object(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _is_utc(value: object) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).utcoffset() == timedelta(0)
    except ValueError:
        return False
