"""Real engines against decisions: what is decided for a launch, and which layers its engines run.

    .venv/bin/python -m tools.evidence.make_engines run OUT.json [--python PYTHON] [--jobs N] [--only NAME...]
    .venv/bin/python -m tools.evidence.make_engines page OUT.json [GPU.json]      # writes engines.md

Twenty models: vLLM's own classes, with published configs and with those that it makes up, and compiled hostile models
(tests/hostile_models). `tuner probe` proves the launch of each, `tuner probe --depth replay` starts its engines with
either value of the flag. GPU.json holds the engines of hostile models on a GPU, as make_replay.py writes them. The
page cannot be written while an engine contradicts a `true`, or while no engine ran wrong layers.
"""

import argparse
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from hostile_samples import PLUGIN, hostile_model

from tools.evidence import ROOT
from tools.evidence.page import TUNER, bare, footer, python_of, run, table, write

MODELS = ROOT / "examples" / "models"
PUBLISHED = (
    "Qwen--Qwen3-30B-A3B",
    "mistralai--Mixtral-8x7B-v0.1",
    "meta-llama--Llama-4-Scout-17B-16E-Instruct",
    "baidu--ERNIE-4.5-VL-28B-A3B-PT",
    "XiaomiMiMo--MiMo-V2-Flash",
)
REGISTERED = (
    "OlmoeForCausalLM",
    "GraniteMoeForCausalLM",
    "PhiMoEForCausalLM",
    "Qwen2MoeForCausalLM",
    "Glm4MoeForCausalLM",
    "Dots1ForCausalLM",
    "FlexOlmoForCausalLM",
    "Ernie4_5_MoeForCausalLM",
    "HunYuanMoEV1ForCausalLM",
    "Lfm2MoeForCausalLM",
)
"""Of vLLM's registry, with a config made up from its class's defaults."""
HOSTILE = ("DeadResult", "SmallBatchOutside", "SwappedPair", "SideBySideSwapped", "TracedArmInside")
"""Compiled, and wrong with the flag on in some launch."""
SMALL = ("--max-model-len", "512", "--max-num-batched-tokens", "256", "--max-num-seqs", "16")
NOT_STARTED = "not started"
HEADS = ("model", "`true`", "why not", "engine, flag on", "engine, flag off")
GPU_HEADS = ("model", "mode", "flag", "what ran")


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--python", default=python_of("flag-live"))
    parser.add_argument("--jobs", type=int, default=2, help="models at once")
    parser.add_argument("--only", nargs="+", default=[*PUBLISHED, *REGISTERED, *HOSTILE], help="names of models")
    options = parser.parse_args()
    if options.what == "page":
        write_page(*(json.loads(file.read_text(encoding="utf-8")) for file in options.files))
        return
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        run_all(options, Path(folder))


# ---- run


def run_all(options: argparse.Namespace, folder: Path) -> None:
    """Run every model, and write the file anew after each."""
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(partial(row_of, python=options.python, folder=folder), options.only):
            rows.append(row)
            print(*cells(row), sep=" | ", file=sys.stderr, flush=True)
            options.files[0].write_text(json.dumps(rows, indent=1), encoding="utf-8")


def row_of(name: str, python: str, folder: Path) -> dict[str, Any]:
    """The decision for a model's launch, and the replay of its engines. Each model has a store of its own."""
    own = folder / name
    own.mkdir()
    store = ("--python", python, "--store", str(own / "verdicts.sqlite"), "--json")
    model = folder_of(name, store, own)
    plugin = {"PYTHONPATH": str(PLUGIN)} if name in HOSTILE else {}
    run(TUNER, "probe", *store, model, "--", *SMALL, extra=plugin)
    plan = run(TUNER, "plan", *store, model, "--", *SMALL, extra=plugin)
    replay = run(TUNER, "probe", "--depth", "replay", *store, model, "--", *SMALL, extra=plugin)
    row: dict[str, Any] = {"model": name}
    for part, process in (("plan", plan), ("replay", replay)):
        row[part] = json.loads(process.stdout) if process.stdout.strip() else {"error": bare(process.stderr)}
    return row


def folder_of(name: str, store: tuple[str, ...], own: Path) -> str:
    """The folder of a model. For a registered class a sweep writes a config, and its folder is taken."""
    if name in PUBLISHED:
        return str(MODELS / name)
    if name in HOSTILE:
        return str(hostile_model(own, name))
    swept = json.loads(run(TUNER, "probe", "--match", name, *store).stdout)
    return str(swept["results"][0]["model"]["name"])


# ---- page


def is_true(row: dict[str, Any]) -> bool:
    """Whether the launch is written with the flag on."""
    launch = row["plan"].get("launch") or {"compilation_config": {}}
    return launch["compilation_config"].get("fast_moe_cold_start") is True


def engine(row: dict[str, Any], name: str) -> tuple[str, str]:
    """The word of the replay probe on an engine, and its reason."""
    engines = (row["replay"].get("evidence") or {}).get("replays") or []
    for entry in engines:
        if entry["name"] == name:
            return entry["verdict"], bare(entry["reason"]["text"])
    return NOT_STARTED, bare(error_message(row))[:200]


def error_message(row: dict[str, Any]) -> str:
    """What kept the engines from starting."""
    error = row["replay"].get("error", "")
    return str(error["message"] if isinstance(error, dict) else error)


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    reasons = [reason["text"] for reason in row["plan"].get("reasons") or ()] or [str(row["plan"].get("error", ""))]
    why = "" if is_true(row) else bare(reasons[-1])[:240]
    flag = "yes" if is_true(row) else "no"
    engines = (": ".join(filter(None, engine(row, name))) for name in ("flag_on", "flag_off"))
    return (row["model"].replace("--", "/"), flag, why, *engines)


def write_page(rows: list[dict[str, Any]], gpu: dict[str, Any] | None = None) -> None:
    """engines.md.

    Raises:
        SystemExit: `true` is written and an engine ran another layer than was meant, or no engine ran a wrong layer.
    """
    check(rows)
    trues = [row for row in rows if is_true(row)]
    with_engines = [row for row in trues if engine(row, "flag_on")[0] != NOT_STARTED]
    head = (
        "# Decisions, and the layers that engines ran\n\n"
        f"`tuner probe MODEL -- {' '.join(SMALL)}` proves the launch.\n"
        "`--depth replay` then starts its engines with the flag on and with it off.\n"
        "It records which layer each MoE call meant and which layer ran.\n"
        f"{len(trues)} of {len(rows)} launches get `true`.\n"
        f"The engines of {len(with_engines)} of them started, and each ran the layers that were meant.\n"
        "vLLM itself refuses the launches of the others on a CPU."
    )
    parts = [head, table(HEADS, [cells(row) for row in rows])]
    if gpu:
        lines = [gpu_cells(row) for row in gpu["rows"]]
        parts += [f"## On a GPU: {gpu['where']}", "Neither model gets `true`.", table(GPU_HEADS, lines)]
    write("engines.md", *parts, footer("evidence-engines"))


def check(rows: list[dict[str, Any]]) -> None:
    """Refuse a page that contradicts itself, or on which no engine ran a wrong layer."""
    sound = ("equal", NOT_STARTED)
    wrong = [row["model"] for row in rows if is_true(row) and engine(row, "flag_on")[0] not in sound]
    if wrong:
        raise SystemExit(f"`true` is written and an engine did not run what was meant: {', '.join(wrong)}")
    if not any(engine(row, "flag_on")[0] == "wrong_layer" for row in rows):
        raise SystemExit("no engine ran a wrong layer: the models that do were left out")


def gpu_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of the GPU's table."""
    return (row["model"], row["mode"], "on" if row["flag"] else "off", f"{row['word']}: {bare(row['reason'])}")


if __name__ == "__main__":
    main()
