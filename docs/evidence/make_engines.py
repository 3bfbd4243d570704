"""Real engines against decisions: what the proof decides for a launch, and which layers its engines run.

    .venv/bin/python docs/evidence/make_engines.py run OUT.json [--python PYTHON] [--only NAME...]
    .venv/bin/python docs/evidence/make_engines.py page OUT.json      # writes engines.md

Twenty models: vLLM's own classes, with published configs and with those that it makes up, and compiled hostile models
(tests/hostile_models). `tuner probe` proves the launch of each, `tuner probe --depth replay` starts its engines with
either value of the flag. The page cannot be written while an engine contradicts a `true`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "docs" / "evidence")]

from hostile_samples import PLUGIN, hostile_model  # noqa: E402  after the path was set
from page import TUNER, bare, made_here, python_of, run, table, write  # noqa: E402  as above

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
"""Compiled, and wrong with the flag on."""
SMALL = ("--max-model-len", "512", "--max-num-batched-tokens", "256", "--max-num-seqs", "16")
HEADS = ("model", "`true`", "why not", "engine, flag on", "engine, flag off")


def main() -> None:
    """Run, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "page"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--python", default=python_of("flag-live"))
    parser.add_argument("--only", nargs="+", help="names of models")
    options = parser.parse_args()
    if options.what == "page":
        write_page(json.loads(options.file.read_text(encoding="utf-8")))
        return
    with tempfile.TemporaryDirectory(prefix="engines-") as folder:
        run_all(options, Path(folder))


# ---- run


def run_all(options: argparse.Namespace, folder: Path) -> None:
    """Each model in turn; what is known is written after each."""
    rows: list[dict[str, Any]] = []
    for name, model in models(options, folder):
        if options.only and name not in options.only:
            continue
        rows.append({"model": name, **launched(model, options.python, folder / "verdicts.sqlite")})
        print(name, cells(rows[-1]), file=sys.stderr, flush=True)
        options.file.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def models(options: argparse.Namespace, folder: Path) -> list[tuple[str, str]]:
    """Name and folder of every model."""
    published = [(name, str(MODELS / name)) for name in PUBLISHED]
    hostile = [(name, str(hostile_model(folder / "hostile", name))) for name in HOSTILE]
    return [*published, *registered(options.python, folder), *hostile]


def registered(python: str, folder: Path) -> list[tuple[str, str]]:
    """The folders with made-up configs that a sweep leaves beside its store."""
    pairs = []
    for name in REGISTERED:
        words = ("--match", name, "--python", python, "--store", str(folder / "swept" / "verdicts.sqlite"), "--json")
        (result,) = json.loads(run(TUNER, "probe", *words).stdout)["results"]
        pairs.append((name, result["model"]["name"]))
    return pairs


def launched(model: str, python: str, store: str | Path) -> dict[str, Any]:
    """What is decided for the launch, and what its engines showed."""
    where = ("--python", python, "--store", str(store), "--json")
    plugin = {"PYTHONPATH": str(PLUGIN)} if model.startswith(str(Path(store).parent / "hostile")) else {}
    run(TUNER, "probe", *where, model, "--", *SMALL, extra=plugin)
    replay = run(TUNER, "probe", "--depth", "replay", *where, model, "--", *SMALL, extra=plugin)
    plan = run(TUNER, "plan", *where, model, *SMALL, extra=plugin)
    documents = {}
    for name, done in (("replay", replay), ("plan", plan)):
        documents[name] = json.loads(done.stdout) if done.stdout.strip() else {"error": bare(done.stderr)}
    return documents


# ---- page


def is_true(row: dict[str, Any]) -> bool:
    """Whether the launch is written with the flag on."""
    return row["plan"].get("decision", {}).get("fast_moe_cold_start") is True


def engine(row: dict[str, Any], name: str) -> str:
    """What the replay probe says of an engine."""
    replays = row["replay"].get("evidence", {}).get("replays") or []
    words = [f"{entry['word']}: {entry['reason']}" for entry in replays if entry["name"] == name]
    return words[-1] if words else "not started"


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    reasons = row["plan"].get("reasons") or [row["plan"].get("error", "")]
    why = "" if is_true(row) else bare(str(reasons[0]))[:200]
    flag = "yes" if is_true(row) else "no"
    return (row["model"].replace("--", "/"), flag, why, engine(row, "flag_on"), engine(row, "flag_off"))


def write_page(rows: list[dict[str, Any]]) -> None:
    """engines.md.

    Raises:
        SystemExit: an engine ran other layers than were meant, and `true` is written.
    """
    wrong = [row["model"] for row in rows if is_true(row) and not engine(row, "flag_on").startswith("equal")]
    if wrong:
        raise SystemExit(f"`true` is written and an engine did not run what was meant: {', '.join(wrong)}")
    trues = sum(map(is_true, rows))
    head = (
        "# What was decided, and what engines ran\n\n"
        f"`tuner probe MODEL -- {' '.join(SMALL)}` proves the launch; `--depth replay` starts its engines with the "
        "flag on and off, and records on the device which layer was meant and which ran.\n"
        f"{trues} of {len(rows)} launches get `true`."
    )
    write("engines.md", head, table(HEADS, [cells(row) for row in rows]), made_here("evidence-engines"))


if __name__ == "__main__":
    main()
