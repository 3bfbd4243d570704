"""Runs the order probe and the replay probe on many models, and writes whether the two agree.

    .venv/bin/python -m tools.evidence.make_depths run OUT.json --python PYTHON [--jobs N] [--models NAME ...] [-- VLLM ARGS]
    .venv/bin/python -m tools.evidence.make_depths page OUT.json...   # writes depths.md

The models: the zoo (tests/zoo), of which the truth is known by construction, with layers drawn at random and run eager,
because many of them branch on data; two thin checkpoints (examples/tiny_checkpoint.py) and cut published models, as
vLLM compiles them. All run through the functions behind `tuner probe` and its `--depth`. Results are written after
each model, and verdicts into OUT.sqlite. If the command was stopped, the same command continues there.
"""  # noqa: E501  a command line

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import convert
from zoo.zoo_truth import ZOO

from cache.verdicts.store import VerdictStore
from rules.errors import TunerError
from rules.replay import judge_replay, replay_orders
from rules.report import Replay
from tools.evidence import ROOT
from tools.evidence.depths_page import write_page
from tools.evidence.make_replay import ALIAS, SMALL, TWO_SETS, where, write_plugin
from tools.evidence.page import SERVER_ENVIRONMENT, bare, split_words
from tuner.arguments.serve_arguments import parse
from tuner.cli.inputs import Inputs, Launching, planned
from tuner.engines.engines import EngineLaunch, Supervision
from tuner.engines.replay import replayed
from tuner.environment.environment import read_environment
from tuner.launch.plan import Plan
from tuner.probe.models import Request, probe

MODELS = ROOT / "examples" / "models"
PUBLISHED = {
    "Qwen3-30B-A3B, cut": MODELS / "Qwen--Qwen3-30B-A3B",
    "Mixtral-8x7B, cut": MODELS / "mistralai--Mixtral-8x7B-v0.1",
    "Llama-4-Scout, cut": MODELS / "meta-llama--Llama-4-Scout-17B-16E-Instruct",
    "MiMo-V2-Flash, cut": MODELS / "XiaomiMiMo--MiMo-V2-Flash",
}
RENAMED = "ERNIE-4.5-VL, cut, under another name"
"""Published and unsafe; under its own name vLLM switches the flag off. No CPU runs its attention."""
KINDS = {"qwen3-moe": "uniform", "two-expert-sets": "reordered"}
"""Thin checkpoint -> its true verdict. The second owns two sets of experts, and never runs the first."""
DOUBTFUL = ("Parity", "Marked", "HelperObject", "Generator", "OverflowSkip", "HiddenClock", "ClassCounter", "Raised")
"""Models of the zoo on which the order probe may be inconclusive, one of each kind."""
THIN = {
    "hidden_size": 128,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 80,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 1024,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "skip_token_id": 88,
}
"""Sizes of a zoo model, as in examples/tiny_checkpoint.py; tokens that the zoo asks for are in the vocabulary."""
ZOO_ARGS = ("--load-format", "dummy", "--enforce-eager")
"""A load format says that the model is served whole: some branch at a layer that a cut model would lack."""
LIMIT_S = 900.0
Row = dict[str, Any]
"""The results on a model."""


@dataclass(frozen=True)
class Case:
    """A model: its name and folder, its true verdict (empty if it is not known), and arguments of its launch."""

    name: str
    folder: Path
    true: str
    args: tuple[str, ...] = ()


def main() -> None:
    """Run the probes, or write the page."""
    parser = argparse.ArgumentParser(description="Two probes of many models, side by side.")
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of the serving environment")
    parser.add_argument("--jobs", type=int, default=1, help="models at once")
    parser.add_argument("--gpu", action="store_true", help="with a model that only a GPU runs")
    parser.add_argument("--models", nargs="+", default=[""], help="only those whose names begin so")
    words, vllm_args = split_words(sys.argv[1:])
    options = parser.parse_args(words)
    if options.what == "page":
        models = [*KINDS, *PUBLISHED, RENAMED, *ZOO]  # rows are in the order in which models were done
        write_page([json.loads(file.read_text(encoding="utf-8")) for file in options.files], models)
        return
    with tempfile.TemporaryDirectory(prefix="depths-") as folder:
        paths = [str(ROOT / "tests" / "zoo"), str(TWO_SETS), f"{folder}/plugin", os.environ.get("PYTHONPATH", "")]
        os.environ.update(SERVER_ENVIRONMENT, PYTHONPATH=os.pathsep.join(filter(None, paths)))
        write_plugin(Path(folder, "plugin"))
        python = options.python.absolute()
        every_case = cases(Path(folder))
        if options.gpu:
            every_case.append(renamed_case(Path(folder)))
        chosen = [case for case in every_case if case.name.startswith(tuple(options.models))]
        write_checkpoints([case for case in chosen if case.name in KINDS], python)
        run(chosen, python, options.files[0].absolute(), tuple(vllm_args), options.jobs)


def cases(folder: Path) -> list[Case]:
    """All models; of the zoo the configs are written."""
    config = json.loads((PUBLISHED["Qwen3-30B-A3B, cut"] / "config.json").read_text(encoding="utf-8")) | THIN
    sure = {name for name, truth in ZOO.items() if truth.witnessed or truth.verdict == "uniform"}
    chosen = {name: truth for name, truth in ZOO.items() if name in sure or name in DOUBTFUL}
    for name, truth in chosen.items():
        own = {"architectures": [f"{name}ForCausalLM"], "num_hidden_layers": truth.layers}
        write_config(folder / name, config | own)
    return [
        *(Case(kind, folder / kind, true) for kind, true in KINDS.items()),
        *(Case(name, path, "") for name, path in PUBLISHED.items()),
        *(Case(name, folder / name, truth.verdict, ZOO_ARGS) for name, truth in chosen.items()),
    ]


def renamed_case(folder: Path) -> Case:
    """The published model that branches, under the name that `write_plugin` registers."""
    config = json.loads((MODELS / "baidu--ERNIE-4.5-VL-28B-A3B-PT" / "config.json").read_text(encoding="utf-8"))
    write_config(folder / ALIAS, config | {"architectures": [ALIAS]})
    return Case(RENAMED, folder / ALIAS, "")


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """A model without weights."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_checkpoints(thin: Sequence[Case], python: Path) -> None:
    """Thin checkpoints, by the environment's own transformers."""
    for case in thin:
        script = [python, ROOT / "examples" / "tiny_checkpoint.py", case.folder, "--kind", case.name]
        subprocess.run(script, cwd=case.folder.parent, check=True, stdout=sys.stderr)


def run(chosen: Sequence[Case], python: Path, file: Path, vllm_args: tuple[str, ...], jobs: int) -> None:
    """Run both probes on every model that has no results yet, and write the results after each model."""
    document = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"rows": []}
    rows: list[Row] = [row for row in document["rows"] if not row["failed"]]
    finished = {row["model"] for row in rows}
    waiting = [case for case in chosen if case.name not in finished]
    inputs = Inputs(str(python), store=str(file.with_suffix(".sqlite")))
    launches = {case.name: (str(case.folder), *SMALL, *case.args, *vllm_args) for case in waiting}
    refused, place = probe_orders(waiting, inputs, jobs), where(python)
    ready = [case for case in waiting if case.name not in refused]
    rows += [row_of(case, failed=[refused[case.name]]) for case in waiting if case.name in refused]
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(replay_row, case, launches[case.name], inputs) for case in ready]
        for future in as_completed(futures):
            row = future.result()
            rows.append(row)
            say(row["model"], row["order"], *(f"{name} {word}" for name, word in row["words"].items()), *row["failed"])
            draft = file.with_suffix(".tmp")
            draft.write_text(json.dumps({"where": place, "rows": rows}, indent=1), encoding="utf-8")
            draft.replace(file)


def say(*words: str) -> None:
    """A line of progress."""
    print(*words, file=sys.stderr, flush=True)


def probe_orders(waiting: Sequence[Case], inputs: Inputs, jobs: int) -> dict[str, str]:
    """Probe the order of all models without a stored verdict, in one call.

    Returns:
        Model -> why its order could not be probed.
    """
    unknown = [case for case in waiting if planned([str(case.folder)], inputs, Launching(), {}).lookup.entry is None]
    names = {str(case.folder): case.name for case in unknown}
    request = Request(list(names), workers=jobs)
    environment, store = read_environment(str(inputs.python)), VerdictStore(Path(str(inputs.store)))
    refused: dict[str, str] = {}
    for result in probe(request, environment, store, lambda stage, name: say(stage, names.get(name, name))):
        if result.failure:
            refused[names[result.name]] = f"order: {bare(result.failure.message)}"
    return refused


def row_of(case: Case, order: str = "", **changes: Any) -> Row:
    """The row of a model before an engine is started."""
    return {"model": case.name, "true": case.true, "order": order, "failed": [], "words": {}, "reasons": {}, **changes}


def replay_row(case: Case, args: tuple[str, ...], inputs: Inputs) -> Row:
    """Run the replay probe on a model that has a verdict of the order probe, and return its row."""
    plan = planned(args, inputs, Launching(), os.environ)
    starting = EngineLaunch(plan, parse(args, vllm=plan.subject.environment.vllm), os.environ)
    watching = Supervision(lambda words: say(case.name, words), LIMIT_S, None)
    row = row_of(case, word_of(plan), engine={}, left=0, passes=0)
    try:
        keep_replays(row, replayed(starting, watching))
    except TunerError as error:
        row["failed"].append(bare(f"{error.message} {error.hint}"))
    return row


def word_of(plan: Plan) -> str:
    """The stored verdict's word."""
    return str(plan.lookup.verdict.word) if plan.lookup.verdict else ""


def keep_replays(row: Row, replays: Sequence[Row]) -> None:
    """Put the replays into a row. Passes that left the order are counted in the last engine, whose calls are right."""
    runs = [convert(replay, Replay) for replay in replays]
    for replay in runs:
        row["words"][replay.name], reason = judge_replay(replay)
        row["reasons"][replay.name] = bare(str(reason))
    right = runs[-1]
    row["engine"] = right.engine
    row["passes"] = sum(engine_pass.count for engine_pass in right.passes)
    orders = {order for _, order in replay_orders(right) if order != right.registered[: len(order)]}
    row["left"] = sum(engine_pass.count for engine_pass in right.passes if engine_pass.called in orders)


if __name__ == "__main__":
    main()
