"""Verdicts, plans and environments as text for people. Pure: values in, text out."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence

from rules.decide import FLAG_KEY, MODE_KEY, Decision
from rules.errors import ErrorKind, TunerError
from rules.reason import sentences
from rules.releases import FlagStatus
from tuner.launch.plan import Plan
from tuner.text import folded_command, line, lines, visible
from tuner.verdicts.origin import accepted, imported_short
from tuner.verdicts.text import evidence_text, judged_text


def verdict_text(plan: Plan, *, verbose: bool = False) -> str:
    """What `tuner verdict` prints; where the flag does nothing, why a missing verdict is then no fault.

    Args:
        plan: the launch of the model.
        verbose: list every launch that was traced.
    """
    does_nothing = plan.flag.status in {FlagStatus.ABSENT, FlagStatus.INERT}
    needless = plan.lookup.verdict is None and does_nothing
    return "\n".join([_stored_text(plan, verbose=verbose), *([line("flag", plan.flag.reason)] if needless else [])])


def _stored_text(plan: Plan, *, verbose: bool) -> str:
    """The model and its verdict, or why there is none and what makes it."""
    model, verdict = plan.subject.model, plan.lookup.verdict
    entry, report = plan.lookup.entry, plan.lookup.report
    head = [line("model", f"{model.name} ({model.architecture})")]
    if verdict is None or entry is None or report is None:
        way_out = folded_command(command_line(plan.proving, {}), "next")
        return "\n".join([*head, line("verdict", "none stored"), lines("why", plan.lookup.miss), way_out])
    checked = "source files unchanged since" if plan.lookup.verified else "source files not at hand, not compared"
    rests_on = evidence_text(entry, report, verdict, checked, accepted(plan.lookup), verbose=verbose)
    return "\n".join([*head, judged_text(verdict), rests_on])


def plan_text(plan: Plan, *, verbose: bool = False) -> str:
    """What `tuner plan` prints: the verdict, the decision and the launch; arguments as for `verdict_text`."""
    environment, launch = plan.subject.environment, plan.launch
    return "\n".join(
        [
            _stored_text(plan, verbose=verbose),
            line("serving", f"vLLM {environment.vllm}, torch {environment.torch}, {environment.platform}"),
            line("flag status", plan.flag.status),
            lines("decision", plan.decision.reasons),
            *([lines("compiling", plan.decision.mode_reasons)] if plan.decision.mode_reasons else []),
            *([lines("engine", plan.engine_reasons)] if plan.engine_reasons else []),
            *holds_lines(plan),
            line("cache", f"{launch.cache['location']} ({launch.cache['source']})"),
            folded_command(command_line(["vllm", "serve", *launch.args], launch.env), "launch"),
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

    It starts the module behind `vllm serve`, which takes the model by option only. The module ignores a positional
    model and serves its default (vllm/entrypoints/openai/api_server.py, 0.16.0 to 0.32.0).

    Raises:
        TunerError: a word is not UTF-8.
    """
    require_utf8(plan)
    model, *others = plan.launch.args
    variables = [f"{name}={value}" for name, value in plan.launch.env.items()]
    command = [plan.subject.environment.python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *others]
    return shlex.join([*(["env", *variables] if variables else []), *command])


def require_utf8(plan: Plan) -> None:
    """Refuse a launch with a word that is not UTF-8: written as text it would name another file.

    Raises:
        TunerError: it names the word.
    """
    for word in (plan.subject.environment.python, *plan.launch.args, *plan.launch.env.values()):
        if any("\ud800" <= char <= "\udfff" for char in word):
            raise TunerError(
                f"The word {visible(word)} is not UTF-8, and no text can hold it.",
                hint="Give the folder another name, or a link to it with such a name.",
                kind=ErrorKind.EXPORT,
            )


def serve_line(plan: Plan) -> str:
    """What `tuner serve` says before it becomes vLLM: one line."""
    setting = plan.decision.setting
    written = "nothing to write" if setting is None else f"{FLAG_KEY}={str(setting).lower()}"
    missing = "" if plan.lookup.verdict else f"no verdict ({'; '.join(sentences(plan.lookup.miss))}); "
    imported = imported_short(plan.lookup.entry)
    flag = f"{missing}{written}: {plan.decision.reasons[0]}" + (f" (verdict {imported})" if imported else "")
    parts = [flag]
    if plan.decision.mode is not None:
        parts.append(f"{MODE_KEY}={plan.decision.mode}: {plan.decision.mode_reasons[0]}")
    if plan.engine_reasons:
        words = ", ".join(remedy_words(plan.decision)) or "nothing to write"
        parts.append(f"engine: {words}: {'; '.join(sentences(plan.engine_reasons))}")
    return "; ".join(parts)


def remedy_words(decision: Decision) -> list[str]:
    """What a decision writes because of the arms of the launch, as words of a sentence."""
    keys = []
    for key, value in decision.config.items():
        text = value if isinstance(value, str) else json.dumps(value)
        keys.append(f"{key}={text}")
    return [*keys, *([shlex.join(decision.options)] if decision.options else [])]


def command_line(command: Sequence[str], env: Mapping[str, str]) -> str:
    """A command as a shell takes it, in one line without control characters.

    A word with such characters is quoted as `$'...'`, which POSIX has had since 2024 and bash and zsh for long.
    """
    variables = [f"{name}={_shell_word(value)}" for name, value in env.items()]
    return " ".join([*variables, *map(_shell_word, command)])


def _shell_word(text: str) -> str:
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_in_quotes, text)) + "'"


def _in_quotes(char: str) -> str:
    """A character inside `$'...'`; what is not printable as its bytes, each in octal digits."""
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\{byte:03o}" for byte in _bytes_of(char))


def _bytes_of(char: str) -> bytes:
    """The bytes of a character; half a pair of surrogates, which JSON can hold, as UTF-8 would write it."""
    try:
        return os.fsencode(char)
    except UnicodeEncodeError:
        return char.encode("utf-8", "surrogatepass")
