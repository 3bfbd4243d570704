"""What a start costs: a first and a second start of each kind of launch, each kind in a cache of its own.

    make bench-cold-start                                        # both environments, on the CPU
    python3 benchmarks/cold_start.py --layers 36 48 92           # with the `vllm` of this Python, say on a GPU

The model is a thin Qwen3-MoE with random weights and the number of layers of a real one: compile time depends on how
many different graphs there are, not on their width. The kinds: `eager`; `default`, vLLM with an empty cache; `names in
the graph`, the flag off; `flag on`; `tuner`, a probe and `tuner cache warm`, whose second start is what a pod sees.
Graphs, files and MiB are those below `VLLM_CACHE_ROOT` after the first start (the tuner: after both).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rules.errors import TunerError  # noqa: E402
from tuner.launch.cache_root import CACHE_ROOT  # noqa: E402  after the path was set
from tuner.launch.serve import command  # noqa: E402
from tuner.processes.server_process import ready_server  # noqa: E402
from tuner.server_log.log import read_server_log  # noqa: E402

ARMS: Mapping[str, list[str]] = {
    "eager": ["--enforce-eager"],
    "default": [],
    "names in the graph": ["--compilation-config", '{"fast_moe_cold_start": false}'],
    "flag on": ["--compilation-config", '{"fast_moe_cold_start": true}'],
}
TUNER = "tuner"
PHASES = {
    "engine": re.compile(r"init engine \(profile, create kv cache, warmup model\) took ([0-9.]+)"),
    "compile": re.compile(r"torch\.compile (?:took|takes) ([0-9.]+) s in total"),
}
"""Phase of a start -> the log lines with its seconds."""
GRAPH = "artifact_*"
"""Name of each graph compiled by itself (vllm/compilation/compiler_interface.py); on a CPU all lie in one file."""
LIMIT_S = 900
HEADS = (
    "layers",
    "launch",
    "first start, s",
    "engine, s",
    "of it compiling, s",
    "graphs, files, MiB",
    "second start, s",
    "first / eager",
    "second / first",
    "second start",
)


def main() -> None:
    """Measure, print a table, and write all numbers where `--out` says."""
    parser = argparse.ArgumentParser(description="Measure first and second starts of vllm serve.")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--layers", type=int, nargs="+", default=[3])
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, TUNER], default=[*ARMS, TUNER])
    parser.add_argument("--out", type=Path, help="file for all numbers")
    parser.add_argument("--logs", type=Path, help="folder in which the servers' logs are kept")
    parser.add_argument("args", nargs="*", help="further arguments of vllm serve, behind --")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for layers in options.layers:
        with tempfile.TemporaryDirectory(prefix="cold-start-") as folder:
            logs = options.logs or Path(folder)
            logs.mkdir(parents=True, exist_ok=True)
            bench = Bench(options.python, options.args, Path(folder), logs)
            for row in bench.rows(layers, options.arms):
                rows.append(row)
                print(json.dumps(row), file=sys.stderr, flush=True)
                if options.out:  # at once: the next one may take too long
                    options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print("| " + " | ".join(HEADS) + " |")
    print("| " + " | ".join("---" for _ in HEADS) + " |")
    for row in rows:
        print(table_row(row, rows))


@dataclass(frozen=True)
class Bench:
    """Where to measure.

    Attributes:
        python: interpreter of the serving environment.
        args: further arguments of vllm serve.
        folder: for models and caches.
        logs: for the servers' logs.
    """

    python: Path
    args: list[str]
    folder: Path
    logs: Path

    def rows(self, layers: int, arms: list[str]) -> Iterator[dict[str, Any]]:
        """Every arm for one model."""
        model = self.folder / f"qwen3-moe-{layers}"
        script = [self.python, ROOT / "examples" / "tiny_checkpoint.py", model, "--layers", str(layers)]
        subprocess.run(script, cwd=self.folder, check=True, stdout=sys.stderr)
        for arm in arms:
            try:
                numbers = self.tuner_starts(model) if arm == TUNER else self.two_starts(model, arm)
            except (TunerError, subprocess.CalledProcessError) as error:
                numbers = {"error": f"{error} {getattr(error, 'hint', '')}"}
            yield {"layers": layers, "arm": arm, **numbers}

    def two_starts(self, model: Path, arm: str) -> dict[str, Any]:
        """A first and a second start with the same cache."""
        name = f"{model.name}-{arm.replace(' ', '-')}"
        vector = command(self.python, [str(model), *self.args, *ARMS[arm]])
        root = self.folder / name
        environ = {**os.environ, CACHE_ROOT: str(root)}
        first = measure_start(vector, environ, self.logs / f"{name}-first.log")
        contents = cache_contents(root)
        second = measure_start(vector, environ, self.logs / f"{name}-second.log")
        return {"first": first, "wrote": contents, "second": second}

    def tuner_starts(self, model: Path) -> dict[str, Any]:
        """`tuner probe` and `tuner cache warm`: the seconds that the tuner reports for its own two starts."""
        own_options = ["--python", str(self.python), "--store", str(self.folder / "verdicts.sqlite")]
        tuner = [sys.executable, "-m", "tuner"]
        paths = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        subprocess.run([*tuner, "probe", *own_options, model], env=environ, check=True, stdout=sys.stderr)
        root = self.folder / f"{model.name}-tuner"
        warm = [*tuner, "cache", "warm", model, *own_options, "--cache-root", root, "--json", "--", *self.args]
        process = subprocess.run(warm, env=environ, check=False, stdout=subprocess.PIPE, text=True)
        document = json.loads(process.stdout)
        if "error" in document:
            return {"error": f"{document['error']['message']} {document['error']['hint']}"}
        second = {"ready": document["warm_seconds"], "hit": document["hit"], "proof": document["proof"]}
        first = {"ready": document["cold_seconds"]}
        return {"first": first, "wrote": cache_contents(root), "second": second, "args": document["args"][1:]}


def measure_start(vector: list[str], environ: Mapping[str, str], log: Path) -> dict[str, Any]:
    """Start a server, wait until `/health` answers, and return the seconds and what vLLM's log says of the start."""
    with ready_server(vector, environ, log, LIMIT_S) as seconds:
        text = log.read_text(encoding="utf-8", errors="replace")
    log_facts = read_server_log(text.splitlines())
    numbers = {"ready": round(seconds, 1), "hits": log_facts.hits, "misses": log_facts.misses}
    for name, pattern in PHASES.items():
        phases = pattern.findall(text)
        if phases:
            numbers[name] = sum(map(float, phases))
    return numbers


def cache_contents(root: Path) -> dict[str, Any]:
    """What lies below a cache root: graphs compiled by themselves, files, MiB."""
    files = [path for path in root.rglob("*") if path.is_file()]
    graphs = {path.name for path in root.rglob(GRAPH)}
    return {
        "graphs": len(graphs),
        "files": len(files),
        "mib": round(sum(file.stat().st_size for file in files) / 2**20, 1),
    }


def table_row(row: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """A line of the table; ratios are within one model."""
    if "error" in row:
        cells = [str(row["layers"]), row["arm"], f"failed: {row['error'][:80]}", *[""] * (len(HEADS) - 3)]
        return "| " + " | ".join(cells) + " |"
    first, second = row["first"]["ready"], row["second"]["ready"]
    eager = eager_seconds(rows, row["layers"])
    counts = f"{row['second'].get('hits', 0)} loaded, {row['second'].get('misses', 0)} compiled"
    cells = [
        str(row["layers"]),
        row["arm"],
        f"{first:.0f}",
        *(phase_cell(row["first"], name) for name in PHASES),
        "{graphs}, {files}, {mib}".format(**row["wrote"]),
        f"{second:.0f}",
        "-" if eager is None else f"{first / eager:.2f}",
        f"{second / first:.2f}",
        row["second"].get("proof") or counts,
    ]
    return "| " + " | ".join(cells) + " |"


def eager_seconds(rows: list[dict[str, Any]], layers: int) -> float | None:
    """Seconds of the first eager start of the model with so many layers; None if there is no such start."""
    for row in rows:
        if row["layers"] == layers and row["arm"] == "eager" and "error" not in row:
            return float(row["first"]["ready"])
    return None


def phase_cell(start: Mapping[str, Any], phase: str) -> str:
    """Seconds of a phase of a start; a dash where the log does not tell them."""
    return f"{start[phase]:.0f}" if phase in start else "-"


if __name__ == "__main__":
    main()
