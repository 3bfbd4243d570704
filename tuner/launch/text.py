"""Verdicts, plans and environments as text for people. Pure: values in, text out."""

import shlex
from collections.abc import Mapping, Sequence

from rules.decide import FLAG_KEY, MODE_KEY
from rules.reason import sentences
from tuner.launch.plan import Plan
from tuner.text import line, lines
from tuner.verdicts.origin import accepted, imported_short
from tuner.verdicts.text import evidence_text, judged_text


def verdict_text(plan: Plan) -> str:
    """What `tuner verdict` prints."""
    model, verdict = plan.subject.model, plan.lookup.verdict
    entry, report = plan.lookup.entry, plan.lookup.report
    head = [line("model", f"{model.name} ({model.architecture})")]
    if verdict is None or entry is None or report is None:
        way_out = line("next", f"tuner probe {shlex.quote(model.name)}")
        return "\n".join([*head, line("verdict", "none stored"), lines("why", plan.lookup.miss), way_out])
    checked = "source files unchanged since" if plan.lookup.verified else "source files not at hand, not compared"
    rests_on = evidence_text(entry, report, verdict, checked, accepted(plan.lookup))
    return "\n".join([*head, judged_text(verdict), rests_on])


def plan_text(plan: Plan) -> str:
    """What `tuner plan` prints: the verdict, the decision and the launch."""
    environment, launch = plan.subject.environment, plan.launch
    return "\n".join(
        [
            verdict_text(plan),
            line("serving", f"vLLM {environment.vllm}, torch {environment.torch}, {environment.platform}"),
            line("flag status", plan.flag.status),
            lines("decision", plan.decision.reasons),
            *([lines("compiling", plan.decision.mode_reasons)] if plan.decision.mode_reasons else []),
            *holds_lines(plan),
            line("cache", f"{launch.cache['location']} ({launch.cache['source']})"),
            line("launch", command_line(["vllm", "serve", *launch.args], launch.env)),
        ]
    )


def holds_lines(plan: Plan) -> list[str]:
    """For which launch a `true` holds, and what else must stay true."""
    launch, others = plan.decision.holds_for, plan.decision.other_conditions
    return [
        *([line("holds for", launch)] if launch is not None else []),
        *([lines("holds while", others)] if others else []),
    ]


def shell_text(plan: Plan) -> str:
    """What `tuner plan --shell` prints: one line for a POSIX shell's `eval`, with or without `exec` in front.

    It starts the module behind `vllm serve`, which takes the model by option only: it ignores a positional one and
    serves its default (vllm/entrypoints/openai/api_server.py, 0.16.0 to 0.32.0).
    """
    model, *rest = plan.launch.args
    variables = [f"{name}={value}" for name, value in plan.launch.env.items()]
    command = [plan.subject.environment.python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *rest]
    return shlex.join([*(["env", *variables] if variables else []), *command])


def serve_line(plan: Plan) -> str:
    """What `tuner serve` says before it becomes vLLM: one line."""
    setting = plan.decision.setting
    written = "nothing to write" if setting is None else f"{FLAG_KEY}={str(setting).lower()}"
    missing = "" if plan.lookup.verdict else f"no verdict ({'; '.join(sentences(plan.lookup.miss))}); "
    imported = imported_short(plan.lookup.entry)
    flag = f"{missing}{written}: {plan.decision.reasons[0]}" + (f" (verdict {imported})" if imported else "")
    mode = plan.decision.mode
    return flag if mode is None else f"{flag}; {MODE_KEY}={mode}: {plan.decision.mode_reasons[0]}"


def command_line(command: Sequence[str], env: Mapping[str, str]) -> str:
    """A command as a POSIX shell would take it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in env.items()), shlex.join(command)])
