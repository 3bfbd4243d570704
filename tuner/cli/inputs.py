"""From what a command was given to the plan it asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from cache.verdicts.signed_times import SignedTimes
from cache.verdicts.store import VerdictStore
from rules.errors import TunerError
from rules.reason import reason
from rules.releases import FlagStatus
from tuner.arguments.refusals import refusals
from tuner.arguments.serve_arguments import parse
from tuner.cli.output import say_without_waiting
from tuner.environment.saved import serving_environment
from tuner.launch.plan import Options, Plan, make_plan, minimal_arguments, plan_with
from tuner.launch.requested import named_model, requested_plan, subject_of, warned
from tuner.model.model import identify, unidentified
from tuner.model.patience import SERVE_S, at_most
from tuner.verdicts.answer import LookUp
from tuner.verdicts.identity import Subject
from tuner.verdicts.lookup import opened_store

if TYPE_CHECKING:
    from tuner.service.asking import Signed

SERVICE_S = 3.0
"""Seconds for all questions to a service before a server's start."""


class Inputs(Struct, frozen=True):
    """Where to look.

    Attributes:
        python: interpreter of the serving environment; None: the default one.
        environment: a saved `tuner env --json` that stands in for it.
        store: the verdict store's path; None: the default one.
        revision: hub revision, for commands without vLLM arguments.
        model_impl: vLLM's `--model-impl`, for the same commands.
        trust_remote_code: vLLM's `--trust-remote-code`, for the same commands.
        accept_platform: a platform whose verdict may decide where the environment's own has none.
        decision: a document that decides in place of the store (`tuner.launch.decision_file`).
        service: address of a service that is asked before the store; None: none is.
        signed_with: file of the public key that must have signed the verdict of the service; None: none need be.
        without_store: why a server starts without a look at any store; empty if it looks.
    """

    python: str | None = None
    environment: Path | None = None
    store: str | None = None
    revision: str | None = None
    model_impl: str = "auto"
    trust_remote_code: bool = False
    accept_platform: str | None = None
    decision: Path | None = None
    service: str | None = None
    signed_with: Path | None = None
    without_store: str = ""

    def tool_options(self) -> tuple[str, ...]:
        """Where to look, as options of `tuner probe`: a command to run next needs them, too."""
        python = ("--python", self.python) if self.python else ()
        store = ("--store", self.store) if self.store else ()
        return (*python, *store)


class Launching(Struct, frozen=True):
    """How to decide a launch; see `tuner.launch.plan.Options`."""

    fail_on_unknown: bool = False
    enforce: bool = False
    cache_root: str | None = None
    cache_dir_in_config: bool = False
    elsewhere: bool = False


def looked_up(name: str, inputs: Inputs, environ: Mapping[str, str]) -> Plan:
    """The stored verdict of a model, with the launch it would make without further arguments.

    Raises:
        TunerError: the model or the environment cannot be read.
        StoreError: the store is damaged.
    """
    environment, at_hand = serving_environment(inputs.python, inputs.environment)
    model = identify(name, revision=inputs.revision)
    subject = Subject(model, environment, inputs.model_impl, inputs.trust_remote_code)
    store = opened_store(inputs.store, environ)
    arguments = minimal_arguments(name, inputs.revision, inputs.model_impl, inputs.trust_remote_code)
    return make_plan(store, subject, arguments, _options(inputs, Launching(), environ, at_hand))


def planned(args: Sequence[str], inputs: Inputs, launching: Launching, environ: Mapping[str, str]) -> Plan:
    """The plan for these arguments of `vllm serve`, model included.

    Raises:
        TunerError: the arguments, the model or the environment cannot be read, or this vLLM refuses the arguments.
        StoreError: the store is damaged.
    """
    environment, at_hand = serving_environment(inputs.python, inputs.environment)
    arguments = parse(args, vllm=environment.vllm)
    options = _options(inputs, launching, environ, at_hand)
    return requested_plan(opened_store(inputs.store, environ), arguments, environment, options)


def planned_safely(args: Sequence[str], inputs: Inputs, launching: Launching, environ: Mapping[str, str]) -> Plan:
    """As `planned`, but what cannot be known about the model or the store counts as no verdict.

    A server must start although the hub is down, or hangs, or the store is damaged; the safe default needs neither.
    All questions to the hub together take `SERVE_S` seconds at most.

    Raises:
        TunerError: vLLM itself would refuse the arguments, or there is no serving environment.
    """
    environment, at_hand = serving_environment(inputs.python, None)
    arguments = parse(args, vllm=environment.vllm)
    options = _options(inputs, launching, environ, at_hand)
    refused = refusals(arguments, environment.vllm, environment.platform)
    store = VerdictStore(Path())
    subject = Subject(unidentified(arguments.model or ""), environment, arguments.serving.model_impl)
    if inputs.without_store:
        return warned(plan_with(store, subject, arguments, options, _not_looked_up(inputs.without_store)), refused)
    with at_most(SERVE_S):
        try:
            store = opened_store(inputs.store, environ)
            subject = subject_of(arguments, environment)
            return warned(make_plan(store, subject, arguments, options), refused)
        except TunerError as error:
            return warned(plan_with(store, subject, arguments, options, _not_looked_up(error.message)), refused)


def _not_looked_up(why: str) -> LookUp:
    return LookUp(None, None, (reason("not_looked_up", why=why),))


def decided(path: Path, args: Sequence[str], inputs: Inputs, launching: Launching, environ: Mapping[str, str]) -> Plan:
    """The plan that the decision file at `path` makes for these arguments; no store is opened.

    Raises:
        TunerError: the file cannot be used, is for another launch, or the model or environment cannot be read.
    """
    from tuner.launch.decision_file import plan_decided, read_decision

    decision = read_decision(path)
    environment, at_hand = serving_environment(inputs.python, None)
    arguments = parse(args, vllm=environment.vllm)
    with at_most(SERVE_S):
        subject = subject_of(arguments, environment)
        plan = plan_decided(decision, subject, arguments, _options(inputs, launching, environ, at_hand))
    return warned(plan, refusals(arguments, environment.vllm, environment.platform))


def plan_of_service(args: Sequence[str], inputs: Inputs, launching: Launching, environ: Mapping[str, str]) -> Plan:
    """The plan that the service makes for these arguments, within `SERVICE_S` seconds.

    Raises:
        TunerError: the service makes none, or the model or environment cannot be read.
    """
    from tuner.service.asking import asked_plan
    from tuner.service.client import client_of

    client = client_of(inputs.service or "", environ)
    environment, at_hand = serving_environment(inputs.python, None)
    arguments = parse(args, vllm=environment.vllm)
    with at_most(SERVE_S):
        subject = subject_of(arguments, environment)
    with at_most(SERVICE_S):
        options = _options(inputs, launching, environ, at_hand)
        plan = asked_plan(client, subject, arguments, options, _signed(inputs, environ))
    return warned(plan, refusals(arguments, environment.vllm, environment.platform))


def _signed(inputs: Inputs, environ: Mapping[str, str]) -> "Signed | None":
    """What is demanded of a service's lines; the times of those before stand in the node's own store."""
    from tuner.service.asking import Signed

    if inputs.signed_with is None:
        return None
    times = SignedTimes(opened_store(inputs.store, environ).path)
    return Signed(inputs.signed_with, times, lambda sentence: say_without_waiting(f"tuner: {sentence}"))


def may_be_proved(plan: Plan) -> bool:
    """Whether a probe could change what is written: without a verdict, or for a launch without a proof."""
    verdict = plan.lookup.verdict
    if verdict is None:
        return True
    is_proved = plan.proof.finding is not None or plan.decision.setting is True  # the second: by a service
    return plan.flag.status is FlagStatus.SETTABLE and not verdict.word.unsafe and not is_proved


def probed_first(args: Sequence[str], inputs: Inputs, launching: Launching, environ: Mapping[str, str]) -> Plan:
    """Probe the model these arguments name unless it has a verdict, prove their launch, then plan.

    Raises:
        TunerError: the probe failed.
    """
    from tuner.probe.models import Request, probe, prove

    arguments = parse(args)
    serving = arguments.serving
    environment, _ = serving_environment(inputs.python, None)
    store = opened_store(inputs.store, environ)
    request = Request([named_model(arguments)], serving.model_impl, serving.revision, serving.trust_remote_code)
    plan = planned_safely(args, inputs, launching, environ)
    if plan.lookup.verdict is None:
        for result in probe(request, environment, store, lambda _stage, _name: None):
            if result.failure:
                raise result.failure
        plan = planned_safely(args, inputs, launching, environ)
    if plan.lookup.entry is not None and may_be_proved(plan):
        prove(plan.subject, arguments, plan.lookup.entry, request, store)
    return planned_safely(args, inputs, launching, environ)


def _options(inputs: Inputs, launching: Launching, environ: Mapping[str, str], at_hand: bool) -> Options:
    return Options(
        fail_on_unknown=launching.fail_on_unknown,
        enforce=launching.enforce,
        cache_root=launching.cache_root or None,  # an empty one is a variable of a script that is not set
        cache_dir_in_config=launching.cache_dir_in_config,
        environ=environ,
        files_at_hand=at_hand,
        accept_platform=inputs.accept_platform,
        elsewhere=launching.elsewhere,
        tool_options=inputs.tool_options(),
    )
