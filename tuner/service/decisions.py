"""Decisions: from a request and the store to the document of `tuner plan --json`. Nothing is run or fetched."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from cache.verdicts.store import VerdictStore
from rules.decide import Refusal
from rules.errors import ErrorKind, TunerError
from rules.reason import Reason, parts, reason
from tuner.arguments.refusals import Refusals
from tuner.arguments.serve_arguments import ServeArguments, parse
from tuner.environment.saved import environment_in, require_vllm
from tuner.launch.document import plan_document
from tuner.launch.plan import Options, Plan, make_plan, plan_with
from tuner.launch.requested import accepted_arguments, subject_of, warned
from tuner.model.model import Model, describe, model_in
from tuner.model.side_files import SideFiles
from tuner.service.refusal import UNKNOWN, ServiceError
from tuner.service.request import AskedModel, DecisionRequest
from tuner.text import brief
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject

MISSING = "missing"
"""In the place of `proof` where no proof of the launch is stored."""
OWN_CODE = "the model's own code may run (--trust-remote-code), and the service has not seen that code"


class Decided(Struct, frozen=True):
    """An answer to a request.

    Attributes:
        document: as `tuner plan --json` prints it; without a proof of the launch `proof` is `missing`, and `differs`
            says what keeps the nearest one from counting.
        outcome: for the metrics: `refused`, `no_verdict`, `no_proof` or `proved`.
        missed: the factors in which the nearest stored verdict differs.
    """

    document: dict[str, Any]
    outcome: str
    missed: tuple[str, ...] = ()


def decide_launch(store: VerdictStore, configs: Path | None, request: DecisionRequest) -> Decided:
    """Decide a launch by what is stored.

    Args:
        store: the verdicts.
        configs: folder of the models that may be asked for by name; None: there is none.
        request: what was asked.

    Raises:
        ServiceError: the model is neither described nor known by name.
        TunerError: as `tuner plan` fails.
        StoreError: the store is damaged.
    """
    plan = _plan(store, configs, request)
    document = plan_document(plan)
    missed = tuple(_missed_factors(plan.lookup.miss))
    if document["proof"] is not None:
        return Decided(document, _outcome(plan), missed)
    differs = parts(_why_missing(plan))
    return Decided({**document, "proof": MISSING, "differs": differs}, _outcome(plan), missed)


class AskedLaunch(NamedTuple):
    """A launch that a request describes.

    Attributes:
        subject: the model and where it is served.
        arguments: those of the request, read.
        refused: what this vLLM may refuse of them.
    """

    subject: Subject
    arguments: ServeArguments
    refused: Refusals


def asked_launch(configs: Path | None, request: DecisionRequest) -> AskedLaunch:
    """The launch of a request; arguments as for `decide_launch`.

    Raises:
        ServiceError, TunerError: as `decide_launch`.
    """
    environment = environment_in(request.environment, "The environment of the request")
    require_vllm(environment)
    arguments = parse(request.arguments, refuse_file, vllm=environment.vllm)
    refused = accepted_arguments(arguments, environment)
    subject = subject_of(arguments, environment, _Models(configs, request.model).identify)
    return AskedLaunch(subject, arguments, refused)


def _plan(store: VerdictStore, configs: Path | None, request: DecisionRequest) -> Plan:
    subject, arguments, refused = asked_launch(configs, request)
    options = _options(request, _Models(configs, request.model))
    if request.model is not None and subject.trust_remote_code:
        unseen = LookUp(None, None, (reason("not_looked_up", why=OWN_CODE),))
        return warned(plan_with(store, subject, arguments, options, unseen), refused)
    return warned(make_plan(store, subject, arguments, options), refused)


def _options(request: DecisionRequest, models: "_Models") -> Options:
    return Options(
        fail_on_unknown=request.fail_on_unknown,
        enforce=request.enforce,
        cache_root=request.cache_root or None,
        cache_dir_in_config=request.cache_dir_in == "config",
        environ=request.variables,
        files_at_hand=False,
        accept_platform=request.accept_platform,
        identify=models.named,
    )


class _Models(Struct, frozen=True):
    """The models that a request may mean.

    Attributes:
        configs: the folder of those that are known by name.
        described: the one that the client describes.
    """

    configs: Path | None
    described: AskedModel | None

    def identify(self, name: str, *, revision: str | None = None) -> Model:
        """The model of the launch: as the client describes it, else by its name."""
        if self.described is None:
            return self.named(name, revision=revision)
        side = SideFiles(digests=self.described.side_files)
        model = describe(name, Path(), self.described.config, self.described.revision, side)
        return _without_folder(model)

    def named(self, name: str, *, revision: str | None = None) -> Model:
        """The model of that name in the service's own folder.

        Raises:
            ServiceError: it is not there.
        """
        model = model_in(self.configs, name) if self.configs and revision is None else None
        if model is None:
            raise ServiceError(
                UNKNOWN,
                f"The service has no model {brief(name)}" + (f" at {brief(revision)}." if revision else "."),
                "Send the model's config.json as `model`, or ask whoever runs the service to add it to --configs.",
                kind=ErrorKind.MODEL,
            )
        return model


def _without_folder(model: Model) -> Model:
    """The model without a place on this machine: what it names lies on the client's."""
    return replace(model, folder="")


def refuse_file(_: str) -> str:
    """Refuse to read the file of a --config option.

    Raises:
        TunerError: always.
    """
    raise TunerError(
        "The arguments name a --config file, which the service cannot read.",
        hint="Send the options of the file as arguments, before the others.",
        kind=ErrorKind.ARGUMENTS,
    )


def _outcome(plan: Plan) -> str:
    if plan.decision.refusal is not Refusal.NONE:
        return "refused"
    if plan.lookup.verdict is None:
        return "no_verdict"
    return "no_proof" if plan.proof.finding is None else "proved"


def _why_missing(plan: Plan) -> tuple[Reason, ...]:
    """What keeps the nearest verdict or proof from counting."""
    if plan.lookup.verdict is None:
        return plan.lookup.miss
    return (plan.proof.why_not,) if plan.proof.why_not else ()


def _missed_factors(miss: tuple[Reason, ...]) -> Iterator[str]:
    for first in miss:
        why: Reason | None = first
        while why is not None:
            factors = str(why.fields.get("factors", ""))
            yield from filter(None, factors.split(", "))
            why = why.because
