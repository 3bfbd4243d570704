"""Verdicts, plans and environments as text for people. Pure: values in, text out."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile, zip_longest
from typing import TYPE_CHECKING

from cache.verdicts.entry import Entry
from rules.decide import HOLDS_FOR, MODE, NAME
from rules.verdict import Verdict, Witness
from tuner.origin import accepted, imported_full, imported_short, origin_told, ran_code
from tuner.plan import Plan
from tuner.render_evidence import clipped, evidence_rows
from tuner.text import LABEL, columns, line, lines
from tuner.untrusted.shape import readable

if TYPE_CHECKING:
    from tuner.flow import Probed  # starts processes: a look-up must not import it

DIGEST_LENGTH = 64
UNREADABLE = f"{'evidence':<{LABEL}}a report that this release cannot read"
WITNESS_ROWS = 6
"""Calls of a witness that are shown: the first ones, and those up to the first that differs."""


def verdict_text(plan: Plan) -> str:
    """What `tuner verdict` prints."""
    model, verdict, entry = plan.subject.model, plan.found.verdict, plan.found.entry
    head = [line("model", f"{model.name} ({model.architecture})")]
    if verdict is None or entry is None:
        way_out = line("next", f"tuner probe {shlex.quote(model.name)}")
        return "\n".join([*head, line("verdict", "none stored"), lines("why", plan.found.miss), way_out])
    checked = "source files unchanged since" if plan.found.verified else "source files not at hand, not compared"
    return "\n".join([*head, judged_text(verdict), evidence_text(entry, verdict, checked, accepted(plan.found))])


def entry_text(entry: Entry, verdict: Verdict) -> str:
    """What `tuner verdicts show` prints: the factors of the key, the verdict, what it rests on."""
    short = {name: value[:12] if is_digest(value) else value for name, value in entry.key.items()}
    factors = [line(name, value or "none") for name, value in short.items()]
    shown = readable(entry.report, verdict.to_dict())
    rests_on = evidence_text(entry, verdict, "sources not compared") if shown else UNREADABLE
    return "\n".join([*factors, judged_text(verdict), rests_on])


def is_digest(value: object) -> bool:
    """Whether a factor is a SHA-256, of which the start tells readers enough."""
    return isinstance(value, str) and len(value) == DIGEST_LENGTH and set(value) <= set("0123456789abcdef")


def judged_text(verdict: Verdict) -> str:
    """The verdict, its reasons, and its witness if it has one."""
    parts = [line("verdict", verdict.word), lines("reasons", verdict.reasons)]
    return "\n".join([*parts, *([witness_text(verdict.witness)] if verdict.witness else [])])


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
    texts = plan.decision.conditions
    launch = [text.removeprefix(HOLDS_FOR) for text in texts if text.startswith(HOLDS_FOR)]
    others = [text for text in texts if not text.startswith(HOLDS_FOR)]
    return [
        *([line("holds for", launch[0])] if launch else []),
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


def evidence_text(entry: Entry, verdict: Verdict, checked: str, stands_in: str = "") -> str:
    """How much was seen, when, where it comes from, and what was done otherwise than a launch would.

    Args:
        entry: what is stored.
        verdict: its verdict.
        checked: whether its source files were compared.
        stands_in: the sentence about a verdict of another platform.
    """
    kinds = dict.fromkeys(assumption["kind"] for assumption in entry.report["assumptions"])
    return "\n".join(
        [
            *(lines(label, texts) for label, texts in evidence_rows(entry.report, verdict)),
            line("probed", f"{entry.probed_at}, {checked}; key {entry.digest[:12]}"),
            *(line("", said) for said in (ran_code(entry), imported_full(entry), stands_in) if said),
            line("assumed", ", ".join(kinds)),
        ]
    )


def witness_text(witness: Witness) -> str:
    """The two orders side by side, as far as the first call that differs."""
    left, right = short_names(witness.registered, witness.executed)
    differs = first_difference(witness.registered, witness.executed)
    shown = max(WITNESS_ROWS, differs + 2)
    width = max(map(len, [*left, "registered"]))
    head = line("witness", f"call  {'registered':<{width}}  ran in {witness.scenario}")
    return "\n".join([head, *_rows(left, right, differs, shown, width)])


def _rows(left: Sequence[str], right: Sequence[str], differs: int, shown: int, width: int) -> Iterator[str]:
    pairs = list(zip_longest(left, right, fillvalue="-"))
    for index, (registered, ran) in enumerate(pairs[:shown]):
        mark = "   <- first difference" if index == differs else ""
        yield line("", f"{index + 1:>4}  {registered:<{width}}  {ran}{mark}")
    if len(pairs) > shown:
        yield line("", f"   …  {len(pairs) - shown} more")


def first_difference(registered: Sequence[str], executed: Sequence[str]) -> int:
    """Index of the first call that counting would resolve wrongly; the end of the shorter list if there is none."""
    pairs = enumerate(zip(registered, executed, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(registered), len(executed)))


def short_names(*orders: Sequence[str]) -> list[list[str]]:
    """Layer names without the leading modules they all share."""
    split = [[name.split(".") for name in order] for order in orders]
    columns_of_parts = zip(*(parts for order in split for parts in order), strict=False)
    shared = sum(1 for _ in takewhile(lambda parts: len(set(parts)) == 1, columns_of_parts))
    return [[".".join(parts[shared:]) or parts[-1] for parts in order] for order in split]


def verdicts_table(entries: Sequence[tuple[Entry, Verdict]]) -> str:
    """What `tuner verdicts list` prints: one line an entry."""
    rows = [("KEY", "VERDICT", "ARCHITECTURE", "VLLM", "TORCH", "PLATFORM", "PROBED", "ORIGIN")]
    for entry, verdict in entries:
        key = entry.key
        where = (str(key["vllm"]), str(key["torch"]), str(key["platform"]))
        probed = (entry.probed_at[:10], origin_told(entry))
        rows.append((entry.digest[:12], str(verdict.word), str(key["architecture"]), *where, *probed))
    return columns(rows)


def probed_text(results: Sequence["Probed"]) -> str:
    """What `tuner probe` prints: the witnesses of unsafe verdicts, then one line a model."""
    heads = ("MODEL", "VERDICT", "MOE LAYERS", "SECONDS", "NOTE")
    witnesses = [f"{result.name}\n{witness_text(w)}\n" for result in results if (w := witness_of(result))]
    return "\n".join([*witnesses, columns([heads, *map(probed_row, results)])])


def witness_of(result: "Probed") -> Witness | None:
    """The witness of an unsafe verdict, or None."""
    return result.verdict.witness if result.verdict else None


def probed_row(result: "Probed") -> tuple[str, str, str, str, str]:
    """One model of the table; the note is the first reason, or what stopped the probe."""
    if result.failure:
        return (
            result.name,
            f"error: {result.failure.kind}",
            "",
            f"{result.seconds:.1f}",
            clipped(result.failure.message),
        )
    word, note = (result.verdict.word, result.verdict.reasons[0]) if result.verdict else ("", "")
    layers = len(result.entry.report["registered"]) if result.entry else 0
    return result.name, str(word), str(layers), f"{result.seconds:.1f}", clipped(note)


def serve_line(plan: Plan) -> str:
    """What `tuner serve` says before it becomes vLLM: one line."""
    setting = plan.decision.setting
    written = "nothing to write" if setting is None else f"{NAME}={str(setting).lower()}"
    missing = "" if plan.found.verdict else f"no verdict ({'; '.join(plan.found.miss)}); "
    imported = imported_short(plan.found.entry)
    flag = f"{missing}{written}: {plan.decision.reasons[0]}" + (f" (verdict {imported})" if imported else "")
    mode = plan.decision.mode
    return flag if mode is None else f"{flag}; {MODE}={mode}: {plan.decision.mode_reasons[0]}"


def command_line(command: Sequence[str], env: Mapping[str, str]) -> str:
    """A command as a POSIX shell would take it."""
    return " ".join([*(f"{name}={shlex.quote(value)}" for name, value in env.items()), shlex.join(command)])
