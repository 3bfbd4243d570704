"""What `fast_moe_cold_start` can do in a serving environment: the flag status, and the table of releases behind it.

The table is read from each release's Python sources (wheels 0.14.1 to 0.33.0). Pull requests: 32805 brought the counter
(0.15.0), 33184 the attribute (0.15.1), 35475 forces the flag off with torch 2.11 or later (0.17.0).

Four sources give a status, the first that has one: what the probe worker detected there, the table of releases, the
files of that vLLM, and `unknown`. Nothing is assumed of a vLLM or a platform that nobody has read. The table knows a
vLLM by its version. If the version names no release, or the files are not those of that release, the files decide.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from rules.platforms import PlatformPackage, Plugin, known_plugin, name_of, not_read

if TYPE_CHECKING:
    from rules.report import FlagObservation


FLAG_KEY = "fast_moe_cold_start"


class FlagForm(StrEnum):
    """How `CompilationConfig` knows the flag."""

    ABSENT = "absent"
    """No such name; a launch that passes it does not start."""
    ATTRIBUTE = "attribute"
    """A class attribute without annotation: consulted, but a launch that passes it does not start."""
    FIELD = "field"
    """A field of type `bool | None`, default None."""


class Counter(StrEnum):
    """When MoE calls are resolved by counting."""

    NEVER = "never"
    """Every call carries its layer's name, or no name is needed."""
    ALWAYS = "always"
    """Counted, and no configuration can change it."""
    FLAG = "flag"
    """Counted if the flag is true."""
    FLAG_OLD_TORCH = "flag, torch below 2.11"
    """Counted if the flag is true and torch is older than 2.11; otherwise the flag is forced to false."""


class Release(Struct, frozen=True):
    """One vLLM release.

    Attributes:
        version: the release, `major.minor.patch`.
        flag: how its `CompilationConfig` knows the flag.
        gpu: the counter on platforms that call MoE layers through a custom operator: CUDA, ROCm, XPU.
        cpu: the counter on platforms that call the Python function: CPU, TPU.
        source: the file, in that release, that decides.
        counts_drafts: whether the counter stays on beside speculative decoding where the launch says nothing.
    """

    version: str
    flag: FlagForm
    gpu: Counter
    cpu: Counter
    source: str
    counts_drafts: bool = False


_LAYER = "vllm/model_executor/layers/fused_moe/layer.py"


def _with_torch_check(version: str) -> Release:
    """A release that forces the flag off with torch 2.11 or later, on every platform, in `VllmConfig.__post_init__`."""
    return Release(version, FlagForm.FIELD, Counter.FLAG_OLD_TORCH, Counter.FLAG_OLD_TORCH, "vllm/config/vllm.py")


RELEASES = (
    Release("0.14.1", FlagForm.ABSENT, Counter.NEVER, Counter.NEVER, "vllm/config/compilation.py"),
    # get_layer_from_name pops a list that each forward pass rebuilds, drafts included.
    Release("0.15.0", FlagForm.ABSENT, Counter.ALWAYS, Counter.NEVER, _LAYER, counts_drafts=True),
    Release("0.15.1", FlagForm.ATTRIBUTE, Counter.ALWAYS, Counter.NEVER, "vllm/config/compilation.py"),
    Release("0.16.0", FlagForm.FIELD, Counter.FLAG, Counter.NEVER, "vllm/config/vllm.py"),
    _with_torch_check("0.17.0"),
    _with_torch_check("0.17.1"),
    _with_torch_check("0.18.0"),
    _with_torch_check("0.18.1"),
    _with_torch_check("0.19.0"),
    _with_torch_check("0.19.1"),
    _with_torch_check("0.20.0"),
    _with_torch_check("0.20.2"),
    _with_torch_check("0.21.0"),
    _with_torch_check("0.22.1"),
    _with_torch_check("0.23.0"),
    _with_torch_check("0.24.0"),
    _with_torch_check("0.25.1"),
    _with_torch_check("0.26.0"),
    _with_torch_check("0.27.1"),
    _with_torch_check("0.28.0"),
    _with_torch_check("0.29.0"),
    _with_torch_check("0.30.0"),
    _with_torch_check("0.31.0"),
    _with_torch_check("0.32.0"),
    _with_torch_check("0.33.0"),
)
"""Every release that was read, oldest first."""

OFFICIAL_TORCH = {
    "0.14.1": "2.9.1",
    "0.15.0": "2.9.1",
    "0.15.1": "2.9.1",
    "0.16.0": "2.9.1",
    "0.17.0": "2.10.0",
    "0.17.1": "2.10.0",
    "0.18.0": "2.10.0",
    "0.18.1": "2.10.0",
    "0.19.0": "2.10.0",
    "0.19.1": "2.10.0",
    "0.20.0": "2.11.0",
    "0.20.1": "2.11.0",
    "0.20.2": "2.11.0",
    "0.21.0": "2.11.0",
    "0.22.0": "2.11.0",
    "0.22.1": "2.11.0",
    "0.23.0": "2.11.0",
    "0.24.0": "2.11.0",
    "0.25.0": "2.11.0",
    "0.25.1": "2.11.0",
    "0.26.0": "2.11.0",
    "0.27.0": "2.13.0",
    "0.27.1": "2.13.0",
    "0.28.0": "2.13.0",
    "0.29.0": "2.13.0",
    "0.30.0": "2.13.0",
    "0.31.0": "2.13.0",
    "0.32.0": "2.13.0",
    "0.33.0": "2.14.0",
}
"""vLLM release -> the torch version that its wheel for CUDA requires (`Requires-Dist: torch==...`), which its image for
CUDA has. vLLM's compiled parts run with this torch alone."""

EXCEPTED_SINCE = {"Ernie4_5_VLMoeForConditionalGeneration": "0.17.0"}
"""Architecture -> the first release that itself turns the flag off for it, under vLLM's own implementation
(`MODELS_CONFIG_MAP`, vllm/model_executor/models/config.py). It tells what a launch does that says nothing of the flag,
and decides no verdict."""


class Counting(StrEnum):
    """When a forward context counts MoE calls, by vllm/forward_context.py."""

    NEVER = "never"
    """Nothing there lists MoE layers."""
    ALWAYS = "always"
    """It lists them, and asks no flag (0.15.0)."""
    FLAG = "flag"
    """It lists them if the flag is true (0.15.1 to 0.33.0)."""


TORCH_BOUND = re.compile(r"(?:[0-9]{1,4}(?:\.[0-9]{1,4}){1,2}(?:\.dev)?)?", re.ASCII)
"""A release of torch, the lowest build of one (`.dev`), or nothing."""
TorchBound = Annotated[str, Meta(pattern=rf"\A{TORCH_BOUND.pattern}\Z")]


class FlagFacts(Struct, frozen=True):
    """The facts, each None where the files were not read or say something else than in the releases that were read.

    Attributes:
        form: how `CompilationConfig` in vllm/config/compilation.py knows the flag.
        counting: when MoE calls are counted.
        forced_off_from: the first torch with which vllm/config/vllm.py forces the flag to false, `2.11.0.dev` in 0.17.0
            to 0.33.0; empty: it is never forced.
    """

    form: FlagForm | None = None
    counting: Counting | None = None
    forced_off_from: TorchBound | None = None

    @property
    def takes_key(self) -> bool | None:
        """Whether a launch may set the flag; a vLLM that does not take the key does not start with it."""
        return None if self.form is None else self.form is FlagForm.FIELD


_PLAIN_RELEASE = re.compile(r"([0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,9})(?:\+[a-z0-9.]*[a-z0-9])?", re.ASCII)
"""`major.minor.patch`, with or without a local part."""


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
    """Nothing was detected, and neither the table nor the files of this vLLM tell."""


class Flag(Struct, frozen=True):
    """A flag status and where it comes from.

    Attributes:
        status: what the flag can do.
        reason: why; whole sentences for operators.
        source: `table: vLLM RELEASE, FILE`, `files: FILE`, `detected by the probe`, or empty for `unknown`.
        takes_key: whether a launch may pass the flag there; one that passes it to a vLLM without the key does not
            start. None: not known.
    """

    status: FlagStatus
    reason: str
    source: str
    takes_key: bool | None = None


class Version(Struct, frozen=True):
    """The parts of a version that matter here.

    Attributes:
        release: the numbers, at least three.
        preview: whether it was built before that release: alpha, beta, candidate, development.
    """

    release: tuple[int, ...]
    preview: bool = False


_OF_A_COMMIT = re.compile(r"g[0-9a-f]{7,40}|d\d{8}")
_GPU = ("cuda", "rocm", "xpu")
_CPU = ("cpu", "tpu")
_NO_DEVICE = "unspecified"  # vLLM's word for a machine on which it finds no device
_OPAQUE_TYPES = "2.11.0.dev"  # HAS_OPAQUE_TYPE in vllm/utils/torch_utils.py: the lowest of all 2.11 builds
_LOWEST_BUILD = ".dev"
_PROBE = "`tuner probe` in that environment detects it."
_DETECTED = "detected by the probe"
_FIRST_SETTABLE = "0.16.0 is the first release in which a launch can switch it off."


NO_FACTS = FlagFacts()
"""What is known of files that were not read."""


def parse_version(text: str | None) -> Version | None:
    """Read a version as PEP 440 writes it; None if it is not known, is not one, or has an epoch.

    `2.11.0a0+git` and `0.33.1.dev5+gabc` are previews; the local part says nothing about the code.
    """
    if not text:
        return None
    if plain := _PLAIN_RELEASE.fullmatch(text):
        return Version(numbers_of(plain[1]))
    # Look-ups read plain releases, and do without this import, which takes 3 to 5 ms.
    from packaging import version as packaging_version  # noqa: PLC0415

    try:
        parsed = packaging_version.Version(text)
    except ValueError:  # also Python's own, for a number of thousands of digits
        return None
    if parsed.epoch:
        return None
    return Version((parsed.major, parsed.minor, parsed.micro, *parsed.release[3:]), preview=parsed.is_prerelease)


def public_version(version: object) -> str:
    """A version without its local part, such as `+cpu`: packages and modules of one build differ in it."""
    return str(version).partition("+")[0]


def is_source_build(version: object) -> bool:
    """Whether a version is of a commit or of changed files, which may have what no release has.

    setuptools-scm writes such versions with `.dev5`, `+g1a2b3c4d` or `+d20260131`.
    """
    public, _, local = str(version).partition("+")
    return ".dev" in public or any(_OF_A_COMMIT.fullmatch(part) for part in local.split("."))


def is_same_version(first: str, second: str) -> bool:
    """Whether two texts name one version; local parts, which builds add, do not count."""
    if public_version(first) == public_version(second):
        return True
    return _public_spelling(first) == _public_spelling(second)


def _public_spelling(text: str) -> str:
    """A version without its local part, spelt as PEP 440 has it; another text as it is."""
    from packaging import version as packaging_version  # noqa: PLC0415  as above

    try:
        return packaging_version.Version(text).public
    except ValueError:
        return text


def named_release(text: str | None) -> Version | None:
    """The version of a vLLM; None if it cannot be read or names no release, so that nothing follows from its numbers.

    `0.1.devN` is what setuptools-scm says of a clone without tags, however new, and `0.0.0` stands where nothing was
    stated.
    """
    version = parse_version(text)
    if version is None or version.release[:2] == (0, 0):
        return None
    return None if version.preview and version.release[:2] <= (0, 1) else version


def flag_status(
    vllm: str | None,
    torch: str | None,
    platform: str | PlatformPackage,
    detected: "FlagObservation | None" = None,
    facts: FlagFacts = NO_FACTS,
) -> Flag:
    """Say what the flag can do.

    Args:
        vllm: version of vLLM; None if unknown.
        torch: version of torch; None if unknown.
        platform: `cpu`, `cuda`, `rocm`, `xpu`, `tpu`, `unspecified`, or `oot:NAME` for a platform plugin; where it is
            known which installed package brings the platform, that package.
        detected: what a probe worker observed there; it beats the table. A plugin that builds no MoE layers of vLLM
            beats both: the worker ran a model of vLLM's, which that platform does not build.
        facts: what the files of that vLLM say. They choose among the releases that the version may stand for, and
            decide alone where none of those has such files.
    """
    rows = _rows(vllm, facts)
    takes_key = _takes_key(rows, facts)
    plugin = known_plugin(platform)
    if plugin is not None and not plugin.builds_layers:
        return Flag(FlagStatus.ABSENT, f"{platform} {plugin.does}.", _source_of(plugin), takes_key)
    column = _column(platform, plugin)
    if column is None:
        read = _unknown(not_read(platform))
    elif rows or not facts.form:
        read = _tabled(vllm, torch, column, rows)
    else:
        read = _filed(vllm, torch, column, facts)
    if plugin is not None and read.status is FlagStatus.SETTABLE:
        read = replace(read, reason=f"{read.reason} {platform} {plugin.does}.")
    flag = replace(read, takes_key=takes_key)
    return (_detected(detected, flag) if detected else None) or flag


def _column(platform: str | PlatformPackage, plugin: Plugin | None) -> str | None:
    """The platform of vLLM's own of which the table says what holds on this one; None if that is not known.

    vLLM's MoE runner asks whether the platform is its own CPU or TPU, and calls its operator on every other one.
    """
    name = name_of(platform)
    if name in (*_GPU, *_CPU, _NO_DEVICE):
        return name
    return None if plugin is None else _GPU[0]


def _source_of(plugin: Plugin) -> str:
    """Where the facts on a plugin come from."""
    return f"table: {plugin.package} {plugin.first} to {plugin.last}, {plugin.source}"


def needs_files(vllm: str | None, mentions_flag: bool | None) -> bool:
    """Whether the files of this vLLM must be read to know its flag: its version does not name one release of the table.

    Args:
        vllm: version of vLLM; None if unknown.
        mentions_flag: whether the file that would declare the flag holds its name; None if that is not known. A release
            whose file does not fit is not what its version says.
    """
    version = named_release(vllm)
    rows = releases_for(version) if version is not None and not version.preview else ()
    if not rows:
        return True
    return mentions_flag is not None and not any(_mentions_as(row, mentions_flag) for row in rows)


def counts_drafts(vllm: str | None, facts: FlagFacts = NO_FACTS) -> bool:
    """Whether this vLLM counts a draft model's MoE layers too, where the launch says nothing (only 0.15.0 does)."""
    rows = _rows(vllm, facts)
    if not rows:
        return facts.form is FlagForm.ABSENT and facts.counting is Counting.ALWAYS
    return any(row.counts_drafts for row in rows)


def turns_off_by_itself(vllm: str | None, architecture: str) -> bool:
    """Whether this vLLM turns the flag off for an architecture, whatever the launch says."""
    version, since = named_release(vllm), parse_version(EXCEPTED_SINCE.get(architecture))
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


def _rows(vllm: str | None, facts: FlagFacts) -> tuple[Release, ...]:
    """The releases that a vLLM may be, by its version and by its files, oldest first.

    A version that names one release is believed unless its files know the flag and that release does not, or the
    reverse. A preview may have the code of any release around it, so all that is known of its files counts.
    """
    version = named_release(vllm)
    rows = () if version is None else releases_for(version)
    if version is None or facts.form is None:
        return rows
    if not version.preview:
        return tuple(row for row in rows if _mentions_as(row, facts.form is not FlagForm.ABSENT))
    return tuple(row for row in rows if _fits(row, facts))


def _mentions_as(row: Release, mentions_flag: bool) -> bool:
    """Whether the file that declares the flag holds its name in that release as it does here."""
    return (row.flag is not FlagForm.ABSENT) == mentions_flag


def _fits(row: Release, facts: FlagFacts) -> bool:
    """Whether files of which this is known may be those of a release; what is not understood fits none."""
    if facts.form is not row.flag or facts.counting is not _counting(row):
        return False
    if row.flag is not FlagForm.FIELD:
        return True
    return facts.forced_off_from == (_OPAQUE_TYPES if row.gpu is Counter.FLAG_OLD_TORCH else "")


def _counting(row: Release) -> Counting:
    """What the forward context of a release does."""
    if row.gpu is Counter.NEVER:
        return Counting.NEVER
    return Counting.ALWAYS if row.flag is FlagForm.ABSENT else Counting.FLAG


def _takes_key(rows: tuple[Release, ...], facts: FlagFacts) -> bool | None:
    """Whether a launch may pass the flag: as the files say, else as all releases do that this vLLM may be."""
    if facts.takes_key is not None or not rows:
        return facts.takes_key
    forms = {row.flag is FlagForm.FIELD for row in rows}
    return forms.pop() if len(forms) == 1 else None


def _filed(vllm: str | None, torch: str | None, platform: str, facts: FlagFacts) -> Flag:
    """The status that the files of a vLLM show, whatever its version."""
    name = f"vLLM {vllm}"
    if facts.form is FlagForm.ABSENT and facts.counting is Counting.NEVER:
        reason = _reason(FlagStatus.ABSENT, FlagForm.ABSENT, name, torch)
        return Flag(FlagStatus.ABSENT, reason, "files: vllm/config/compilation.py")
    if facts.form is FlagForm.FIELD and facts.counting is Counting.FLAG:
        return _filed_field(name, torch, facts)
    # On a CPU, releases without the field bypass the counter; that is not read from these files.
    always_counted = {(FlagForm.ABSENT, Counting.ALWAYS), (FlagForm.ATTRIBUTE, Counting.FLAG)}
    if (facts.form, facts.counting) in always_counted and platform in _GPU:
        drafts = facts.counting is Counting.ALWAYS
        reason = _reason(FlagStatus.ALWAYS_ON, FlagForm.ABSENT, name, torch, counts_drafts=drafts)
        return Flag(FlagStatus.ALWAYS_ON, reason, "files: vllm/forward_context.py")
    return _unknown(f"The files of vLLM {vllm} treat the flag in a way that no release in the table does.")


def _filed_field(name: str, torch: str | None, facts: FlagFacts) -> Flag:
    """The status where the launch may pass the flag, and only a new torch forces it off."""
    source = "files: vllm/config/vllm.py"
    if facts.forced_off_from is None:
        return _unknown(f"{name} decides the flag by a rule that no release in the table has.")
    status = FlagStatus.SETTABLE
    if facts.forced_off_from:
        forced = _at_least(torch, facts.forced_off_from)
        if forced is None:
            return _unknown(f"The flag of {name} depends on the torch version: {torch or 'none is known'}.")
        status = FlagStatus.INERT if forced else FlagStatus.SETTABLE
    return Flag(status, _reason(status, FlagForm.FIELD, name, torch), source)


def _at_least(torch: str | None, bound: str) -> bool | None:
    """Whether torch is a release or a later one; None if either version cannot be read.

    With `.dev` the bound is the lowest build of its release, so previews of that release are not below it.
    """
    version, lowest = parse_version(torch), parse_version(bound.removesuffix(_LOWEST_BUILD))
    if version is None or lowest is None:
        return None
    if version.release != lowest.release:
        return version.release > lowest.release
    return bound.endswith(_LOWEST_BUILD) or not version.preview


def _tabled(vllm: str | None, torch: str | None, platform: str, rows: tuple[Release, ...]) -> Flag:
    if not rows:
        return _unknown(_no_release(vllm))
    row_of_status = {_status(counter, torch): row for row in reversed(rows) for counter in _counters(row, platform)}
    if FlagStatus.UNKNOWN in row_of_status:
        return _unknown(f"The flag of vLLM {vllm} depends on the torch version: {torch or 'none is known'}.")
    if len(row_of_status) > 1:
        return _unknown(_ambiguity(vllm, rows, row_of_status))
    ((status, row),) = row_of_status.items()
    reason = _reason(status, row.flag, f"vLLM {vllm}", torch, counts_drafts=row.counts_drafts)
    return Flag(status, reason, f"table: vLLM {row.version}, {row.source}")


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
    forced = _at_least(torch, _OPAQUE_TYPES)
    if forced is None:
        return FlagStatus.UNKNOWN
    return FlagStatus.INERT if forced else FlagStatus.SETTABLE


def _no_release(vllm: str | None) -> str:
    """Why no release of the table is this vLLM."""
    version = parse_version(vllm)
    if version is None:
        return f"The vLLM version is not readable: {vllm or 'none is known'}."
    if named_release(vllm) is None:
        return f"The vLLM version {vllm} names no release: builds from source call themselves so."
    return f"vLLM {vllm} is newer than every release in the table, the last being {RELEASES[-1].version}."


def _reason(status: FlagStatus, form: FlagForm, name: str, torch: str | None, *, counts_drafts: bool = False) -> str:
    if status is FlagStatus.ABSENT:
        refused = "" if form is FlagForm.FIELD else " A launch that passes `fast_moe_cold_start` does not start."
        return f"{name} never counts MoE layers here, so there is nothing to switch.{refused}"
    if status is FlagStatus.ALWAYS_ON:
        drafts = "with speculative decoding too" if counts_drafts else "but turns itself off with speculative decoding"
        return f"{name} always counts MoE layers, {drafts}; no configuration can change it. {_FIRST_SETTABLE}"
    if status is FlagStatus.SETTABLE:
        return f"{name} counts MoE layers if `fast_moe_cold_start` is true, and the launch decides that."
    return (
        f"{name} forces `fast_moe_cold_start` to false with torch {torch}: from torch 2.11 on, layer names stay out of "
        "the compiled graph without counting."
    )


def _ambiguity(vllm: str | None, rows: tuple[Release, ...], row_of_status: Mapping[FlagStatus, Release]) -> str:
    words = " or ".join(sorted(row_of_status))
    if len(rows) > 1:
        return f"vLLM {vllm} lies between {rows[0].version} and {rows[-1].version}, and the flag may be {words}."
    return f"vLLM finds no device on this machine, and the flag of {vllm} may be {words}: it depends on the platform."


def _unknown(why: str) -> Flag:
    return Flag(FlagStatus.UNKNOWN, f"{why} {_PROBE}", "")


def _detected(observation: "FlagObservation", tabled: Flag) -> Flag | None:
    """The status a worker observed; None where it did not observe enough to contradict the table."""
    flag = _observed(observation, tabled)
    return None if flag is None else replace(flag, takes_key=FlagForm(observation.field) is FlagForm.FIELD)


def _observed(observation: "FlagObservation", tabled: Flag) -> Flag | None:
    form, effective, counted = FlagForm(observation.field), observation.effective_when_true, observation.counter_ran
    if form is FlagForm.ABSENT and counted is None and tabled.status is FlagStatus.ALWAYS_ON:
        return None
    if form is FlagForm.ABSENT:
        return _seen_counting(is_field=False) if counted is True else _seen_without_flag()
    if form is FlagForm.ATTRIBUTE:
        return _seen_without_flag() if counted is False else _seen_counting(is_field=True)
    if form is not FlagForm.FIELD or effective is None:
        return None
    return _seen_field(effective=effective, bypassed=counted is False)


def _seen_field(*, effective: bool, bypassed: bool) -> Flag:
    if not effective:
        return Flag(FlagStatus.INERT, "vLLM resolved an explicit `fast_moe_cold_start: true` to false.", _DETECTED)
    if bypassed:
        reason = "MoE layers were resolved by name although the flag was true: this platform bypasses the counter."
        return Flag(FlagStatus.ABSENT, reason, _DETECTED)
    reason = "vLLM honours an explicit `fast_moe_cold_start`, and the launch decides that."
    return Flag(FlagStatus.SETTABLE, reason, _DETECTED)


def _seen_counting(*, is_field: bool) -> Flag:
    form = "is no field of the configuration" if is_field else "does not exist"
    reason = f"MoE layers are counted and `fast_moe_cold_start` {form}, so no configuration can change it."
    return Flag(FlagStatus.ALWAYS_ON, f"{reason} {_FIRST_SETTABLE}", _DETECTED)


def _seen_without_flag() -> Flag:
    reason = "MoE layers were not seen counted, and a launch that passes `fast_moe_cold_start` does not start."
    return Flag(FlagStatus.ABSENT, reason, _DETECTED)
