"""What `fast_moe_cold_start` can do in a serving environment: the flag status.

A status is what the probe worker detected there, else what the table of releases says, else `unknown`. Nothing is
assumed of a vLLM or a platform that nobody has read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rules.release_table import EXCEPTED_SINCE, RELEASES, Counter, FlagForm, Release


class FlagStatus(StrEnum):
    """What the flag can do."""

    ABSENT = "absent"
    """Nothing is counted, so there is nothing to switch."""
    ALWAYS_ON = "always_on"
    """MoE layers are counted and no configuration can change it."""
    SETTABLE = "settable"
    """The launch decides."""
    INERT = "inert"
    """vLLM forces the flag to false whatever the launch says."""
    UNKNOWN = "unknown"
    """Nothing was detected and the table does not cover this environment."""


@dataclass(frozen=True)
class Flag:
    """A flag status and where it comes from.

    Attributes:
        status: what the flag can do.
        reason: why; whole sentences for operators.
        source: `table: vLLM RELEASE, FILE`, `detected by the probe`, or empty for `unknown`.
    """

    status: FlagStatus
    reason: str
    source: str


@dataclass(frozen=True)
class Version:
    """The parts of a version that matter here.

    Attributes:
        release: the numbers, at least three.
        preview: whether it was built before that release: alpha, beta, candidate, development.
    """

    release: tuple[int, ...]
    preview: bool = False


_VERSION = re.compile(
    r"v?(?P<release>[0-9]{1,9}(?:\.[0-9]{1,9})*)"
    r"(?P<pre>[-_.]?(?:alpha|beta|preview|pre|rc|a|b|c)[-_.]?[0-9]*)?"
    r"(?:-[0-9]+|[-_.]?(?:post|rev|r)[-_.]?[0-9]*)?"
    r"(?P<dev>[-_.]?dev[-_.]?[0-9]*)?"
    r"(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?",
    re.IGNORECASE,
)

_GPU = ("cuda", "rocm", "xpu")
_CPU = ("cpu", "tpu")
_NO_DEVICE = "unspecified"  # vLLM's word for a machine on which it finds no device
_OPAQUE_TYPES = (2, 11)  # HAS_OPAQUE_TYPE in vllm/utils/torch_utils.py: 2.11.0.dev, the lowest of all 2.11 builds
_PROBE = "`tuner probe` in that environment detects it."
_DETECTED = "detected by the probe"
_FIRST_SETTABLE = "0.16.0 is the first release in which a launch can switch it off."


def parse_version(text: str) -> Version | None:
    """Read a version as PEP 440 writes it, without an epoch; None if it is none.

    `2.11.0a0+git` and `0.33.1.dev5+gabc` are previews; the local part says nothing about the code.
    """
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    numbers = tuple(int(part) for part in match["release"].split("."))
    return Version(numbers + (0,) * (3 - len(numbers)), preview=bool(match["pre"] or match["dev"]))


def flag_status(vllm: str | None, torch: str | None, platform: str, detected: Mapping[str, Any] | None = None) -> Flag:
    """Say what the flag can do.

    Args:
        vllm: version of vLLM; None if unknown.
        torch: version of torch; None if unknown.
        platform: `cpu`, `cuda`, `rocm`, `xpu`, `tpu`, `unspecified`, or `oot:NAME` for a platform plugin.
        detected: what a probe worker observed there; it beats the table. `field`: how `CompilationConfig` knows the
            flag (`absent`, `attribute`, `field`); `effective_when_true`: its value after vLLM resolved an explicit
            true; `counter_ran`: whether a pass was seen counting. None stands for "not observed", as where no MoE
            layer ran.
    """
    tabled = _tabled(vllm, torch, platform)
    return _detected(detected or {}, tabled) or tabled


def counts_drafts(vllm: str | None) -> bool:
    """Whether this vLLM counts a draft model's MoE layers too, where the launch says nothing (only 0.15.0 does)."""
    version = parse_version(vllm or "")
    return version is not None and any(row.counts_drafts for row in releases_for(version))


def turns_off_by_itself(vllm: str | None, architecture: str) -> bool:
    """Whether this vLLM turns the flag off for an architecture, whatever the launch says."""
    version, since = parse_version(vllm or ""), parse_version(EXCEPTED_SINCE.get(architecture, ""))
    return version is not None and since is not None and version.release >= since.release


def releases_for(version: Version) -> tuple[Release, ...]:
    """The rows that bound a version, oldest first; empty for one newer than the table.

    A release has its own row, or the nearest lower one of its minor series, or lies between two rows. A preview was
    built somewhere between the row before it and the next minor series, so every row in that span bounds it.
    """
    if version.release > numbers_of(RELEASES[-1].version):
        return ()
    below = tuple(row for row in RELEASES if _at_or_below(row, version))
    above = RELEASES[len(below) :]
    series = version.release[:2]
    if version.preview:
        rest_of_series = sum(numbers_of(row.version)[:2] == series for row in above)
        return below[-1:] + above[: rest_of_series + 1]
    if below and numbers_of(below[-1].version)[:2] == series:
        return below[-1:]
    return below[-1:] + above[:1]


def numbers_of(release: str) -> tuple[int, ...]:
    """The numbers of a release as the table writes it, `major.minor.patch`."""
    return tuple(int(part) for part in release.split("."))


def _at_or_below(row: Release, version: Version) -> bool:
    numbers = numbers_of(row.version)
    return numbers < version.release or (numbers == version.release and not version.preview)


def _tabled(vllm: str | None, torch: str | None, platform: str) -> Flag:
    version = parse_version(vllm or "")
    if version is None:
        return _unknown(f"The vLLM version is not readable: {vllm or 'none is known'}.")
    rows = releases_for(version)
    if not rows:
        return _unknown(f"vLLM {vllm} is newer than every release in the table, the last being {RELEASES[-1].version}.")
    if platform not in (*_GPU, *_CPU, _NO_DEVICE):
        return _unknown(f"The platform {platform} is not vLLM's own and may resolve MoE layers differently.")
    found = {_status(counter, torch): row for row in reversed(rows) for counter in _counters(row, platform)}
    if FlagStatus.UNKNOWN in found:
        return _unknown(f"The flag of vLLM {vllm} depends on the torch version: {torch or 'none is known'}.")
    if len(found) > 1:
        return _unknown(_ambiguity(vllm, rows, found))
    ((status, row),) = found.items()
    return Flag(status, _reason(status, row, f"vLLM {vllm}", torch), f"table: vLLM {row.version}, {row.source}")


def _counters(row: Release, platform: str) -> tuple[Counter, ...]:
    """What the row says of a platform; of every platform where no device was found."""
    gpu = (row.gpu,) if platform in (*_GPU, _NO_DEVICE) else ()
    cpu = (row.cpu,) if platform in (*_CPU, _NO_DEVICE) else ()
    return gpu + cpu


def _status(counter: Counter, torch: str | None) -> FlagStatus:
    if counter is Counter.NEVER:
        return FlagStatus.ABSENT
    if counter is Counter.ALWAYS:
        return FlagStatus.ALWAYS_ON
    if counter is Counter.FLAG:
        return FlagStatus.SETTABLE
    version = parse_version(torch or "")
    if version is None:
        return FlagStatus.UNKNOWN
    return FlagStatus.INERT if version.release >= _OPAQUE_TYPES else FlagStatus.SETTABLE


def _reason(status: FlagStatus, row: Release, name: str, torch: str | None) -> str:
    if status is FlagStatus.ABSENT:
        refused = "" if row.flag is FlagForm.FIELD else " A launch that passes `fast_moe_cold_start` does not start."
        return f"{name} never counts MoE layers here, so there is nothing to switch.{refused}"
    if status is FlagStatus.ALWAYS_ON:
        drafts = (
            "with speculative decoding too" if row.counts_drafts else "but turns itself off with speculative decoding"
        )
        return f"{name} always counts MoE layers, {drafts}; no configuration can change it. {_FIRST_SETTABLE}"
    if status is FlagStatus.SETTABLE:
        return f"{name} counts MoE layers if `fast_moe_cold_start` is true, and the launch decides that."
    return (
        f"{name} forces `fast_moe_cold_start` to false with torch {torch}: from torch 2.11 on, layer names stay out of "
        "the compiled graph without counting."
    )


def _ambiguity(vllm: str | None, rows: tuple[Release, ...], found: Mapping[FlagStatus, Release]) -> str:
    words = " or ".join(sorted(found))
    if len(rows) > 1:
        return f"vLLM {vllm} lies between {rows[0].version} and {rows[-1].version}, and the flag may be {words}."
    return f"vLLM finds no device on this machine, and the flag of {vllm} may be {words}: it depends on the platform."


def _unknown(why: str) -> Flag:
    return Flag(FlagStatus.UNKNOWN, f"{why} {_PROBE}", "")


def _detected(seen: Mapping[str, Any], tabled: Flag) -> Flag | None:
    """The status a worker observed; None where it did not observe enough to contradict the table."""
    field, effective, counted = seen.get("field"), seen.get("effective_when_true"), seen.get("counter_ran")
    if field == FlagForm.ABSENT and counted is None and tabled.status is FlagStatus.ALWAYS_ON:
        return None
    if field == FlagForm.ABSENT:
        return _seen_counting(known=False) if counted is True else _seen_without_flag()
    if field == FlagForm.ATTRIBUTE:
        return _seen_without_flag() if counted is False else _seen_counting(known=True)
    if field != FlagForm.FIELD or effective is None:
        return None
    return _seen_field(effective=bool(effective), bypassed=counted is False)


def _seen_field(*, effective: bool, bypassed: bool) -> Flag:
    if not effective:
        return Flag(FlagStatus.INERT, "vLLM resolved an explicit `fast_moe_cold_start: true` to false.", _DETECTED)
    if bypassed:
        reason = "MoE layers were resolved by name although the flag was true: this platform bypasses the counter."
        return Flag(FlagStatus.ABSENT, reason, _DETECTED)
    reason = "vLLM honours an explicit `fast_moe_cold_start`, and the launch decides that."
    return Flag(FlagStatus.SETTABLE, reason, _DETECTED)


def _seen_counting(*, known: bool) -> Flag:
    form = "is no field of the configuration" if known else "does not exist"
    reason = f"MoE layers are counted and `fast_moe_cold_start` {form}, so no configuration can change it."
    return Flag(FlagStatus.ALWAYS_ON, f"{reason} {_FIRST_SETTABLE}", _DETECTED)


def _seen_without_flag() -> Flag:
    reason = "MoE layers were not seen counted, and a launch that passes `fast_moe_cold_start` does not start."
    return Flag(FlagStatus.ABSENT, reason, _DETECTED)
