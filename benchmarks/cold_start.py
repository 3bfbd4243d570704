"""What a start costs: a first and a second start of each kind of launch, each kind in a cache of its own.

    make bench-cold-start                                        # both environments, on the CPU
    python3 benchmarks/cold_start.py --layers 36 48 92           # with the `vllm` of this Python, say on a GPU

The model is a thin Qwen3-MoE with random weights and the number of layers of a real one: compile time depends on how
many different graphs there are, not on their width. The kinds: `eager`; `default`, vLLM with an empty cache; `names in
the graph`, the flag off; `flag on`; `tuner`, a probe and `tuner cache warm`, whose second start is what a pod sees.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tuner.cache_location import cache_variables  # noqa: E402  after the path was set
from tuner.errors import TunerError  # noqa: E402
from tuner.serve import command  # noqa: E402
from tuner.server_log import read_server_log  # noqa: E402
from tuner.server_process import ready_server  # noqa: E402

ARMS: Mapping[str, list[str]] = {
    "eager": ["--enforce-eager"],
    "default": [],
    "names in the graph": ["--compilation-config", '{"fast_moe_cold_start": false}'],
    "flag on": ["--compilation-config", '{"fast_moe_cold_start": true}'],
}
TUNER = "tuner"
ENGINE = re.compile(r"init engine \(profile, create kv cache, warmup model\) took ([0-9.]+)")
COMPILE = re.compile(r"torch\.compile (?:took|takes) ([0-9.]+) s in total")
LIMIT_S = 900


def main() -> None:
    """Measure, print a table, and write all numbers where `--out` says."""
    parser = argparse.ArgumentParser(description="Measure first and second starts of vllm serve.")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--layers", type=int, nargs="+", default=[3])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, TUNER], default=[*ARMS, TUNER])
    parser.add_argument("--out", type=Path)
    parser.add_argument("args", nargs="*", help="further arguments of vllm serve, behind --")
    options = parser.parse_args()
    rows = []
    for layers in options.layers:
        with tempfile.TemporaryDirectory(prefix="cold-start-") as folder:
            rows += measured(options.python, layers, options.arms, options.args, Path(folder), options.out, rows)
    print("| layers | launch | first start, s | second start, s | first / eager | second / first | second start |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(table_row(row, rows))


def measured(
    python: Path, layers: int, arms: list[str], args: list[str], folder: Path, out: Path | None, before: list[Any]
) -> list[dict[str, Any]]:
    """Every arm for one model; what is known is written after each, in case the next one takes too long."""
    model = folder / f"qwen3-moe-{layers}"
    script = [python, ROOT / "examples" / "tiny_checkpoint.py", model, "--layers", str(layers)]
    subprocess.run(script, cwd=folder, check=True, stdout=sys.stderr)
    rows: list[dict[str, Any]] = []
    for arm in arms:
        begin = {"layers": layers, "arm": arm}
        try:
            made = warmed(python, model, args, folder) if arm == TUNER else twice(python, model, arm, args, folder)
        except (TunerError, subprocess.CalledProcessError) as error:
            made = {"error": f"{error} {getattr(error, 'hint', '')}"}
        rows.append(begin | made)
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        if out:
            out.write_text(json.dumps([*before, *rows], indent=1), encoding="utf-8")
    return rows


def twice(python: Path, model: Path, arm: str, args: list[str], folder: Path) -> dict[str, Any]:
    """A first and a second start with the same cache."""
    root = folder / arm.replace(" ", "-")
    vector = command(python, [str(model), *args, *ARMS[arm]])
    environ = {**os.environ, **cache_variables(str(root), {})}
    return {name: started(vector, environ, folder / f"{root.name}-{name}.log") for name in ("first", "second")}


def started(vector: list[str], environ: Mapping[str, str], log: Path) -> dict[str, Any]:
    """One start until `/health` answers, and what vLLM says of it."""
    with ready_server(vector, environ, log, LIMIT_S) as seconds:
        text = log.read_text(encoding="utf-8", errors="replace")
    caches = [start.cache for start in read_server_log(text.splitlines()).starts]
    told = {
        name: [float(one) for one in sign.findall(text)] for name, sign in (("engine", ENGINE), ("compile", COMPILE))
    }
    uses = {name: sum(getattr(cache, name) for cache in caches) for name in ("hits", "misses")}
    return {"ready": round(seconds, 1), **uses, **{name: sum(found) for name, found in told.items() if found}}


def warmed(python: Path, model: Path, args: list[str], folder: Path) -> dict[str, Any]:
    """`tuner probe` and `tuner cache warm`: what the tuner says of its own two starts."""
    ours = ["--python", str(python), "--store", str(folder / "verdicts.sqlite")]
    tuner = [sys.executable, "-m", "tuner"]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    subprocess.run([*tuner, "probe", *ours, model], env=environ, check=True, stdout=sys.stderr)
    warm = [*tuner, "cache", "warm", model, *ours, "--cache-root", folder / "tuner", "--json", "--", *args]
    done = subprocess.run(warm, env=environ, check=False, stdout=subprocess.PIPE, text=True)
    document = json.loads(done.stdout)
    if "error" in document:
        return {"error": document["error"]["message"] + document["error"]["hint"]}
    second = {"ready": document["warm_seconds"], "hit": document["hit"], "proof": document["proof"]}
    return {"first": {"ready": document["cold_seconds"]}, "second": second, "args": document["args"][1:]}


def table_row(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A line of the table; ratios are within one model."""
    if "error" in row:
        return f"| {row['layers']} | {row['arm']} | failed: {row['error'][:80]} | | | | |"
    eager = [one for one in rows if (one["layers"], one["arm"]) == (row["layers"], "eager") and "error" not in one]
    first, second = row["first"]["ready"], row["second"]["ready"]
    share = f"{first / eager[0]['first']['ready']:.2f}" if eager else "-"
    said = (
        row["second"].get("proof")
        or f"{row['second'].get('hits', 0)} loaded, {row['second'].get('misses', 0)} compiled"
    )
    return f"| {row['layers']} | {row['arm']} | {first:.0f} | {second:.0f} | {share} | {second / first:.2f} | {said} |"


if __name__ == "__main__":
    main()
