"""argument lists -> plan: any list is planned or refused, and only a proved verdict, or the user, switches the flag on.

The lists of `argument_lists` are such as vLLM takes; here their words are damaged as well.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path as File

from argument_lists import FILE, composed
from fake_environment import ERNIE, INERT, LLAMA, MIXTRAL, QWEN, SETTABLE, serving_in
from hypothesis import strategies as st

from cache.verdicts.store import VerdictStore
from fuzz.limit import limited
from fuzz.mutate import TEXTS, Draw, text_mutated
from fuzz.sentence import require_sentence
from rules.errors import TunerError
from tuner.arguments.serve_arguments import parse
from tuner.checks.examine import offline
from tuner.environment.environment import Environment
from tuner.exports.choices import Choices, Wrap
from tuner.exports.formats import Format, writer
from tuner.launch.document import plan_document
from tuner.launch.plan import Options, Plan, make_plan
from tuner.launch.requested import subject_of
from tuner.launch.text import plan_text, shell_text

MODELS = (MIXTRAL, ERNIE, LLAMA, QWEN)
FORMS = [(form, Choices()) for form in Format] + [(Format.PATCH, Choices(wrap=wrap)) for wrap in Wrap]
"""Formats, and each wrapping of the patch."""
WORDS = [
    "-cc",
    "-cc.mode",
    "--compilation-config",
    "{}",
    '{"mode": 3}',
    "--config",
    FILE,
    "--",
    "-",
    "-O",
    "-tp",
    "-sc",
]
WORDS += [
    "--speculative-config",
    '{"model": "m"}',
    "--hf-overrides",
    "--no-enable-lora",
    "-cc.a.b+",
    "-cc..",
    "--.",
    "=",
    "-=",
]
WORDS += [
    "[" * 3000,
    '{"a":' * 3000,
    "9" * 5000,
    "1e999g",
    '{"fast_moe_cold_start": true}',
    "-cc.fast_moe_cold_start=on",
]
"""Words that mean something, and such as are too much of it."""


@dataclass(frozen=True)
class Ground:
    """A store with verdicts of two environments, and the folder where the `--config` file lies."""

    store: VerdictStore
    environments: tuple[Environment, ...]
    folder: File


def ground(folder: File) -> Ground:
    """Real reports in two environments: where the launch decides the flag, and where vLLM does."""
    path = folder / "verdicts.sqlite"
    environments = []
    for name, versions in (("settable", SETTABLE), ("inert", INERT)):
        serving = serving_in(folder / name, versions)
        for model in (MIXTRAL, ERNIE, LLAMA):
            serving.remember(path, model)
        environments.append(serving.read())
    os.utime(path, ns=(0, 0))
    return Ground(VerdictStore(path), tuple(environments), folder)


def case(draw: Draw, ground: Ground) -> str:
    """Damage one list, and plan it."""
    made = draw(composed())
    args = damaged(
        draw, [draw(st.sampled_from(MODELS)).as_posix() if arg == "some/model" else arg for arg in made.args]
    )
    file = text_mutated(draw, made.file or "mode: 0") if draw(st.booleans()) else made.file
    options = Options(
        fail_on_unknown=draw(st.booleans()),
        enforce=draw(st.booleans()),
        cache_root=draw(st.none() | st.just("/cache")),
        cache_dir_in_config=draw(st.booleans()),
        environ={},
    )
    form, choices = draw(st.sampled_from(FORMS))
    environment = draw(st.sampled_from(ground.environments))
    with limited(), offline():
        try:
            plan = planned(ground, environment, args, file, options)
        except TunerError as error:
            require_sentence(error, longest=100_000)  # the user's own words may be long
            return "refused"
        return written(plan, form, choices)


def damaged(draw: Draw, args: list[str]) -> list[str]:
    """The list with up to three words put in, taken out, doubled or changed."""
    args = list(args)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(args)))
        way = draw(st.sampled_from(["word", "word", "out", "twice", "text"]))
        if way == "word":
            args.insert(at, draw(st.sampled_from([*WORDS, *TEXTS])))
        elif at < len(args):
            changed = {"out": [], "twice": [args[at]] * 2, "text": [text_mutated(draw, args[at])]}
            args[at : at + 1] = changed[way]
    return args


def planned(ground: Ground, environment: Environment, args: list[str], file: str | None, options: Options) -> Plan:
    """As `tuner plan`, with a `--config` file of this text."""

    def read_text(_: str) -> str:
        return file or ""

    arguments = parse(args, read_text, vllm=environment.vllm)
    subject = subject_of(arguments, environment)
    return make_plan(ground.store, subject, arguments, options)


def written(plan: Plan, form: Format, choices: Choices) -> str:
    """Say the plan in every way; the flag is on only where it may be."""
    assert plan_text(plan)
    json.dumps(plan_document(plan), allow_nan=False)
    verdict = plan.lookup.verdict
    if plan.decision.setting is True:
        assert verdict is not None
        assert verdict.word.safe
    try:
        assert shell_text(plan)
        assert writer(form, choices)(plan, None)
    except TunerError as error:  # no text can hold half a pair of surrogates, and some formats hold less
        require_sentence(error, longest=100_000)
        return "planned, no export"
    return "planned"
