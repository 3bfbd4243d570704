"""A planned launch as a file for others to read. Pure: plan in, text out."""

import json
from collections.abc import Callable
from enum import StrEnum

from tuner.document import plan_document
from tuner.errors import ExitCode, TunerError
from tuner.origin import imported_sentence
from tuner.plan import Plan


class Format(StrEnum):
    """What `tuner export` can write."""

    JSON = "json"
    """The document of `tuner plan --json`."""
    VLLM_YAML = "vllm-yaml"
    """A file for `vllm serve --config`."""


def as_json(plan: Plan) -> str:
    """The whole plan as the versioned document."""
    return json.dumps(plan_document(plan), indent=2, ensure_ascii=False) + "\n"


def as_vllm_yaml(plan: Plan) -> str:
    """A `--config` file with the model and the merged compilation config.

    The file holds no other option: those stay on the command line, which wins
    over the file option by option, never key by key.
    """
    from tuner.yaml_text import dump_vllm_config  # noqa: PLC0415  PyYAML is slow to import

    options: dict[str, object] = {"model": plan.subject.model.name}
    if plan.launch.compilation_config:
        options["compilation-config"] = plan.launch.compilation_config
    verdict = plan.found.verdict.word if plan.found.verdict else "none stored"
    environment = plan.subject.environment
    comments = [
        f"verdict: {verdict}; vLLM {environment.vllm}, torch {environment.torch}, flag {plan.flag.status}",
        *imported_sentence(plan.found),
        *plan.decision.reasons,
        *plan.decision.mode_reasons,
        *(f"holds while: {condition}" for condition in plan.decision.conditions),
        *(f"set {name}={value} for the server" for name, value in plan.launch.env.items()),
        *(f"warning: {warning}" for warning in plan.warnings),
    ]
    return "".join(f"# {' '.join(comment.split())}\n" for comment in comments) + dump_vllm_config(options)


def writer(name: str) -> Callable[[Plan], str]:
    """The writer of a format.

    Raises:
        TunerError: there is no such format.
    """
    if name not in set(Format):
        known = ", ".join(Format)
        raise TunerError(
            f"There is no format {name}.", hint=f"Choose one of: {known}.", kind="usage", exit_code=ExitCode.USAGE
        )
    return WRITERS[Format(name)]


WRITERS: dict[Format, Callable[[Plan], str]] = {Format.JSON: as_json, Format.VLLM_YAML: as_vllm_yaml}
