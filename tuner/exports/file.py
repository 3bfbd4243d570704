"""A planned launch as a file for vLLM, a program, a shell or an image builder. Pure: plan in, text out."""

import json
import shlex
from collections.abc import Sequence
from itertools import pairwise

from rules.errors import ErrorKind, TunerError
from tuner.arguments.serve_arguments import without_options
from tuner.arguments.vllm_options import indexes_of_field
from tuner.exports.choices import Choices
from tuner.exports.evidence import annotations, head
from tuner.exports.pod import home_note
from tuner.exports.server import server_of
from tuner.launch.document import plan_document
from tuner.launch.plan import Plan


def as_json(plan: Plan, _: Choices) -> str:
    """The whole plan as the versioned document."""
    return json.dumps(plan_document(plan), indent=2, ensure_ascii=False) + "\n"


def as_vllm_yaml(plan: Plan, _: Choices) -> str:
    """A `--config` file with the model, the merged compilation config, and the options that the decision adds.

    The file holds no other option: those stay on the command line, which wins
    over the file option by option, never key by key.
    """
    text, notes = vllm_config(plan)
    set_first = [f"set {name}={value} for the server" for name, value in plan.launch.env.items()]
    return head(plan, [*notes, *set_first]) + text


def vllm_config(plan: Plan) -> tuple[str, list[str]]:
    """The `--config` file, and what to say of the arguments that it does not hold."""
    from tuner.yaml_text import dump_vllm_config  # noqa: PLC0415  PyYAML is slow to import

    options: dict[str, object] = {"model": plan.subject.model.name}
    if plan.launch.compilation_config:
        options["compilation-config"] = plan.launch.compilation_config
    options |= _added(plan.decision.options)
    words = shlex.join(beside_config(plan))
    on_one_line = words.isprintable() and " ".join(words.split()) == words
    note = f"the other arguments stay on the command line{f': `{words}`' if on_one_line else ''}"
    return dump_vllm_config(options), [note] if words else []


def _added(options: Sequence[str]) -> dict[str, object]:
    """Options that a decision adds, as a `--config` file holds them: an option without a value is true."""
    held: dict[str, object] = {}
    for word, behind in pairwise([*options, "--"]):
        if word.startswith("--"):
            held[word.removeprefix("--")] = True if behind.startswith("--") else behind
    return held


def beside_config(plan: Plan) -> tuple[str, ...]:
    """The arguments that stay on the command line beside the `--config` file."""
    arguments = server_of(plan, Choices()).without_model
    users = without_options(arguments, plan.decision.options)
    remaining = arguments if users is None else users
    indexes = indexes_of_field(remaining, "compilation_config")
    return tuple(argument for index, argument in enumerate(remaining) if index not in indexes)


def as_env(plan: Plan, choices: Choices) -> str:
    """A file to be read by a POSIX shell with `.`: it exports the variables and sets the positional parameters.

    A list cannot travel in one variable without being split or evaluated again; positional parameters can.
    """
    notes = ['use: . ./THIS_FILE && exec vllm serve "$@"', *server_of(plan, choices).notes]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in plan.launch.env.items()]
    return head(plan, notes) + "\n".join([*exports, f"set -- {shlex.join(plan.launch.args)}"]) + "\n"


def as_dockerfile(plan: Plan, choices: Choices) -> str:
    """Lines for the end of a Dockerfile.

    `ENV` and `LABEL` expand variables, so a `$` is escaped there; the JSON form of `ENTRYPOINT` and `CMD` does not.

    Raises:
        TunerError: a variable's value has several lines, which `ENV` cannot hold.
    """
    server = server_of(plan, choices)
    notes = [f"for an image with vLLM {plan.subject.environment.vllm}", *server.notes, *home_note(server)]
    lines = [f"LABEL {_quoted(name)}={_quoted(value)}" for name, value in annotations(plan).items()]
    lines += [f"ENV {name}={_quoted(value)}" for name, value in plan.launch.env.items()]
    lines += ['ENTRYPOINT ["vllm", "serve"]', f"CMD {json.dumps(list(plan.launch.args))}"]
    return head(plan, notes) + "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A value of `ENV` or `LABEL`."""
    if "\n" in text or "\r" in text:
        raise TunerError(
            "A Dockerfile's ENV cannot hold a value of several lines.",
            hint="Set it where it runs.",
            kind=ErrorKind.EXPORT,
        )
    for special in '\\"$':
        text = text.replace(special, f"\\{special}")
    return f'"{text}"'
