"""Probes a whole registry: each MoE architecture that the environment's vLLM knows, once."""

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
        configs: folder with the user's configurations, which win over all others; None: there is none.
        text_only: leave out every architecture that is not for text alone.
        match: pattern of names, as in a shell; None: all.
        force: also probe architectures whose verdict is stored.
    """

    configs: Path | None = None
    text_only: bool = False
    match: str | None = None
    force: bool = False


@dataclass(frozen=True)
class Survey:
    """The selected architectures of a registry, before any is probed.

    Attributes:
        candidates: all of them, by the name of their result: the architecture and, where the user gave several
            configurations for it, which configuration.
        stored: results without a probe: stored verdicts, and failures to read a configuration.
        missing: the subjects that must be probed, by name.
    """

    candidates: Mapping[str, Candidate]
    stored: tuple[Probed, ...]
    missing: Mapping[str, Subject]

    @property
    def without_config(self) -> list[Candidate]:
        """The candidates that need a configuration from the user."""
        return [candidate for candidate in self.candidates.values() if candidate.folder is None]


def survey(
    request: Request, selection: Selection, environment: Environment, store: VerdictStore, watch: Watch
) -> Survey:
    """Ask the environment's vLLM which MoE architectures it registers, and which of them have a stored verdict.

    A verdict that is stored under another key does not count: a changed configuration, vLLM or probe makes it missing.

    Raises:
        TunerError: the environment cannot be asked or is not what its files say; a configuration cannot be written;
            kind `usage`: nothing is selected.
    """
    listing = list_registry(environment.python, lambda _stage, _index: watch(0, "list", "vLLM"))
    require_same_environment(environment, listing["environment"])
    home = store.path.parent
    chosen = candidates(listing, selection.configs, home, text_only=selection.text_only, match=selection.match)
    if not chosen:
        raise _nothing_selected(selection, environment)
    named = _named(chosen, selection.configs)
    stored: list[Probed] = []
    missing: dict[str, Subject] = {}
    for name, candidate in named.items():
        if candidate.folder is None:
            continue
        result = _stored_result(name, candidate.folder, request, environment, store, force=selection.force)
        if isinstance(result, Subject):
            missing[name] = result
        else:
            stored.append(result)
    return Survey(named, tuple(stored), missing)


def probe_missing(
    surveyed: Survey, request: Request, environment: Environment, store: VerdictStore, watch: Watch
) -> Generator[Probed, None, None]:
    """Probe the subjects that a survey lacks; as `probe_models`."""
    yield from probe_subjects(list(surveyed.missing.items()), request, environment, store, watch)


def _nothing_selected(selection: Selection, environment: Environment) -> TunerError:
    return TunerError(
        f"vLLM {environment.vllm} registers no MoE architecture that matches {selection.match or '*'}.",
        hint="`tuner probe --all` takes every one; --match takes a pattern such as 'Qwen*'.",
        kind=ErrorKind.USAGE,
    )


def _named(chosen: Sequence[Candidate], configs: Path | None) -> dict[str, Candidate]:
    """Each candidate by its architecture and, where that has several candidates, by its folder."""
    counts = Counter(candidate.architecture for candidate in chosen)
    named: dict[str, Candidate] = {}
    for candidate in chosen:
        name = candidate.architecture
        if counts[name] > 1 and candidate.folder is not None and configs is not None:
            name += f" ({Path(candidate.folder).relative_to(configs.absolute())})"
        named[name] = candidate
    return named


def stored_results(request: Request, environment: Environment, store: VerdictStore) -> list[Probed]:
    """The models of a request that have a verdict already, by name; one that proves nothing is not a reason to stop."""
    results = [_stored_result(name, name, request, environment, store, force=False) for name in request.names]
    return [result for result in results if isinstance(result, Probed) and result.stored and not inconclusive(result)]


def _stored_result(
    name: str, folder: str, request: Request, environment: Environment, store: VerdictStore, *, force: bool
) -> Probed | Subject:
    """The stored result, or the subject to probe."""
    try:
        subject = subject_of(folder, request, environment)
    except TunerError as failure:
        return Probed(name, None, None, None, failure)
    if force:
        return subject
    with suppress(ReportError, StoreError):  # what cannot be read is probed again, and replaced
        lookup = look_up(store, subject)
        if lookup.verdict:
            return Probed(name, subject, lookup.entry, lookup.verdict, None, stored=True)
    return subject


def exit_code_of_all(results: Sequence[Probed]) -> ExitCode:
    """The exit code of `tuner probe --all`: it is about the run, and not about the models.

    1 if the run failed: the environment, the store or the disk. Else 3 if a verdict is inconclusive, or if a model
    could not be probed on this machine. Else 0, even if some architectures still need a configuration.
    """
    if any(result.failure and result.failure.kind in FAULTS for result in results):
        return ExitCode.ERROR
    unknown = any(result.failure or inconclusive(result) for result in results)
    return ExitCode.UNKNOWN if unknown else ExitCode.FINE


FAULTS = frozenset({"control_folder", "environment", "store"})
"""Kinds of failure that have nothing to do with the model."""
