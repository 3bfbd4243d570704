"""What `tuner probe` does once its options are read: named models, or the whole registry."""

import os
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rules.errors import ErrorKind, TunerError
from tuner.cli import progress
from tuner.cli.output import complain, failures, keeping, print_json, result, say, stop_on_signals, written_to
from tuner.environment.saved import serving_environment
from tuner.errors import ExitCode
from tuner.launch.document import failure_document, plan_document, together
from tuner.probe import sweep_text
from tuner.probe.document import registry_document
from tuner.probe.models import Probed, Request, exit_code, plan_of, probe_models
from tuner.probe.pool import worker_variables
from tuner.probe.sweep import FAULTS, Selection, Survey, exit_code_of_all, probe_missing, stored_results, survey
from tuner.probe.text import probed_text
from tuner.text import counted
from tuner.verdicts.lookup import opened_store

if TYPE_CHECKING:
    from cache.verdicts.store import VerdictStore
    from tuner.environment.environment import Environment

KEPT = "what was reached is stored; the same command goes on from there"


def run(
    request: Request, selection: Selection, python: str | None, store: str | None, *, whole: bool, as_json: bool
) -> None:
    """Probe the request's models or, if `whole`, what is selected of the registry; print, and end with an exit code."""
    with failures(as_json, request.names[0] if len(request.names) == 1 else None):
        _require_either(request, selection, whole=whole)
        stop_on_signals()
        environment, _ = serving_environment(python, None)
        verdicts = written_to(opened_store(store, os.environ))
        verdicts.sources({})  # a damaged store is found before minutes of probing, not after
        if whole:
            raise SystemExit(_registry(request, selection, environment, verdicts, as_json=as_json))
        raise SystemExit(_models(request, environment, verdicts, force=selection.force, as_json=as_json))


def _require_either(request: Request, selection: Selection, *, whole: bool) -> None:
    if request.names and (whole or selection != Selection(force=selection.force)):
        problem = "--all and what narrows it take no MODEL."
    elif not request.names and not whole:
        problem = "No MODEL is named."
    else:
        return
    hint = "Either name models, or take those that vLLM registers with --all."
    raise TunerError(problem, hint=hint, kind=ErrorKind.USAGE)


def _models(
    request: Request, environment: "Environment", store: "VerdictStore", *, force: bool, as_json: bool
) -> ExitCode:
    names = list(request.names)
    stored = [] if force or len(names) == 1 else stored_results(request, environment, store)
    if stored:
        say(f"tuner: {len(stored)} of {counted(len(names), 'model')} have a stored verdict; --force probes them again")
    stored_names = {outcome.name for outcome in stored}
    missing = [name for name in names if name not in stored_names]
    with keeping(KEPT), progress.probing(len(missing)) as board:
        probed = _followed(probe_models(replace(request, names=missing), environment, store, board.stage), board)
    results = sorted([*stored, *probed], key=lambda outcome: names.index(outcome.name))
    _complain_of_models(results)
    if as_json:
        print_json(together([_document(outcome, request, store) for outcome in results]))
    else:
        result(probed_text(results))
    return exit_code(results)


def _complain_of_models(results: Sequence[Probed]) -> None:
    """Say each failure once; one that is of a single model is said with the model's name."""
    models: dict[TunerError, list[str]] = {}
    for outcome in results:
        if outcome.failure:
            models.setdefault(outcome.failure, []).append(outcome.name)
    for failure, names in models.items():
        is_clear = len(names) > 1 or names[0] in failure.message
        complain(failure.message if is_clear else f"{names[0]}: {failure.message}", failure.hint)


def _registry(
    request: Request, selection: Selection, environment: "Environment", store: "VerdictStore", *, as_json: bool
) -> ExitCode:
    begin = time.monotonic()
    selected, probed = _swept(request, selection, environment, store)
    results = sweep_text.in_order([*selected.stored, *probed])
    needing = selected.without_config
    jobs = len(selected.missing)
    workers = min(jobs, len(worker_variables(environment, jobs, request.workers, os.environ)))
    summary = sweep_text.summary_of(results, len(needing), workers, time.monotonic() - begin)
    _complain_of_faults(results)
    if as_json:
        documents = [(selected.candidates[outcome.name], _document(outcome, request, store)) for outcome in results]
        print_json(registry_document(documents, needing, summary.to_dict()))
    else:
        result(sweep_text.registry_text(results, needing, summary))
    return exit_code_of_all(results)


def _complain_of_faults(results: Sequence[Probed]) -> None:
    """Say each failure that is not about a model once."""
    hints: dict[str, str] = {}
    for outcome in results:
        if outcome.failure and outcome.failure.kind in FAULTS:
            hints[outcome.failure.message] = outcome.failure.hint
    for message, hint in hints.items():
        complain(message, hint)


def _swept(
    request: Request, selection: Selection, environment: "Environment", store: "VerdictStore"
) -> tuple[Survey, list[Probed]]:
    with keeping(KEPT), progress.probing(0, each=True) as board:
        selected = survey(request, selection, environment, store, board.stage)
        board.expect(len(selected.missing), sum(outcome.stored for outcome in selected.stored))
        return selected, _followed(probe_missing(selected, request, environment, store, board.stage), board)


def _followed(probed: Generator[Probed, None, None], board: progress.Board) -> list[Probed]:
    """All results, each shown as it is reached. No worker is left when this returns or raises."""
    results = []
    with closing(probed):
        for outcome in probed:
            verdict = outcome.verdict
            word = f"failed: {outcome.failure.kind}" if outcome.failure else str(verdict and verdict.word)
            board.finish(outcome.name, word, outcome.seconds)
            results.append(outcome)
    return results


def _document(outcome: Probed, request: Request, store: "VerdictStore") -> dict[str, Any]:
    if outcome.failure:
        name = outcome.subject.model.name if outcome.subject else outcome.name
        return failure_document(name, outcome.failure)
    return plan_document(plan_of(outcome, request, store, os.environ))
