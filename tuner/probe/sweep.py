"""Probing a whole registry: every MoE architecture that the environment's vLLM knows, each of them once."""

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cache.errors import StoreError
from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, ReportError, TunerError
from tuner.environment.environment import Environment
from tuner.errors import ExitCode
from tuner.probe.candidates import Candidate, candidates
from tuner.probe.models import (
    Probed,
    Request,
    Watch,
    inconclusive,
    probe_subjects,
    require_same_environment,
    subject_of,
)
from tuner.probe.runner import list_registry
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import look_up


@dataclass(frozen=True)
class Selection:
    """Which of the architectures that the environment's vLLM registers to probe.

    Attributes:
        configs: folder with configurations of the user's, which go before any other; None: there is none.
        text_only: leave out what is not for text alone.
        match: pattern of names as a shell has it; None: all.
        force: probe those whose verdict is stored, too.
    """

    configs: Path | None = None
    text_only: bool = False
    match: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Survey:
    """The architectures of a registry that were asked for, before any is probed.

    Attributes:
        candidates: all of them, by the name that results carry: the architecture, and behind it which configuration
            where the user gave several.
        known: results at hand: stored verdicts, and failures to read a configuration.
        missing: what is left to probe, by name.
    """

    candidates: Mapping[str, Candidate]
    known: tuple[Probed, ...]
    missing: Mapping[str, Subject]

    @property
    def without_config(self) -> list[Candidate]:
        """Those that nobody can probe before somebody gives a configuration."""
        return [one for one in self.candidates.values() if one.folder is None]


def survey(
    request: Request, selection: Selection, environment: Environment, store: VerdictStore, watch: Watch
) -> Survey:
    """Ask the environment's vLLM which MoE architectures it registers, and which of them have a stored verdict.

    What is stored for another key is no answer: a changed configuration, vLLM or probe makes it missing.

    Raises:
        TunerError: the environment cannot be asked or is not what its files say, a configuration cannot be written, or,
            of kind `usage`, nothing is selected.
    """
    listing = list_registry(environment.python, lambda _stage, _index: watch(0, "list", "vLLM"))
    require_same_environment(environment, listing["environment"])
    home = store.path.parent
    chosen = candidates(listing, selection.configs, home, text_only=selection.text_only, match=selection.match)
    if not chosen:
        raise _nothing_selected(selection, environment)
    named = _named(chosen, selection.configs)
    known: list[Probed] = []
    missing: dict[str, Subject] = {}
    for name, one in named.items():
        found = one.folder and _known(name, one.folder, request, environment, store, force=selection.force)
        if isinstance(found, Subject):
            missing[name] = found
        elif isinstance(found, Probed):
            known.append(found)
    return Survey(named, tuple(known), missing)


def probe_missing(
    found: Survey, request: Request, environment: Environment, store: VerdictStore, watch: Watch
) -> Generator[Probed, None, None]:
    """Probe what a survey found missing; as `probe_models`."""
    yield from probe_subjects(list(found.missing.items()), request, environment, store, watch)


def _nothing_selected(selection: Selection, environment: Environment) -> TunerError:
    return TunerError(
        f"vLLM {environment.vllm} registers no MoE architecture that matches {selection.match or '*'}.",
        hint="`tuner probe --all` takes every one; --match takes a pattern such as 'Qwen*'.",
        kind=ErrorKind.USAGE,
    )


def _named(chosen: Sequence[Candidate], configs: Path | None) -> dict[str, Candidate]:
    """Each by its architecture; of several the user's folders tell them apart."""
    several = Counter(one.architecture for one in chosen)

    def name(one: Candidate) -> str:
        if several[one.architecture] == 1 or one.folder is None or configs is None:
            return one.architecture
        return f"{one.architecture} ({Path(one.folder).relative_to(configs.absolute())})"

    return {name(one): one for one in chosen}


def _known(
    name: str, folder: str, request: Request, environment: Environment, store: VerdictStore, *, force: bool
) -> Probed | Subject:
    """A result at hand, or what to probe."""
    try:
        subject = subject_of(folder, request, environment)
    except TunerError as failure:
        return Probed(name, None, None, None, failure)
    if force:
        return subject
    with suppress(ReportError, StoreError):  # what cannot be read is probed again, and replaced
        found = look_up(store, subject)
        if found.verdict:
            return Probed(name, subject, found.entry, found.verdict, None, stored=True)
    return subject


def exit_code_of_all(results: Sequence[Probed]) -> ExitCode:
    """How `tuner probe --all` ends: as the run, not as the models.

    1 if the run is at fault: the environment, the store or the disk. Else 3 if a verdict is inconclusive or a model
    could not be probed on this machine, which is a finding. Else 0, also if some still need a configuration.
    """
    if any(result.failure and result.failure.kind in FAULTS for result in results):
        return ExitCode.ERROR
    unknown = any(result.failure or inconclusive(result) for result in results)
    return ExitCode.UNKNOWN if unknown else ExitCode.FINE


FAULTS = frozenset({"control_folder", "environment", "store"})
"""Kinds of failure that are not about the model."""
