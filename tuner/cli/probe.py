"""What `tuner probe` does once its options are read: named models, or the whole registry."""

import os
import time
from collections.abc import Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from rules.errors import ErrorKind, TunerError
from tuner.cli import progress
from tuner.cli.output import complain, failures, print_json, result, say, stop_on_signals, written_to
from tuner.environment.saved import serving_environment
from tuner.errors import ExitCode
from tuner.launch.document import failure_document, plan_document, together
from tuner.probe import sweep_text
from tuner.probe.document import registry_document
from tuner.probe.models import Probed, Request, exit_code, plan_of, probe_models
from tuner.probe.pool import worker_variables
from tuner.probe.sweep import FAULTS, Selection, Survey, exit_code_of_all, probe_missing, survey
from tuner.probe.text import probed_text
from tuner.verdicts.lookup import opened_store

if TYPE_CHECKING:
    from cache.verdicts.store import VerdictStore
    from tuner.environment.environment import Environment


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
        raise SystemExit(_models(request, environment, verdicts, as_json=as_json))


def _require_either(request: Request, selection: Selection, *, whole: bool) -> None:
    if request.names and (whole or selection != Selection()):
        said = "--all and what narrows it take no MODEL."
    elif not request.names and not whole:
        said = "No MODEL is named."
    else:
        return
    hint = "Either name models, or take those that vLLM registers with --all."
    raise TunerError(said, hint=hint, kind=ErrorKind.USAGE)


def _models(request: Request, environment: "Environment", store: "VerdictStore", *, as_json: bool) -> ExitCode:
    with progress.probing(len(request.names)) as board:
        probed = _followed(probe_models(request, environment, store, board.stage), board)
    names = list(request.names)
    results = sorted(probed, key=lambda one: names.index(one.name))
    for failure in dict.fromkeys(one.failure for one in results if one.failure):
        about = [one.name for one in results if one.failure is failure]
        named = len(about) > 1 or about[0] in failure.message
        complain(failure.message if named else f"{about[0]}: {failure.message}", failure.hint)
    if as_json:
        print_json(together([_document(one, request, store) for one in results]))
    else:
        result(probed_text(results))
    return exit_code(results)


def _registry(
    request: Request, selection: Selection, environment: "Environment", store: "VerdictStore", *, as_json: bool
) -> ExitCode:
    begin = time.monotonic()
    found, probed = _swept(request, selection, environment, store)
    results = sweep_text.in_order([*found.stored, *probed])
    needing = found.without_config
    jobs = len(found.missing)
    workers = min(jobs, len(worker_variables(environment, jobs, request.workers, os.environ)))
    summary = sweep_text.summary_of(results, len(needing), workers, time.monotonic() - begin)
    faults = {one.failure.message: one.failure for one in results if one.failure and one.failure.kind in FAULTS}
    for failure in faults.values():
        complain(failure.message, failure.hint)
    if as_json:
        documents = [(found.candidates[one.name], _document(one, request, store)) for one in results]
        print_json(registry_document(documents, needing, summary.to_dict()))
    else:
        result(sweep_text.registry_text(results, needing, summary))
    return exit_code_of_all(results)


def _swept(
    request: Request, selection: Selection, environment: "Environment", store: "VerdictStore"
) -> tuple[Survey, list[Probed]]:
    try:
        with progress.probing(0, each=True) as board:
            found = survey(request, selection, environment, store, board.stage)
            board.expect(len(found.missing), sum(one.stored for one in found.stored))
            return found, _followed(probe_missing(found, request, environment, store, board.stage), board)
    except KeyboardInterrupt:
        say("tuner: what was reached is stored; the same command goes on from there")
        raise


def _followed(probed: Generator[Probed, None, None], board: progress.Board) -> list[Probed]:
    """All results, each shown as it is reached; on the way out no worker is left."""
    results = []
    with closing(probed):
        for one in probed:
            word = f"failed: {one.failure.kind}" if one.failure else str(one.verdict and one.verdict.word)
            board.done(one.name, word, one.seconds)
            results.append(one)
    return results


def _document(one: Probed, request: Request, store: "VerdictStore") -> dict[str, Any]:
    if one.failure:
        return failure_document(one.subject.model.name if one.subject else one.name, one.failure)
    return plan_document(plan_of(one, request, store, os.environ))
