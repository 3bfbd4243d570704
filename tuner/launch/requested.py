"""The plan that a list of `vllm serve` arguments asks for, whoever asks: a command, or a client of the service."""

from collections.abc import Callable

from msgspec.structs import replace

from cache.verdicts.store import VerdictStore
from rules.errors import ErrorKind, TunerError
from rules.reason import reason
from tuner.arguments.refusals import Refusals, refusals
from tuner.arguments.serve_arguments import ServeArguments
from tuner.environment.environment import Environment
from tuner.launch.plan import Options, Plan, make_plan
from tuner.model.model import Model, identify
from tuner.verdicts.identity import Subject


def requested_plan(store: VerdictStore, arguments: ServeArguments, environment: Environment, options: Options) -> Plan:
    """The plan for these arguments, model included.

    Raises:
        TunerError: the arguments name no model, the model cannot be read, or this vLLM refuses the arguments.
        StoreError: the store is damaged.
    """
    refused = accepted_arguments(arguments, environment)
    subject = subject_of(arguments, environment)
    return warned(make_plan(store, subject, arguments, options), refused)


def accepted_arguments(arguments: ServeArguments, environment: Environment) -> Refusals:
    """What this vLLM may refuse of the arguments.

    Raises:
        TunerError: kind `usage`: it refuses them for certain.
    """
    refused = refusals(arguments, environment.vllm, environment.platform)
    if refused.certain:
        raise TunerError(" ".join(refused.certain), hint="The server would not start.", kind=ErrorKind.USAGE)
    return refused


def subject_of(
    arguments: ServeArguments, environment: Environment, identified: Callable[..., Model] = identify
) -> Subject:
    """The model that the arguments name, and where it is served.

    Args:
        arguments: the arguments, read.
        environment: the serving environment.
        identified: finds a model as `identify` does.

    Raises:
        TunerError: the arguments name no model, or it cannot be read.
    """
    serving = arguments.serving
    name = named_model(arguments)
    model = identified(serving.hf_config_path or name, revision=serving.revision)
    return Subject(replace(model, name=name), environment, serving.model_impl, serving.trust_remote_code)


def named_model(arguments: ServeArguments) -> str:
    """The name of the model.

    Raises:
        TunerError: kind `usage`: the arguments name none.
    """
    if arguments.model is None:
        raise TunerError(
            "The model cannot be told from these arguments.",
            hint="Give it first, as in `tuner serve MODEL …`, or with --model.",
            kind=ErrorKind.USAGE,
        )
    return arguments.model


def warned(plan: Plan, refused: Refusals) -> Plan:
    """The plan with a warning for each refusal of vLLM."""
    warnings = tuple(reason("arguments", text=text) for text in (*refused.certain, *refused.doubtful))
    return replace(plan, warnings=(*warnings, *plan.warnings))
